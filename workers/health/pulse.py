"""What a process notes of its own progress: ticks of its loop, heartbeats written, attempts begun and ended.

Written by the loop and the pool's threads, read by the threads that judge. Every note is one assignment.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TICK_S = 0.5
"""Pause between two ticks of the loop."""
REMEMBERED_TICKS = 20
"""How many ticks' lateness is kept: of the last ten seconds, so that a loop that stumbles time and again is seen."""


class LoopTicker:
    """Measures how late a loop is. `start` on the loop; `late_s` from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: float | None = None
        self._late: deque[float] = deque(maxlen=REMEMBERED_TICKS)

    def start(self) -> None:
        """Tick for as long as the running loop runs."""
        self._next(asyncio.get_running_loop())

    @property
    def late_s(self) -> float:
        """How late the tick is that is due, or the latest of the last ten seconds was; 0 before the first."""
        overdue_s = 0.0 if self._due is None else self._clock() - self._due
        return max(0.0, overdue_s, *self._late)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._clock()
        if self._due is not None:
            self._late.append(now - self._due)
        self._due = now + TICK_S
        loop.call_later(TICK_S, self._next, loop)


class Pulse:
    """A worker process's notes. `clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.loop = LoopTicker(clock)
        self.heartbeat_at = clock()
        """When the last heartbeat was written; at first, when there was none to write yet."""
        self.consuming = False
        """Whether Celery's consumer holds a connection and has asked for messages."""
        self.stopping = False
        self.taken = 0
        """Messages whose work has begun."""
        self.busy = 0
        """Slots in use."""
        self.moved_at = clock()
        """When a slot was taken or freed for the last time."""
        self._counting = threading.Lock()

    def heartbeat(self) -> None:
        """Note that a heartbeat has been written."""
        self.heartbeat_at = self.clock()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Note that a message's work occupies a slot, for as long as the body runs."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._counting:
            self.busy += change
            self.taken += max(0, change)
            self.moved_at = self.clock()
