"""Log lines that thousands of jobs would write at once: the first of a kind is written, the others are counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable

EVERY_S = 10.0
"""So often a line of one kind is written at most."""
MOST_KINDS = 1_000
"""That are remembered; what was written longest ago is forgotten first."""


class Sparingly:
    """A logger's counterpart for lines that repeat."""

    def __init__(self, log: logging.Logger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._told: dict[Hashable, tuple[float, int]] = {}
        """When a kind was written, and how many were not written since."""

    def switching(self, at: str, error: str, to: str) -> None:
        """Write the seeds' line of a fallback: who does not answer, why, and who is asked instead."""
        self.say(logging.WARNING, "%s: %s, switching to %s", at, error.replace("_", " "), to)

    def say(self, level: int, message: str, *arguments: object) -> None:
        """Write a line, unless the same one was written within `EVERY_S`; the next then says how many there were."""
        kind = (message, arguments)
        now = self._clock()
        told_at, unsaid = self._told.get(kind, (None, 0))
        if told_at is not None and now - told_at < EVERY_S:
            self._told[kind] = (told_at, unsaid + 1)
            return
        self._told.pop(kind, None)
        self._told[kind] = (now, 0)
        if len(self._told) > MOST_KINDS:
            del self._told[next(iter(self._told))]
        self._log.log(level, message + (f" ({unsaid} more since the last line)" if unsaid else ""), *arguments)
