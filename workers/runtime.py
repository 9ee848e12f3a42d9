"""The runtime of a worker process: one uvloop loop on a thread of its own, under Celery's threads pool.

Celery's thread takes a message, hands the attempt to the loop and waits; below that line all is asynchronous. The
runtime also keeps the incarnation alive by its heartbeat, hears which of its jobs were cancelled, and ends it: what
still runs after the grace period is cancelled and handed back in one statement, by the deadline of `workers.departure`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import uvloop

from tasks.patience import patiently
from tasks.run import Ending, Runner
from workers.departure import AT_ONCE, Departure
from workers.health.pulse import Pulse
from workers.until import by, cancel

T = TypeVar("T")

HEARTBEAT_S = 5.0
"""A quarter of the twenty seconds after which an incarnation counts as dead: three beats may be lost."""
LOOK_S = 1.0
"""Between two heartbeats while nothing can be heard: whether a job was cancelled is then found out by looking."""
NOTICE_S = 5.0
"""How long telling Postgres that the worker stops may take: it can be done without."""
CHORES_S = 0.5
"""How long heartbeat and hearing, once they are cancelled, may take to let go of their connections."""

log = logging.getLogger(__name__)


class RunInterrupted(Exception):
    """The run was cut short by something that is no ordinary error; the dispatcher will find the job."""


@dataclass(slots=True)
class Services:
    """What a worker process is composed of; built on its loop by `workers.build`."""

    runner: Runner
    ticks: Mapping[str, Callable[[], Awaitable[object]]] = field(default_factory=dict)
    close: Callable[[], Awaitable[None]] | None = None
    hear: Callable[[Callable[[bool], None]], Coroutine[Any, Any, None]] | None = None
    """Hears for ever what is told to this worker, and calls what it is given whenever that begins or ceases."""


class Runtime:
    """One process's loop, with everything on it."""

    def __init__(
        self, build: Callable[[], Awaitable[Services]], *, heartbeat_s: float = HEARTBEAT_S, pulse: Pulse | None = None
    ) -> None:
        self._build = build
        self.pulse = pulse or Pulse()
        self._heartbeat_s = heartbeat_s
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="assayline-loop", daemon=True)
        self._services: Services | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._ticking: set[asyncio.Task[Any]] = set()
        """Those of them that do a tick's work."""
        self._stopping = False
        self._beating: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._hearing = False
        self._notice: asyncio.Task[None] | None = None
        """Tells Postgres that the worker stops."""
        self._look = asyncio.Event()
        """Set when something may have been missed."""
        self._ending: Future[None] | None = None

    def start(self) -> None:
        """Start the loop, build the services on it, and send the first heartbeat.

        Raises:
            Exception: whatever building raised; nothing is left running then.
        """
        self._thread.start()
        try:
            self._submit(self._begin()).result()
        except BaseException:
            self._halt()
            raise

    def run_job(self, job_id: UUID, release: int, provider: str) -> Ending:
        """Run one released job on the loop; called from a pool thread, which waits."""
        with self.pulse.slot():
            return self._submit(self._tracked(self._built.runner.run(job_id, release, provider))).result()

    def tick(self, name: str) -> str:
        """Run the work of a tick; while the worker stops it is left to the next tick, of another worker.

        Raises:
            KeyError: no such tick: an error of the schedule.
        """
        work = self._built.ticks[name]
        with self.pulse.slot():
            self._submit(self._tracked(self._ticked(name, work))).result()
        return name

    def begin_stop(self, departure: Departure) -> None:
        """Start the end: no new calls; after the grace what still runs is cancelled and handed back.

        Returns at once: it is called from a signal handler, while the pool's own stop blocks until the threads end.
        """
        self.pulse.stopping = True
        if self._ending is None:
            self._ending = self._submit(self._end(departure, time.monotonic()))

    def await_end(self, within_s: float) -> None:
        """Wait for the end that `begin_stop` started: nothing runs any more, and all is handed back.

        Raises:
            Exception: what kept it from being handed back, or TimeoutError; the dispatcher will find it.
        """
        assert self._ending is not None
        self._ending.result(within_s)

    def leave(self, within_s: float) -> None:
        """Do of the closing only what others would notice, for a process that ends by force.

        Raises:
            TimeoutError: Postgres took too long; the dispatcher notices by the clock.
        """
        self._submit(self._off_the_list()).result(within_s)

    def stop(self) -> None:
        """Wait for the end that `begin_stop` started (or end now), close the services, stop the loop."""
        self.begin_stop(AT_ONCE)
        assert self._ending is not None
        try:
            try:
                self._ending.result()
            finally:
                self._submit(self._close()).result()
        finally:
            self._halt()

    @property
    def _built(self) -> Services:
        if self._services is None:
            raise RuntimeError("the runtime has not been started")
        return self._services

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _begin(self) -> None:
        self._services = await self._build()
        await patiently(self._services.runner.beat)
        self.pulse.heartbeat()
        self.pulse.loop.start()
        self._beating = asyncio.create_task(self._beat())
        if self._services.hear is not None:
            self._listening = asyncio.create_task(self._services.hear(self._on_hearing))

    async def _tracked(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await work
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as error:
            # Left alone, asyncio passes SystemExit and KeyboardInterrupt on to the loop's thread: the loop would end,
            # and with it, without a word, every attempt of the process.
            raise RunInterrupted(type(error).__name__) from None
        finally:
            self._running.discard(task)

    async def _ticked(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Do a tick's work. It is cut short without harm: what it leaves, the next tick finds."""
        task = asyncio.current_task()
        assert task is not None
        self._ticking.add(task)
        try:
            if not self._stopping:
                await work()
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            log.info("tick %s is left to another worker", name)
        finally:
            self._ticking.discard(task)

    async def _beat(self) -> None:
        """Beat for ever; sooner where the looking has to stand in for the hearing."""
        runner = self._built.runner
        silent = False
        while True:
            await self._pause()
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await runner.beat(stopping=self._ending is not None)
                self.pulse.heartbeat()
                async with asyncio.timeout(self._heartbeat_s):
                    await runner.give_back_unheld()
            except Exception as error:
                if not silent:
                    log.warning("a heartbeat was not heard: %s", type(error).__name__)
                silent = True
            else:
                if silent:
                    log.info("heartbeats are heard again")
                silent = False

    async def _pause(self) -> None:
        every_s = self._heartbeat_s if self._hearing else min(self._heartbeat_s, LOOK_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await self._look.wait()
        self._look.clear()

    def _on_hearing(self, stands: bool) -> None:
        """Look at once: what was told while nothing was heard, or just before, is not heard any more."""
        if stands != self._hearing:
            self._hearing = stands
            self._look.set()

    async def _end(self, departure: Departure, asked_at: float) -> None:
        runner = self._built.runner
        self._stopping = True
        cancel(self._ticking)
        # Beside the rest: where Postgres hangs, it must not take of the calls' time.
        self._notice = asyncio.create_task(self._quietly(runner.beat(stopping=True)))
        await self._drained(asked_at + departure.grace_s)
        runner.stopping = True
        cancel(runner.attempts.tasks)
        await self._drained(asked_at + departure.written_s)
        await self._cut_off(asked_at + departure.cut_off_s)
        handed_back = await by(asked_at + departure.handed_back_s, runner.hand_back())
        if handed_back:
            log.info("%d jobs were handed back", handed_back)

    async def _drained(self, at: float) -> None:
        """Wait until no attempt runs any more, those that begin meanwhile included; `at` at the latest."""
        while self._running and (left_s := at - time.monotonic()) > 0:
            await asyncio.wait(tuple(self._running), timeout=left_s)

    async def _cut_off(self, at: float) -> None:
        """Cancel what still runs: on a loop that stops it would keep its connection, and Celery's thread, for ever.

        Twice: at the first time psycopg asks Postgres to end the statement, which takes seconds where Postgres hangs;
        at the second it closes the connection.
        """
        began = time.monotonic()
        for until in (began + (at - began) / 2, at):
            cancel(self._running)
            await self._drained(until)

    async def _close(self) -> None:
        await self._off_the_list()
        if self._services is not None and self._services.close is not None:
            await self._services.close()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    async def _off_the_list(self) -> None:
        """Say nothing more, and have the incarnation forgotten."""
        chores = {chore for chore in (self._beating, self._listening, self._notice) if chore is not None}
        for _ in range(2):  # as in `_cut_off`
            if chores:
                cancel(chores)
                _, chores = await asyncio.wait(chores, timeout=CHORES_S)
        runner = self._built.runner
        # The pool has stopped: what it still took after the first hand-back is handed back now.
        await self._quietly(runner.hand_back())
        await self._quietly(runner.store.retire(runner.incarnation))

    async def _quietly(self, work: Awaitable[object]) -> None:
        """Await what a stop can do without: the dispatcher notices by the clock."""
        try:
            await by(time.monotonic() + NOTICE_S, work)
        except Exception as error:
            log.warning("while stopping: %s", type(error).__name__)

    def _halt(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_runtime: Runtime | None = None


def install_runtime(runtime: Runtime | None) -> None:
    """Make `runtime` this process's: the entrypoints are module functions and must find it."""
    global _runtime
    _runtime = runtime


def current_runtime() -> Runtime:
    """Return this process's runtime.

    Raises:
        RuntimeError: this process is no worker (a Celery started by hand, say).
    """
    if _runtime is None:
        raise RuntimeError("no runtime in this process: start workers with `assayline worker`")
    return _runtime
