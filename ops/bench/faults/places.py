"""Processes that are kept alive, each in a place of its own.

What ends unasked is started again; what is killed stays away until it is told to come back.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from ops.bench.processes import BenchFailure, Running
from ops.bench.stack import Stack

PAUSE_S = 0.5
"""Before what has ended unasked is started again. A supervisor's first pause is of that size."""
MOST_ENDED = 60
"""A process that ends unasked more often cannot run at all."""


class Place:
    """One process and its successors."""

    def __init__(self, name: str, stack: Stack, start: Callable[[], Running]) -> None:
        """Start it.

        Args:
            name: for people.
            stack: whose process it is.
            start: starts one.
        """
        self.name = name
        self.ended_unasked = 0
        self.ended_s: dict[int, float] = {}
        """When each process that was here ended, by its pid: seconds since 1970."""
        self.stopped_s: dict[int, float] = {}
        """When each was stopped first."""
        self._stack = stack
        self._start = start
        self._due = 0.0
        """When one that has ended unasked comes back, by the monotonic clock."""
        self._running: Running | None = start()
        self._away = False

    @property
    def pid(self) -> int | None:
        """Of the process that is there now; None: none is."""
        return self._running.pid if self._running is not None else None

    def kill(self) -> int | None:
        """SIGKILL, whatever state it is in, until `come_back`. Returns its pid, None where none was there."""
        pid, self._away = self.pid, True
        self._end()
        return pid

    def come_back(self) -> None:
        """Start it again."""
        self._away = False
        self._running = self._start()

    def freeze(self) -> int | None:
        """SIGSTOP. Returns its pid, None where none is there."""
        pid = self._signalled(signal.SIGSTOP)
        if pid is not None:
            self.stopped_s.setdefault(pid, time.time())
        return pid

    def thaw(self) -> int | None:
        """SIGCONT. Returns as `freeze`."""
        return self._signalled(signal.SIGCONT)

    def tend(self) -> None:
        """Notice that it has ended unasked, and start it again after a pause.

        Raises:
            BenchFailure: it did too often; the message says what its log said last.
        """
        now = time.monotonic()
        if self._running is not None and self._running.ended:
            self.ended_unasked += 1
            if self.ended_unasked > MOST_ENDED:
                self._running.check()
                raise BenchFailure(f"{self.name} does not stay")
            self._end()
            self._due = now + PAUSE_S
        if self._running is None and not self._away and now >= self._due:
            self._running = self._start()

    def _end(self) -> None:
        if self._running is not None:
            self._stack.kill(self._running)
            self.ended_s[self._running.pid] = time.time()
            self._running = None

    def _signalled(self, number: int) -> int | None:
        if self._running is None or self._running.ended:
            return None
        os.kill(self._running.pid, number)
        return self._running.pid
