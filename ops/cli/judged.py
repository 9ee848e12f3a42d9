"""What a submitted job is to judge: a file, stdin, or the example that ships with its analysis.

Every refusal names the file, and says what would be right.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.cli.troubles import BadInput
from tasks.producer.errors import MAX_BYTES

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Judged:
    """A content, and what it is called in messages ("": it has no name, the messages say everything).

    `context`: the prompt's variables that belong to it. `source`: where an example's material comes from.
    """

    name: str
    content: bytes
    context: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None


def contents(names: Sequence[str], *, nothing_needed: bool) -> list[Judged]:
    """Read the files, each at most 1 MiB of UTF-8. Without any there is one empty content, if nothing is needed.

    Raises:
        BadInput: there is nothing to judge; stdin is named twice; or a file cannot be read, is empty or no such text.
    """
    if not names and nothing_needed:
        return [Judged("", b"")]
    if not names:
        raise BadInput("nothing to judge: name a file, or - for stdin, or say --example")
    if list(names).count(STDIN) > 1:
        raise BadInput("- (stdin) can be read once only")
    return [Judged(name, _content(name)) for name in names]


def example(analysis: str) -> Judged:
    """Return the example that ships with an analysis.

    Raises:
        UnknownAnalysis: there is no such analysis.
        BadInput: it ships without an example (a third party's may), or the example cannot be read.
        ConfigurationError: an installed package offers an analysis that cannot be loaded.
    """
    from gateway.analyses.registry import load_analyses

    given = load_analyses().get(analysis).analysis.example
    if given is None:
        raise BadInput(f"{analysis} ships without an example: name a file of yours, or - for stdin")
    name = given.content.name
    try:
        data = given.content.read_bytes()
    except OSError as error:
        raise BadInput(f"{analysis}'s example {name}: {error.strerror or error}") from error
    return Judged(name, _checked(name, data), given.context, given.source)


def _content(name: str) -> bytes:
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{name}: {error.strerror or error}") from error
    return _checked(name, data)


def _checked(name: str, data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise BadInput(f"{name}: more than {MAX_BYTES:,} bytes (1 MiB), which is the most a job may have")
    if not data.strip():
        raise BadInput(f"{name}: is empty")
    if b"\0" in data:
        raise BadInput(f"{name}: has a NUL byte at {data.index(0)}: not text")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}: is not UTF-8 at byte {error.start}: convert it first, such as with iconv") from error
    return data
