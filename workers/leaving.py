"""A process's way out, in time whatever hangs: its broker, its Postgres, a library.

Once everything is handed back nothing of a worker is worth waiting for, but Celery says goodbye to its broker
first. With a Redis that hangs (stopped in the middle of a connection, not gone) that takes a minute and more:
each of its farewells waits for the socket's timeout, and its heartbeat is sent inside the hub with `retry=True`
(celery/worker/heartbeat.py), which kombu's `Connection.ensure` repeats without end, the event dispatcher's
lock held all the while. SIGTERM is then not even looked at. So a thread of ours waits for the end, and leaves
without Celery if it must; and it waits for nothing beyond the deadline.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Protocol

from workers.departure import Departure

LET_GO_S = 4.0
"""How long Celery has to end, from when all is handed back. It needs a second or two: its loop looks at its flags once
a second."""
GONE_WITHIN_S = 5.0
"""How long a process with nothing to hand back takes to end: half of what Docker and `assayline up` wait for it."""

Exit = Callable[[int], object]
"""Ends the process at once, with an exit code."""

log = logging.getLogger(__name__)


class Ending(Protocol):
    """What is asked of the runtime."""

    def await_end(self, within_s: float) -> None:
        """Wait until all is handed back."""
        ...

    def leave(self, within_s: float) -> None:
        """Do the last that somebody else would notice: take the incarnation off the list."""
        ...


class Leaving:
    """One worker process's. Its parts come in this order: `begin`, `let_go`, `done`."""

    def __init__(
        self, runtime: Ending, departure: Departure, *, let_go_s: float = LET_GO_S, exit_now: Exit = os._exit
    ) -> None:
        self._runtime = runtime
        self._departure = departure
        self._let_go_s = let_go_s
        self._exit = exit_now
        self._asked, self._free, self._left = threading.Event(), threading.Event(), threading.Event()
        self._asked_at = 0.0
        # Started now: a signal handler had better not start a thread.
        self._thread = threading.Thread(target=self._watch, name="assayline-leaving", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """The worker was told to stop. For a signal handler: never waits."""
        self._asked_at = self._asked_at or time.monotonic()
        self._asked.set()

    def let_go(self) -> None:
        """Celery has ended; what is left is our own closing."""
        self._free.set()

    def done(self) -> None:
        """All is over: nothing has to be left behind any more."""
        for event in (self._left, self._free, self._asked):
            event.set()
        self._thread.join()

    def _watch(self) -> None:
        self._asked.wait()
        if self._left.is_set():
            return
        last_words_at = self._asked_at + self._departure.handed_back_s
        gone_at = self._asked_at + self._departure.gone_s
        code = self._await_end(last_words_at)
        if not self._free.wait(_left_s(min(time.monotonic() + self._let_go_s, last_words_at))):
            log.warning("Celery has not ended, as where its broker hangs: the worker ends without it")
            self._leave(gone_at)
        elif self._left.wait(_left_s(gone_at)):
            return
        else:
            log.warning("closing takes too long: the worker ends without it")
        logging.shutdown()
        self._exit(code)

    def _await_end(self, at: float) -> int:
        """Wait until all is handed back; the exit code."""
        try:
            self._runtime.await_end(_left_s(at))
        except (Exception, CancelledError) as error:
            log.error("what still ran was not handed back and is left to the dispatcher: %s", type(error).__name__)
            return 1
        return 0

    def _leave(self, at: float) -> None:
        try:
            self._runtime.leave(_left_s(at))
        except Exception as error:
            log.warning("while leaving: %s", type(error).__name__)


@contextmanager
def gone_within(within_s: float, *, exit_now: Exit = os._exit) -> Iterator[Callable[[], None]]:
    """Give what a process with nothing to hand back calls when it is told to stop, in a signal handler too.

    If the body still runs `within_s` seconds later, the process ends without it.
    """
    asked, left = threading.Event(), threading.Event()

    def watch() -> None:
        asked.wait()
        if not left.wait(within_s):
            log.warning("closing takes too long, as where Postgres or the broker hangs: the process ends without it")
            logging.shutdown()
            exit_now(0)

    thread = threading.Thread(target=watch, name="assayline-leaving", daemon=True)
    thread.start()
    try:
        yield asked.set
    finally:
        left.set()
        asked.set()
        thread.join()


def _left_s(at: float) -> float:
    """Seconds until an instant of `time.monotonic()`."""
    return max(0.0, at - time.monotonic())
