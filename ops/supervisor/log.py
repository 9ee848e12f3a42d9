"""One readable log of many processes: `name | line`, a colour per name on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Iterable

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
"""ANSI foregrounds that read on dark and on light; red is left for trouble."""
RED = 31
LONGEST_LINE_BYTES = 64 * 1024
"""A longer line is written in pieces, so that a process printing without newlines fills no memory."""


class MergedLog:
    """Writes lines to one stream. The supervisor's own lines go under the name `up`."""

    OWN = "up"

    def __init__(self, names: Iterable[str], stream: TextIO | None = None, *, colour: bool | None = None) -> None:
        self._stream = stream or sys.stdout
        ordered = [self.OWN, *names]
        self._width = max(len(name) for name in ordered)
        self._colour_of = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(ordered)}
        self._colour = self._stream.isatty() if colour is None else colour

    def write(self, name: str, line: str) -> None:
        """Write one line of `name`. A reader that has gone away (a closed pipe or terminal) costs the line alone."""
        self._put(self._label(name, self._colour_of.get(name, COLOURS[0])) + line)

    def say(self, line: str) -> None:
        """Write a line of the supervisor's own."""
        self.write(self.OWN, line)

    def trouble(self, line: str) -> None:
        """Write a line of the supervisor's own that wants attention."""
        self._put(self._label(self.OWN, RED) + line)

    def _label(self, name: str, colour: int) -> str:
        label = f"{name:<{self._width}} | "
        return f"\x1b[{colour}m{label}\x1b[0m" if self._colour else label

    def _put(self, line: str) -> None:
        try:
            print(line, file=self._stream, flush=True)
        except (OSError, ValueError):
            self._stream = sys.__stderr__ or sys.stderr


async def lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield a process's lines without their ends; the last one even if nothing ends it."""
    rest = b""
    while chunk := await reader.read(LONGEST_LINE_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > LONGEST_LINE_BYTES:
            whole, rest = [*whole, rest], b""
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
    if rest:
        yield rest.decode(errors="replace")
