"""Ollama's own API (`/api/chat`), of a machine of yours or of its cloud."""
