"""The provider of the bench `chaos` as a process: chat completions as `conduct` says, each call written down.

`python -m ops.bench.faults.server SEED FILE LEAST_S MOST_S` prints its port and serves until SIGTERM. A line of FILE is
a JSON array, written as the call arrives: [name, marker, manner, ns], ns in nanoseconds of the wall clock. The name is
the answer's `x-request-id`, by which the ledger knows it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import Any, TextIO

import uvloop

from ops.bench.endpoint import MARKER
from ops.bench.faults.conduct import RETRY_AFTER_S, Conduct, Manner, answer_to, conduct
from ops.bench.http_connection import BACKLOG, HttpConnection, http_answer
from ops.supervisor.ports import LOOPBACK


class Book:
    """What all connections share: how to behave, and the file that everything is written to."""

    def __init__(self, seed: int, takes_s: tuple[float, float], file: TextIO) -> None:
        self._seed = seed
        self._takes_s = takes_s
        self._file = file
        self._seen: Counter[str] = Counter()
        self._calls = 0

    def arrived(self, marker: str) -> tuple[str, Conduct]:
        """Write a call down; its name, and how it is to be treated."""
        self._calls += 1
        self._seen[marker] += 1
        name, treated = f"call-{self._calls}", conduct(self._seed, marker, self._seen[marker], self._takes_s)
        self._file.write(json.dumps([name, marker, treated.manner, time.time_ns()]) + "\n")
        return name, treated


class Connection(HttpConnection):
    """One connection of a caller."""

    def __init__(self, book: Book) -> None:
        super().__init__()
        self._book = book

    def serve(self, target: str, body: bytes) -> None:
        """Take a call."""
        found = MARKER.search(body)
        marker = found[1].decode() if found else ""
        name, treated = self._book.arrived(marker)
        if treated.manner is not Manner.HANG:
            asyncio.get_running_loop().call_later(treated.takes_s, self._end, name, marker, treated.manner)

    def _end(self, name: str, marker: str, manner: Manner) -> None:
        answer = response(name, marker, manner)
        if manner is Manner.CUT:
            self.send(answer[: len(answer) // 2])
            self._transport.close()
        else:
            self.send(answer)


def response(name: str, marker: str, manner: Manner) -> bytes:
    """Return the whole response to a call."""
    headers = {"x-request-id": name}
    match manner:
        case Manner.ERROR:
            error = {"type": "server_error", "code": "server_error", "message": "The server had an error."}
            return http_answer(json.dumps({"error": error}).encode(), HTTPStatus.INTERNAL_SERVER_ERROR, headers)
        case Manner.BUSY:
            error = {"type": "requests", "code": "rate_limit_exceeded", "message": "Too many requests."}
            body = json.dumps({"error": error}).encode()
            return http_answer(body, HTTPStatus.TOO_MANY_REQUESTS, headers | {"retry-after": str(RETRY_AFTER_S)})
        case Manner.INVALID:
            return http_answer(json.dumps(_completion(name, {})).encode(), headers=headers)
        case _:
            return http_answer(json.dumps(_completion(name, answer_to(marker))).encode(), headers=headers)


def _completion(name: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": name,
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "bench",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": json.dumps(answer)}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 700, "completion_tokens": 30, "total_tokens": 730},
    }


async def serve(book: Book) -> None:
    """Serve until SIGTERM; the first line on stdout is the port."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(lambda: Connection(book), LOOPBACK, 0, backlog=BACKLOG)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


if __name__ == "__main__":
    seed, path, least_s, most_s = sys.argv[1:]
    with Path(path).open("a", buffering=1) as record:
        uvloop.run(serve(Book(int(seed), (float(least_s), float(most_s)), record)))
