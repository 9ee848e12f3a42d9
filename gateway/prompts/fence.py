"""Untrusted text, set apart from instructions.

Whoever writes the code or the message that is judged may write instructions into it. So it is
placed between two marker lines that nobody could know when the text was written, and prompts say
that what stands between them is material. That lowers the risk; the schema of the answer and its
validation bound what a successful injection could do.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MARKER_BYTES = 8
"""64 random bits: not to be guessed, and short enough for a small context window."""


def random_marker() -> str:
    """Return a fresh marker: 16 hex digits from the system's random source."""
    return secrets.token_hex(MARKER_BYTES)


@dataclass(frozen=True, slots=True)
class Fenced:
    """Text between `<data-MARKER>` and `</data-MARKER>`; the marker does not occur in the text."""

    text: str
    marker: str

    def __str__(self) -> str:
        return f"<data-{self.marker}>\n{self.text}\n</data-{self.marker}>"


@dataclass(frozen=True, slots=True)
class Plain:
    """The caller's own words, which need no fence."""

    text: str

    def __str__(self) -> str:
        return self.text


def fence(text: str, new_marker: Callable[[], str] = random_marker) -> Fenced:
    """Fence `text`, drawing markers until one does not occur in it."""
    marker = new_marker()
    while marker in text:
        marker = new_marker()
    return Fenced(text, marker)
