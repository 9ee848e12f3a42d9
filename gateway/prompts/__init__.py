"""Prompts as files: versions with front matter, compiled once, rendered in a sandbox, content fenced as data."""
