"""One life of a child: from its start to its end, its output pumped into the log.

Not asyncio's subprocess: its `wait()` waits for the output pipe too, which a grandchild may hold open for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

from ops.supervisor import tether
from ops.supervisor.log import MergedLog, lines

if TYPE_CHECKING:
    from ops.supervisor.child import Child

PROBE_EVERY_S = 0.05
LAST_WORDS_S = 1.0
"""How long the log waits for a dead child's last lines: a grandchild may hold the pipe open for ever."""


class Life:
    """A running child. Made by `Life.begin`."""

    def __init__(self, child: Child, process: subprocess.Popen[bytes], log: MergedLog) -> None:
        self.child = child
        self._process = process
        self._exited = _exit_code(process)
        self._pump = asyncio.create_task(self._copy_output(log))
        self.ended = asyncio.create_task(self._watch())

    @classmethod
    def begin(cls, child: Child, log: MergedLog) -> Life:
        """Start the process, tied to us, in its own session: a terminal's Ctrl-C shall reach the supervisor alone.

        Raises:
            OSError: it cannot be started.
        """
        process = subprocess.Popen(  # noqa: S603  the supervisor's own children
            tether.wrap(child.command, death_signal=child.death_signal, identity=child.identity),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **child.env},
            start_new_session=True,
        )
        return cls(child, process, log)

    @property
    def pid(self) -> int:
        """The child's process id, and its process group's."""
        return self._process.pid

    async def became_ready(self) -> bool:
        """Wait until the child is ready. False: it ended, or the time was up, before it was."""
        if self.child.once:
            return await asyncio.shield(self.ended) == 0
        if self.child.ready is None:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.child.ready_timeout_s):
                while not self.ended.done():
                    if await asyncio.to_thread(self.child.ready):
                        return not self.ended.done()
                    await asyncio.wait({self.ended}, timeout=PROBE_EVERY_S)
        return False

    async def became_unwell(self) -> str | None:
        """Stay until the child fails its live check for good, and return its last complaint; None: it ended before."""
        failures = 0
        while self.child.live is not None:
            await asyncio.wait({self.ended}, timeout=self.child.live_every_s)
            if self.ended.done():
                break
            complaint = await asyncio.to_thread(self.child.live)
            failures = failures + 1 if complaint else 0
            if failures >= self.child.live_failures:
                return complaint
        await asyncio.shield(self.ended)
        return None

    async def stop(self, hurry: asyncio.Event, hurry_grace_s: float) -> bool:
        """End the child with its own signal, with SIGKILL after its grace. Returns whether it went by itself.

        Args:
            hurry: once set, the grace is at most `hurry_grace_s`.
            hurry_grace_s: seconds.
        """
        self._send(self.child.stop_signal)
        hurried = asyncio.create_task(hurry.wait())
        try:
            await asyncio.wait({self.ended, hurried}, timeout=self.child.grace_s, return_when=asyncio.FIRST_COMPLETED)
            if hurried.done() and not self.ended.done():
                await asyncio.wait({self.ended}, timeout=min(hurry_grace_s, self.child.grace_s))
        finally:
            hurried.cancel()
        by_itself = self.ended.done()
        self._send(signal.SIGKILL)
        await asyncio.shield(self.ended)
        return by_itself

    def _send(self, number: int) -> None:
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _watch(self) -> int:
        code = await self._exited
        # Whatever it started and left behind goes with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.wait({self._pump}, timeout=LAST_WORDS_S)
        self._pump.cancel()
        await asyncio.wait({self._pump})
        return code

    async def _copy_output(self, log: MergedLog) -> None:
        assert self._process.stdout is not None
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, self._process.stdout)
        try:
            async for line in lines(reader):
                log.write(self.child.name, line)
        finally:
            transport.close()


def _exit_code(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """A future of the process's exit code, told by a thread of its own: the loop's default executor is small."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[int] = loop.create_future()

    def tell() -> None:
        code = process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(found.set_result, code)

    threading.Thread(target=tell, name=f"wait-{process.pid}", daemon=True).start()
    return found
