"""One run of a program: fed, read within bounds, and gone with all its children when it is over or given up.

The program begins a session of its own, so that everything it starts is in its process group and ends with it; what
leaves the group on purpose (a daemon) is beyond reach and holds nothing of ours: our ends of its pipes are closed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

READ_BYTES = 64 * 1024
STDERR_TAIL_BYTES = 2_000
"""The end of what a program wrote to stderr: enough for a sentence, too short for a log."""
EXIT_POLL_S = 0.02
GRACE_S = 1.0
"""Between SIGTERM and SIGKILL to the group."""


class TooMuchOutput(Exception):
    """The program wrote more than it may. `head` is the beginning."""

    def __init__(self, head: bytes) -> None:
        super().__init__("too much output")
        self.head = head


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program left behind. A negative code is the signal that ended it."""

    exit_code: int
    stdout: bytes
    stderr: str


async def run(argv: Sequence[str], stdin: bytes, *, env: Mapping[str, str], cwd: str | None, most_bytes: int) -> Ended:
    """Run a program to its end. Cancelled, or with too much output, its whole group is ended first.

    Raises:
        OSError: it cannot be executed.
        TooMuchOutput: it wrote more than `most_bytes` to stdout.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
    )
    feeding, tailing = asyncio.ensure_future(_feed(process, stdin)), asyncio.ensure_future(_tail(process))
    try:
        stdout = await _bounded(process, most_bytes)
        # Its end is waited for, not that of its children: one that holds stdout open must not hold us.
        exit_code = await _exit_code(process)
        stderr = await tailing
    except BaseException:
        await _end(process)
        raise
    finally:
        _signal_group(process.pid, signal.SIGKILL)
        feeding.cancel()
        tailing.cancel()
        await asyncio.gather(feeding, tailing, return_exceptions=True)
        # A child that left the group may hold the other ends of the pipes: ours are closed all the same.
        process._transport.close()  # type: ignore[attr-defined]
    return Ended(exit_code, stdout, stderr.decode("utf-8", "replace").strip())


async def _exit_code(process: asyncio.subprocess.Process) -> int:
    """Wait until the program itself has ended. `Process.wait` waits for its pipes too, which a child may hold."""
    while process.returncode is None:  # noqa: ASYNC110  nobody tells
        await asyncio.sleep(EXIT_POLL_S)
    return process.returncode


async def _feed(process: asyncio.subprocess.Process, stdin: bytes) -> None:
    """Write the question. A program may end, or close its stdin, without reading it."""
    assert process.stdin is not None
    with suppress(ConnectionError):
        process.stdin.write(stdin)
        await process.stdin.drain()
    process.stdin.close()
    with suppress(ConnectionError):
        await process.stdin.wait_closed()


async def _bounded(process: asyncio.subprocess.Process, most_bytes: int) -> bytes:
    """Read stdout until it is closed or the program has ended."""
    assert process.stdout is not None
    read = bytearray()
    ended = asyncio.ensure_future(_exit_code(process))
    try:
        while True:
            reading = asyncio.ensure_future(process.stdout.read(READ_BYTES))
            await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                # The program has ended; what it wrote is in the pipe, and comes now or never.
                await asyncio.wait({reading}, timeout=GRACE_S)
            if not reading.done():
                reading.cancel()
                return bytes(read)
            part = reading.result()
            if not part:
                return bytes(read)
            read += part
            if len(read) > most_bytes:
                raise TooMuchOutput(bytes(read[:STDERR_TAIL_BYTES]))
    finally:
        ended.cancel()


async def _tail(process: asyncio.subprocess.Process) -> bytes:
    """Read stderr to the program's end, keeping the last of it."""
    assert process.stderr is not None
    kept = b""
    ended = asyncio.ensure_future(_exit_code(process))
    try:
        while True:
            reading = asyncio.ensure_future(process.stderr.read(READ_BYTES))
            await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                await asyncio.wait({reading}, timeout=GRACE_S)
            if not reading.done() or not reading.result():
                reading.cancel()
                return kept
            kept = (kept + reading.result())[-STDERR_TAIL_BYTES:]
    finally:
        ended.cancel()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the program's group: politely, then not. Returns when the program itself is gone, cancelled or not."""
    _signal_group(process.pid, signal.SIGTERM)
    gone = asyncio.ensure_future(_exit_code(process))
    with suppress(asyncio.CancelledError):
        await asyncio.wait({gone}, timeout=GRACE_S)
    _signal_group(process.pid, signal.SIGKILL)
    while not gone.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({gone})


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
