"""OpenAI, and every server that copies its API. The official SDK makes the calls."""
