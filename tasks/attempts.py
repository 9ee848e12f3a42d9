"""The attempts that one worker has under way, by claim; and cutting one off, because its job is no longer the worker's.

It was cancelled, or given to another worker while this one seemed dead. Whoever notices says so here: the task of that
attempt is cancelled, and with it its provider call. Only while it makes its calls: once an attempt's end is being
written, the fence alone decides.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

Key = tuple[UUID, int]
"""A claim: job and `claim_no`."""

REMEMBERED = 1_000
"""Claims of which it was heard that they are lost, and which are not under way here, or not yet: a job may be cancelled
before its claim's own reply was read. The latest are remembered."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One that makes its calls. `cut`: they are not wanted any more."""

    key: Key
    task: asyncio.Task[object]
    cut: bool = False


class Attempts:
    """One worker's. Lives on one event loop."""

    def __init__(self) -> None:
        self._held: set[Key] = set()
        self._calling: dict[Key, Attempt] = {}
        self._early: OrderedDict[Key, None] = OrderedDict()

    @property
    def tasks(self) -> set[asyncio.Task[object]]:
        """Of the attempts that make their calls: these, and only these, may be cancelled."""
        return {attempt.task for attempt in self._calling.values()}

    def take(self, job_id: UUID, claim_no: int) -> None:
        """Note that a claim is in hand: its reply has come."""
        self._held.add((job_id, claim_no))

    def let_go(self, job_id: UUID, claim_no: int) -> None:
        """Note that a claim is in hand no more: its end is written, or it is somebody else's."""
        self._held.discard((job_id, claim_no))

    def held(self) -> list[Key]:
        """The claims in hand."""
        return list(self._held)

    def begin(self, job_id: UUID, claim_no: int) -> Attempt:
        """Note that the current task makes a claim's calls from now on. It may be cut already."""
        task = asyncio.current_task()
        assert task is not None
        key = (job_id, claim_no)
        attempt = self._calling[key] = Attempt(key, task, cut=key in self._early)
        self._early.pop(key, None)
        return attempt

    def end(self, attempt: Attempt) -> None:
        """Note that its calls are over; it cannot be cut any more."""
        del self._calling[attempt.key]
        if attempt.cut:
            attempt.task.uncancel()  # the cancellation was ours, and has done its work

    def cut(self, job_id: UUID, claim_no: int) -> bool:
        """Cut a claim's attempt off; whether it made its calls."""
        attempt = self._calling.get((job_id, claim_no))
        if attempt is None:
            return False
        if not attempt.cut:  # a second cancellation would hit what comes after its calls
            attempt.cut = True
            attempt.task.cancel()
        return True

    def expect(self, job_id: UUID, claim_no: int) -> None:
        """Cut a claim's attempt off as soon as it begins, if it ever does."""
        self._early[job_id, claim_no] = None
        if len(self._early) > REMEMBERED:
            self._early.popitem(last=False)
