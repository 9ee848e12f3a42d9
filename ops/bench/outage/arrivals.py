"""Jobs that arrive steadily, whatever else happens: a thread with a metronome."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from ops.bench.processes import BenchFailure


class Arrivals:
    """Asks for a job of everybody, so many times a second, while it is entered."""

    def __init__(self, per_s: float, ask: Sequence[Callable[[], None]]) -> None:
        self._every_s = 1 / per_s
        self._ask = ask
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="arrivals", daemon=True)

    def check(self) -> None:
        """Raise if it has ended unasked.

        Raises:
            BenchFailure: somebody could not be asked.
        """
        if self._error is not None:
            raise BenchFailure(f"jobs arrive no more: {self._error}") from self._error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                due += self._every_s
                for ask in self._ask:
                    ask()
        except Exception as error:  # told by `check`, in the bench's own thread
            self._error = error
