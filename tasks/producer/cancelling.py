"""Cancelling by filter: which jobs, how it is written for the database, and the walk over them, portion by portion.

What a filter may hold is judged by `assayline_cancel_jobs`, once, for clients of all languages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from .errors import InvalidJob

PORTION = 1_000
"""Jobs that one transaction cancels: a few hundredths of a second."""

WALKS = 5
"""How often the jobs are gone over for those that somebody else's transaction held meanwhile."""

PAUSE_S = 0.2
"""Between two walks: what a worker or a dispatcher holds it holds for milliseconds."""


class Which(TypedDict, total=False):
    """Which jobs to cancel; all that is named must hold. Nothing named is refused, and None names nothing.

    state: scheduled, queued or running, or several of them; None: any of them, for no other can be cancelled.
    created_after, created_before: from this time on, and before that one, each with its offset.
    all: every job that has not ended; then nothing else may be named.
    """

    tenant: str | None
    analysis: str | None
    provider: str | None
    state: str | Sequence[str] | None
    source: str | None
    subject: str | None
    tag: str | None
    lane: str | None
    created_after: datetime | str | None
    created_before: datetime | str | None
    all: bool


class Cancelled(NamedTuple):
    """How many jobs were cancelled, and how many of those ran: their workers cut the calls off.

    held: jobs that were passed by, because somebody's open transaction holds them; they are as they were.
    """

    jobs: int
    running: int
    held: int


class Portion(NamedTuple):
    """What one portion has done. `reached`: where the next one begins; None: there is none."""

    cancelled: int
    running: int
    held: int
    reached: str | None


def which_json(which: Mapping[str, Any]) -> str:
    """Write a filter for the database.

    Raises:
        InvalidJob: a time has no offset, or a value is no JSON.
    """
    said = {name: _said(name, value) for name, value in which.items() if value is not None}
    try:
        text = json.dumps(said, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise InvalidJob("filter", str(error)) from error
    if "\\u0000" in text:
        raise InvalidJob("filter", "has U+0000, which PostgreSQL cannot store")
    return text


def _said(name: str, value: Any) -> Any:
    if name == "state" and isinstance(value, str):
        return [value]
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidJob(name, "a time without an offset: make it aware, such as datetime.now(UTC)")
        return value.isoformat()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return value


def portion_of(rows: Sequence[Sequence[Any]]) -> Portion:
    """Read what `assayline_cancel_jobs` returns."""
    [(cancelled, running, held, reached)] = rows
    return Portion(cancelled, running, held, None if reached is None else str(UUID(str(reached))))


class Walk:
    """The way over all jobs of a filter; the caller does the portions, whichever colour it has.

    `after` is where the next portion begins, None at the beginning; `done`: there is none. With `one_go`, for a walk
    inside the caller's transaction, which holds what it has cancelled, it goes over them once.
    """

    def __init__(self, *, one_go: bool = False) -> None:
        self.after: str | None = None
        self.done = False
        self._walks_left = 1 if one_go else WALKS
        self._jobs = self._running = self._held = 0

    def took(self, portion: Portion) -> float:
        """Take a portion's figures in; returns how many seconds to pause before the next one."""
        self._jobs += portion.cancelled
        self._running += portion.running
        self._held += portion.held
        self.after = portion.reached
        if portion.reached is not None:
            return 0.0
        self._walks_left -= 1
        self.done = not self._held or not self._walks_left
        if self.done:
            return 0.0
        self._held = 0
        return PAUSE_S

    @property
    def so_far(self) -> Cancelled:
        """What was done until now."""
        return Cancelled(self._jobs, self._running, self._held)
