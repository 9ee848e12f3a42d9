"""Fenced code blocks in a model's Markdown, found line by line.

No regular expression over the whole text: an answer of many backticks or blanks would hold one up for minutes, and
with it every other job of the worker.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LEAST_MARK = 3
"""A fence is three backticks or tildes, or more; the same mark closes it (CommonMark 0.31, section 4.5)."""

_LANGUAGE = re.compile(r"[\w+#.-]*")


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """One closed block: its `language` (empty: not named), its code, and what of the text stands around it."""

    language: str
    code: str
    before: str
    after: str


def code_blocks(text: str) -> tuple[list[CodeBlock], bool]:
    """Return the closed blocks of a text in order, and whether one is left open."""
    lines = text.splitlines(keepends=True)
    blocks: list[CodeBlock] = []
    opened, mark = 0, ""
    for place, line in enumerate(lines):
        if not mark:
            opened, mark = place, _mark(line)
        elif line.rstrip() == mark:
            blocks.append(_block(lines, opened, place, mark))
            mark = ""
    return blocks, bool(mark)


def _mark(line: str) -> str:
    """Return the mark that a line opens a block with; empty: it opens none."""
    rest = line.lstrip(line[0]) if line[0] in "`~" else line
    mark = line[: len(line) - len(rest)]
    return mark if len(mark) >= LEAST_MARK and not (mark[0] == "`" and "`" in rest) else ""


def _block(lines: list[str], opened: int, closed: int, mark: str) -> CodeBlock:
    language = _LANGUAGE.match(lines[opened].removeprefix(mark).strip())
    return CodeBlock(
        language[0] if language else "",
        "".join(lines[opened + 1 : closed]),
        "".join(lines[:opened]),
        "".join(lines[closed + 1 :]),
    )
