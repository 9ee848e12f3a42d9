"""A worker's way out, in time whatever its broker does.

Once everything is handed back nothing of a worker is worth waiting for, but Celery says goodbye to its broker
first. With a Redis that hangs (stopped in the middle of a connection, not gone) that takes a minute and more:
each of its farewells waits for the socket's timeout, and its heartbeat is sent inside the hub with `retry=True`
(celery/worker/heartbeat.py), which kombu's `Connection.ensure` repeats without end, the event dispatcher's
lock held all the while. SIGTERM is then not even looked at. So a thread of ours waits for the end, and leaves
without Celery if it must.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Protocol

LET_GO_S = 4.0
"""How long Celery has to end, from when all is handed back or the grace is over: with 25 s of grace that is before the
30 s after which Docker and Kubernetes kill. It needs a second or two: its loop looks at its flags once a second."""
LEAST_S = 1.0
"""What it has in any case."""

log = logging.getLogger(__name__)


class Ending(Protocol):
    """What is asked of the runtime."""

    def await_end(self) -> None:
        """Wait until all is handed back."""
        ...

    def leave(self) -> None:
        """Do the last that somebody else would notice: take the incarnation off the list."""
        ...


class Leaving:
    """One worker process's. `exit_now` ends the process at once, with an exit code."""

    def __init__(
        self,
        runtime: Ending,
        grace_s: float,
        *,
        let_go_s: float = LET_GO_S,
        exit_now: Callable[[int], object] = os._exit,
    ) -> None:
        self._runtime = runtime
        self._grace_s = grace_s
        self._let_go_s = let_go_s
        self._exit = exit_now
        self._asked, self._left = threading.Event(), threading.Event()
        self._asked_at = 0.0
        # Started now: a signal handler had better not start a thread.
        self._thread = threading.Thread(target=self._watch, name="assayline-leaving", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """The worker was told to stop. For a signal handler: never waits."""
        self._asked_at = self._asked_at or time.monotonic()
        self._asked.set()

    def done(self) -> None:
        """Celery has ended: nobody has to be left behind any more."""
        self._left.set()
        self._asked.set()
        self._thread.join()

    def _watch(self) -> None:
        self._asked.wait()
        if self._left.is_set():
            return
        code = 0
        try:
            self._runtime.await_end()
        except (Exception, CancelledError) as error:
            log.error("what still ran was not handed back: %s", type(error).__name__)
            code = 1
        if self._left.wait(self._patience_s(time.monotonic())):
            return
        log.warning("the broker holds Celery up: the worker ends without it; nothing runs here any more")
        try:
            self._runtime.leave()
        except Exception as error:
            log.warning("while leaving: %s", type(error).__name__)
        logging.shutdown()
        self._exit(code)

    def _patience_s(self, now: float) -> float:
        """Seconds that Celery has from now on."""
        until = min(now, self._asked_at + self._grace_s) + self._let_go_s
        return max(LEAST_S, until - now)
