"""Where a command writes: what was asked for on stdout, all else on stderr; with `--json` only JSON on stdout."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console, RenderableType

UNBOUNDED_COLUMNS = 200
"""Width where no terminal sets one: a pipe should get whole ids, not cut ones."""

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON on stdout, and nothing else there.")]
Directory = Annotated[
    Path,
    typer.Option("--dir", help="Where `assayline up` keeps its data: asked for the URLs where no variable gives them."),
]
DEFAULT_DIRECTORY = Path(".assayline")


class Screen:
    """One command's output."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out = console()
        self.err = console(stderr=True)

    def show(self, what: RenderableType) -> None:
        """Write what was asked for, for people; nothing with `--json`. Text is taken as it is, not as markup."""
        if not self.as_json:
            self.out.print(what, markup=False, highlight=False, soft_wrap=isinstance(what, str))

    def say(self, text: str) -> None:
        """Write a remark to stderr."""
        self.err.print(text, markup=False, highlight=False, soft_wrap=True)

    def document(self, value: Any) -> None:
        """Write one JSON document as one line, with `--json`; nothing without."""
        if self.as_json:
            write_json(value)


def console(*, stderr: bool = False) -> Console:
    """A console that cuts nothing short where nobody looks at it."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else UNBOUNDED_COLUMNS)


def write_json(value: Any) -> None:
    """Write one JSON document as one line on stdout, at once: a reader may be waiting for it."""
    document = json.dumps(value, ensure_ascii=False, default=_plain)
    try:
        document.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        # A model's lone surrogate, or a terminal that knows ASCII alone: JSON has escapes for both.
        document = json.dumps(value, default=_plain)
    sys.stdout.write(document + "\n")
    sys.stdout.flush()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID, Path)):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
