"""Jobs that are handed over steadily, whatever is away: a thread with a metronome that does not give up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ops.bench.processes import BenchFailure

AGAIN_S = 0.2
STOP_S = 30.0
LONGEST_S = 120.0
"""A chunk that nobody has taken for so long is no passing trouble."""


class HandOver(Protocol):
    """Hands over the jobs of some numbers; raises where it cannot, or does not know whether it did."""

    def __call__(self, numbers: Sequence[int]) -> None:
        """Hand them over."""
        ...

    def close(self) -> None:
        """Close what it has opened."""
        ...


class Producer:
    """Hands over the numbers 0 to `total` - 1, `per_s` of them a second, from its making on. Close it by `end`."""

    def __init__(
        self, name: str, hand_over: HandOver, total: int, per_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.taken = 0
        """So many numbers, from 0 on, have been taken for certain."""
        self.tries_failed = 0
        self._hand_over = hand_over
        self._total = total
        self._per_s = per_s
        self._clock = clock
        self._stop = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"producer-{name}", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether all have been taken."""
        return self.taken >= self._total

    def check(self) -> None:
        """Raise if it has given up.

        Raises:
            BenchFailure: it has.
        """
        if self._failed is not None:
            raise BenchFailure(f"jobs cannot be handed over: {self._failed}") from self._failed

    def end(self) -> None:
        """Stop it."""
        self._stop.set()
        self._thread.join(STOP_S)
        self._hand_over.close()

    def _run(self) -> None:
        begun = self._clock()
        while not self.done and self._failed is None:
            due = min(self._total, int((self._clock() - begun) * self._per_s))
            if due > self.taken:
                self._insist(range(self.taken, due))
            if self._stop.wait(AGAIN_S):
                return

    def _insist(self, numbers: Sequence[int]) -> None:
        """Hand them over, again and again. Any error passes: which ones a dying server brings forth, nobody knows."""
        give_up_at = self._clock() + LONGEST_S
        while True:
            try:
                self._hand_over(numbers)
                self.taken = numbers[-1] + 1
                return
            except Exception as error:
                self.tries_failed += 1
                if self._clock() > give_up_at:
                    self._failed = error
                    return
            if self._stop.wait(AGAIN_S):
                return
