"""Keeps a set of processes alive until it is told to stop.

Start: each child when all it waits for are ready. Death: it comes back after a growing pause; too many stop the whole.
One that fails its live check is stopped, and comes back like one that died. Stop: last started first. No child
outlives the supervisor, even one killed by SIGKILL (`tether`).
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

from ops.supervisor.child import Child, RestartPolicy, levels
from ops.supervisor.process import Life

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ops.supervisor.log import MergedLog

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HURRY_GRACE_S = 2.0
"""Grace per child after a second Ctrl-C: enough for a database to close, not for a worker to finish its calls."""


class Supervisor:
    """Runs `children` until SIGINT, SIGTERM or SIGHUP, or until one cannot be kept alive.

    Args:
        children: what to run.
        log: where their lines and ours go.
        policy: when a dead child comes back.
        on_ready: called once, when every child is ready for the first time.
    """

    def __init__(
        self,
        children: Sequence[Child],
        log: MergedLog,
        *,
        policy: RestartPolicy | None = None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._levels = levels(children)
        self._log = log
        self._policy = policy or RestartPolicy()
        self._on_ready = on_ready
        self._ready = {child.name: asyncio.Event() for child in children}
        self._lives: dict[str, Life] = {}
        self._stop_asked = asyncio.Event()
        self._hurry = asyncio.Event()
        self._gave_up: str | None = None

    async def run(self) -> int:
        """Run until stopped. Returns 0, or 1 if a child could not be kept alive."""
        self._listen_to_signals()
        keepers = [asyncio.create_task(self._keep(child)) for level in self._levels for child in level]
        announcer = asyncio.create_task(self._announce())
        for task in (*keepers, announcer):
            task.add_done_callback(self._stop_if_broken)
        try:
            await self._stop_asked.wait()
        finally:
            for task in (*keepers, announcer):
                task.cancel()
            results = await asyncio.gather(*keepers, announcer, return_exceptions=True)
            await self._stop_all()
            self._leave_signals()
        for result in results:
            if isinstance(result, Exception):
                raise result
        return 1 if self._gave_up else 0

    def stop(self) -> None:
        """Ask for a clean stop; a second time, for a fast one."""
        if self._stop_asked.is_set():
            self._log.say("stopping fast")
            self._hurry.set()
        else:
            self._log.say("stopping (Ctrl-C again: faster)")
            self._stop_asked.set()

    def _stop_if_broken(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._stop_asked.set()  # `run` raises it, after stopping the rest

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.stop)

    def _leave_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)

    async def _announce(self) -> None:
        for event in self._ready.values():
            await event.wait()
        self._on_ready()

    async def _keep(self, child: Child) -> None:
        """The whole story of one child: wait, start, ready, die, pause, again."""
        for name in child.after:
            await self._ready[name].wait()
        died_at: list[float] = []
        while True:
            why = await self._live_once(child)
            if why is None:
                return
            died_at.append(time.monotonic())
            pause_s = self._policy.delay(died_at, died_at[-1])
            if pause_s is None:
                self._give_up(child, why, len(died_at))
                return
            self._log.trouble(f"{child.name} {why}; starting it again in {pause_s:g} s")
            await asyncio.sleep(pause_s)

    async def _live_once(self, child: Child) -> str | None:
        """Start the child and stay until it ends. Returns how it died; None: it has done what it had to do."""
        try:
            life = Life.begin(child, self._log)
        except OSError as refused:
            return f"did not start: {refused}"
        self._lives[child.name] = life
        if await life.became_ready():
            self._ready[child.name].set()
            if child.once:
                return None
            return await self._live_on(life)
        if life.ended.done():
            return _ended(life.ended.result())
        await life.stop(self._hurry, HURRY_GRACE_S)
        return f"was not ready within {child.ready_timeout_s:g} s"

    async def _live_on(self, life: Life) -> str:
        """Stay with a child that is ready until it ends, by itself or because it does its work no more."""
        complaint = await life.became_unwell()
        if complaint is None:
            return _ended(life.ended.result())
        self._log.trouble(f"{life.child.name} is not live ({complaint}); stopping it")
        await life.stop(self._hurry, HURRY_GRACE_S)
        return "was not live"

    def _give_up(self, child: Child, why: str, deaths: int) -> None:
        self._gave_up = child.name
        self._log.trouble(
            f"{child.name} {why}, for the {deaths}. time; {self._policy.deaths} deaths within "
            f"{self._policy.window_s:g} s are too many: its own lines above say why. Stopping everything."
        )
        self._stop_asked.set()

    async def _stop_all(self) -> None:
        for level in reversed(self._levels):
            lives = [self._lives[child.name] for child in level if child.name in self._lives]
            await asyncio.gather(*(self._stop_one(life) for life in lives if not life.ended.done()))

    async def _stop_one(self, life: Life) -> None:
        by_itself = await life.stop(self._hurry, HURRY_GRACE_S)
        self._log.say(f"{life.child.name} stopped" + ("" if by_itself else " (killed: its grace was over)"))


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
