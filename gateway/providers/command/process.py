"""One run of a program: fed, read within bounds, and gone with all its children when it is given up.

The program begins a session of its own, so everything it starts is in its process group and ends with it. What left
the group on purpose is found by `mark` when a run is given up. Nothing here waits for a pipe that a stranger may hold
open: the loop tells when the program itself has ended (`asyncio.SubprocessProtocol`), and our ends are closed then.

Knows processes, pipes and lines of bytes. Must not know what they mean.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from gateway.providers.command.mark import MARK_VARIABLE, end_marked, new_mark

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

T = TypeVar("T")

STDIN, STDOUT, STDERR = 0, 1, 2

STDERR_TAIL_BYTES = 2_000
"""The end of what a program wrote to stderr: enough for a sentence, too short for a log."""

HEAD_BYTES = 2_000
"""The beginning that is kept of an output that was too long."""

GRACE_S = 1.0
"""Between SIGTERM and SIGKILL."""

DRAIN_S = 0.5
"""How long a pipe is read on after the program and its group have ended. What they wrote is in it and comes at once;
only a stranger who holds the other end makes us wait so long."""


class TooMuchOutput(Exception):
    """The program wrote more than it may. `head` is the beginning."""

    def __init__(self, head: bytes) -> None:
        super().__init__("too much output")
        self.head = head


@dataclass(frozen=True, slots=True)
class Command:
    """What is run.

    `argv` begins with the program's path; `env` is its whole environment, our mark excepted; `most_bytes` of stdout.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None
    most_bytes: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program left behind. A negative code is the signal that ended it."""

    exit_code: int
    stdout: bytes
    stderr: str


class Run(asyncio.SubprocessProtocol):
    """A program that was started. Made by `started`, which ends it."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._stdout = bytearray()
        self._stderr = b""
        self._read_bytes = 0
        self._open = {STDOUT, STDERR}
        self._exited = asyncio.Event()
        self._news = asyncio.Event()
        self._transport: asyncio.SubprocessTransport | None = None
        self._drained: asyncio.TimerHandle | None = None

    async def next_line(self) -> bytes | None:
        """Return the next line of stdout without its end, or None when there is no more. The last needs no end.

        Raises:
            TooMuchOutput: it wrote more than it may, all lines together.
        """
        searched = 0
        while (end := self._stdout.find(b"\n", searched)) < 0 and STDOUT in self._open:
            searched = len(self._stdout)
            await self._something()
        self._check_bound()
        if end < 0 and not self._stdout:
            return None
        end = end if end >= 0 else len(self._stdout)
        line = bytes(self._stdout[:end])
        del self._stdout[: end + 1]
        return line

    async def ended(self) -> Ended:
        """Wait for the program's end, and return what it left: of stdout what `next_line` has not taken.

        Raises:
            TooMuchOutput: it wrote more than it may.
        """
        while self._open or not self._exited.is_set():
            await self._something()
        self._check_bound()
        code = self._started.get_returncode()
        assert code is not None, "the loop has said that it ended"
        return Ended(code, bytes(self._stdout), self._stderr.decode("utf-8", "replace").strip())

    def feed(self, stdin: bytes) -> None:
        """Hand over the question. A program may end, or close its stdin, without reading it."""
        self._stdin.write(stdin)
        self._stdin.close()

    async def end(self) -> None:
        """End the program, politely and then not; return when it is gone. Its group goes with it."""
        if not self._exited.is_set():
            self._signal_group(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._exited.wait(), GRACE_S)
        if not self._exited.is_set():
            self._signal_group(signal.SIGKILL)
            await self._exited.wait()

    def hang_up(self) -> None:
        """Close our ends of the pipes, whoever holds the others and whatever was not written yet."""
        if self._drained is not None:
            self._drained.cancel()
        if self._stdin.get_write_buffer_size():
            # `close` would wait until somebody reads the rest.
            self._stdin.abort()
        self._started.close()

    # What the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The program runs."""
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It has written something."""
        if fd == STDERR:
            self._stderr = (self._stderr + data)[-STDERR_TAIL_BYTES:]
            return
        self._read_bytes += len(data)
        if self._read_bytes <= self._most_bytes or not self._stdout:
            self._stdout += data
        self._news.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """It has closed a pipe, and so have all who held it."""
        self._closed(fd)

    def process_exited(self) -> None:
        """It has ended. Its children end too, so that nobody of them holds a pipe open."""
        self._exited.set()
        self._news.set()
        self._signal_group(signal.SIGKILL)
        self._drained = asyncio.get_running_loop().call_later(DRAIN_S, self._closed, STDOUT, STDERR)

    def _closed(self, *fds: int) -> None:
        self._open.difference_update(fds)
        self._news.set()

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._started.get_pid(), number)

    async def _something(self) -> None:
        """Wait until the loop has told something new."""
        self._check_bound()
        self._news.clear()
        await self._news.wait()

    def _check_bound(self) -> None:
        if self._read_bytes > self._most_bytes:
            raise TooMuchOutput(bytes(self._stdout[:HEAD_BYTES]))

    @property
    def _started(self) -> asyncio.SubprocessTransport:
        assert self._transport is not None, "made by `started`"
        return self._transport

    @property
    def _stdin(self) -> asyncio.WriteTransport:
        return cast("asyncio.WriteTransport", self._started.get_pipe_transport(STDIN))


@asynccontextmanager
async def started(command: Command, stdin: bytes) -> AsyncGenerator[Run, None]:
    """Run a program for as long as the block takes; it has ended after it, with its group, or (given up) with all.

    Raises:
        OSError: it cannot be executed.
    """
    mark = new_mark()
    starting = asyncio.ensure_future(_start(command, mark))
    cancellation = await _done(starting)
    run = starting.result()
    given_up = True
    try:
        if cancellation is not None:
            raise cancellation
        run.feed(stdin)
        yield run
        given_up = False
    finally:
        ending = asyncio.ensure_future(_end(run, mark if given_up else None))
        cancellation = await _done(ending)
        run.hang_up()
        if cancellation is not None:
            raise cancellation
        ending.result()


async def _start(command: Command, mark: str) -> Run:
    _, run = await asyncio.get_running_loop().subprocess_exec(
        lambda: Run(command.most_bytes),
        *command.argv,
        env={**command.env, MARK_VARIABLE: mark},
        cwd=command.cwd,
        start_new_session=True,
    )
    return run


async def _end(run: Run, mark: str | None) -> None:
    """End a run; with its mark, also what left its group. A good answer's daemon is its program's own business."""
    await run.end()
    if mark is not None:
        end_marked(mark)


async def _done(task: asyncio.Task[T]) -> asyncio.CancelledError | None:
    """Wait until a task is done, even when cancelled meanwhile; return that cancellation: the caller raises it.

    What was started must be known to be ended, and ending must not be broken off.
    """
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    return cancellation
