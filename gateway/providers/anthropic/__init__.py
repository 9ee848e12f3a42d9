"""Anthropic's Messages API. The official SDK makes the calls."""
