"""A provider that can be told to fail, as a process: chat completions, each call's arrival and end written down.

`python -m ops.bench.outage.server PORT FILE` serves until it is killed; PORT is the same after a kill, so FILE is, too.
A line of FILE is a JSON array: ["arrived", call, marker, ns] or ["ended", call, how, ns], with nanoseconds of the wall
clock. `how` is an HTTP status, or 0 where the caller left. Under /control/<name>: behave like this from now on, `well`
or one of `FAILURES`. Answers and refusals take `ANSWER_S`: calls that end at once could not be seen beside each other.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import TextIO

import uvloop

from ops.bench.endpoint import completion
from ops.bench.http_connection import BACKLOG, HttpConnection, http_answer
from ops.bench.outage.failures import FAILURES, WELL
from ops.supervisor.ports import LOOPBACK

ANSWER_S = 0.3
LEFT = 0

_MARKER = re.compile(rb"marker-([0-9A-Za-z_.-]+)")
_ANSWERS: dict[str, tuple[int, bytes] | None] = {
    WELL: (HTTPStatus.OK, http_answer(json.dumps(completion()).encode())),
    **{
        name: (failure.status, http_answer(json.dumps({"error": failure.error}).encode(), failure.status))
        if failure.status
        else None
        for name, failure in FAILURES.items()
    },
}
"""By behaviour: status and response; None: nothing is answered."""


class Book:
    """What all connections share: how to behave, and the file that everything is written to."""

    def __init__(self, file: TextIO) -> None:
        self.behaviour = WELL
        self._file = file
        self._calls = 0

    def arrived(self, marker: str) -> str:
        """Write a call down; its name in the record, which no later process uses again."""
        self._calls += 1
        call = f"{os.getpid()}.{self._calls}"
        self._write("arrived", call, marker)
        return call

    def ended(self, call: str, how: int) -> None:
        """Write a call's end down."""
        self._write("ended", call, how)

    def _write(self, event: str, call: str, what: str | int) -> None:
        self._file.write(json.dumps([event, call, what, time.time_ns()]) + "\n")


class Connection(HttpConnection):
    """One connection of a caller, or of the bench."""

    def __init__(self, book: Book) -> None:
        super().__init__()
        self._book = book
        self._call: str | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """A caller that is gone has no call open."""
        self._end(LEFT)

    def serve(self, target: str, body: bytes) -> None:
        """Take a call, or behave as told."""
        if target.startswith("/control/"):
            self._book.behaviour = target.removeprefix("/control/")
            self.send(http_answer(b"{}"))
            return
        marker = _MARKER.search(body)
        self._call = self._book.arrived(marker[1].decode() if marker else "")
        if (answer := _ANSWERS[self._book.behaviour]) is not None:
            asyncio.get_running_loop().call_later(ANSWER_S, self._answer, self._call, *answer)

    def _answer(self, call: str, status: int, response: bytes) -> None:
        if self._call == call:
            self._end(status)
            self.send(response)

    def _end(self, how: int) -> None:
        if self._call is not None:
            self._book.ended(self._call, how)
            self._call = None


async def serve(port: int, file: TextIO) -> None:
    """Serve until SIGTERM; a line on stdout says that it has begun."""
    book, stop = Book(file), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(lambda: Connection(book), LOOPBACK, port, backlog=BACKLOG)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


if __name__ == "__main__":
    with Path(sys.argv[2]).open("a", buffering=1) as record:
        uvloop.run(serve(int(sys.argv[1]), record))
