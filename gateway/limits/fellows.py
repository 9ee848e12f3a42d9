"""How many processes share the limits, as one of them has lately heard: for its own share while Redis is away.

A group's script counts those that made calls in that group lately. A group of few calls knows few of them, so the
largest count of any group goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Fellows:
    """The largest count of the last `span_s` seconds before the latest one was heard, and at most twice as long."""

    def __init__(self, span_s: float, clock: Callable[[], float]) -> None:
        self._span_s = span_s
        self._clock = clock
        self._since_s = clock()
        self._before = self._most = 1

    @property
    def processes(self) -> int:
        """This one among them. It does not fade while nothing is heard: then it is needed."""
        return max(self._before, self._most)

    def heard(self, processes: int) -> None:
        """Take over what a reply says, of whichever group."""
        now_s = self._clock()
        if now_s - self._since_s >= self._span_s:
            lapsed = now_s - self._since_s >= 2 * self._span_s
            self._before, self._most = 1 if lapsed else self._most, 1
            self._since_s = now_s
        self._most = max(self._most, processes)
