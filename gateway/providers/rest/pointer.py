"""JSON pointers (RFC 6901): where in an endpoint's answer a value lies.

A pointer and not a dotted path: it is a standard, it says plainly where a list is meant, and a key may hold a dot
(`/usage/input.tokens`). `/choices/0/text` is the text of the first choice, "" the whole document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

MOST_POINTER_CHARS = 512
"""Longest pointer read: no answer nests that deep."""

_BAD_ESCAPE = re.compile(r"~(?![01])")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where a value lies: the keys and indexes on the way to it."""

    steps: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Pointer:
        """Read a pointer.

        Raises:
            ValueError: it does not begin with a slash, is too long, or holds a `~` that escapes nothing.
        """
        if len(text) > MOST_POINTER_CHARS or (text and not text.startswith("/")) or _BAD_ESCAPE.search(text):
            raise ValueError(f"a place is written as a JSON pointer, /choices/0/text, not {text[:60]!r}")
        return cls(tuple(step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]))

    def find(self, document: Any) -> Any:
        """Return the value there, or None where there is none (or a null)."""
        value = document
        for step in self.steps:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and _INDEX.fullmatch(step) and int(step) < len(value):
                value = value[int(step)]
            else:
                return None
        return value

    def __str__(self) -> str:
        return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in self.steps)
