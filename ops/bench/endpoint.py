"""The provider that benches call: OpenAI's chat completions, answered after a set time, every arrival written down.

`python -m ops.bench.endpoint` prints its port and serves until SIGTERM. It is a protocol on bare sockets, because it
shares the machine's cores with what it measures: about 0.05 ms of CPU a call.

A call is known by the marker in its body (`marker-<word>`, which benches put into the content). What was recorded is
read under /control/:

    state           {"open", "peak", "calls", "answered", "busy_s"}: calls open now, most at once, arrived, answered,
                    and the seconds that answered calls were open, summed
    records         [[marker, arrived_ns], ...] in order of arrival; nanoseconds of the wall clock
    wait?calls=N    like `state`, once N calls have arrived
    last            the body of the latest call
    set?latency_s=..&again_s=..   how long an answer takes: to a marker's first call, and to any further one
    reset           forget all records
    release         answer all open calls now
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvloop

from ops.bench.http_connection import BACKLOG, HttpConnection, http_answer
from ops.supervisor.ports import LOOPBACK

LABELS = ("invoice", "complaint", "other")
"""The labels that benches ask `text_classification` to choose from."""
ANSWER = {"evidence": "the amount due", "label": LABELS[0], "confidence_percent": 90}

MARKER = re.compile(rb"marker-([0-9A-Za-z_.-]+)")
"""How a call is known, in its body."""


def completion() -> dict[str, Any]:
    """The one answer this provider gives."""
    return {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "bench",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": json.dumps(ANSWER)}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 700, "completion_tokens": 30, "total_tokens": 730},
    }


_COMPLETION = http_answer(json.dumps(completion()).encode())


@dataclass(slots=True)
class Book:
    """What the endpoint has seen, and how it answers."""

    latency_s: float = 0.0
    again_s: float = 0.0
    records: list[tuple[str, int]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    open: dict[Call, None] = field(default_factory=dict)
    peak: int = 0
    answered: int = 0
    busy_s: float = 0.0
    waiting: list[tuple[int, Callable[[], None]]] = field(default_factory=list)
    last: bytes = b"{}"

    def arrived(self, marker: str, call: Call) -> float:
        """Write a call down; return after how many seconds it is to be answered."""
        self.records.append((marker, time.time_ns()))
        latency_s = self.again_s if marker in self.known else self.latency_s
        self.known.add(marker)
        self.open[call] = None
        self.peak = max(self.peak, len(self.open))
        if self.waiting:
            self._wake()
        return latency_s

    def left(self, call: Call, *, answered: bool) -> None:
        """Write down that a call was answered, or that its caller is gone."""
        if call in self.open:
            del self.open[call]
            self.answered += answered
            self.busy_s += call.age_s if answered else 0.0

    def state(self) -> dict[str, float]:
        """The counters."""
        return {
            "open": len(self.open),
            "peak": self.peak,
            "calls": len(self.records),
            "answered": self.answered,
            "busy_s": self.busy_s,
        }

    def reset(self) -> None:
        """Forget what was recorded. Open calls stay open and count."""
        self.records.clear()
        self.known.clear()
        self.peak, self.answered, self.busy_s = len(self.open), 0, 0.0

    def _wake(self) -> None:
        due = [tell for calls, tell in self.waiting if calls <= len(self.records)]
        self.waiting = [(calls, tell) for calls, tell in self.waiting if calls > len(self.records)]
        for tell in due:
            tell()


class Call:
    """One open call."""

    __slots__ = ("_book", "_connection", "_since", "_timer")

    def __init__(self, book: Book, connection: Connection) -> None:
        self._book = book
        self._connection = connection
        self._since = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def age_s(self) -> float:
        """For how long it has been open."""
        return time.monotonic() - self._since

    def begin(self, marker: str) -> None:
        """Be written down, and answered when the time has come."""
        latency_s = self._book.arrived(marker, self)
        if latency_s > 0:
            self._timer = asyncio.get_running_loop().call_later(latency_s, self.answer)
        else:
            self.answer()

    def answer(self) -> None:
        """Answer, once."""
        self.end(answered=True)
        self._connection.send(_COMPLETION)

    def end(self, *, answered: bool) -> None:
        """Be open no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._book.left(self, answered=answered)


class Connection(HttpConnection):
    """One connection of a caller, or of the bench that asks for records."""

    def __init__(self, book: Book) -> None:
        super().__init__()
        self._book = book
        self._call: Call | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """A caller that is gone has no call open."""
        if self._call is not None:
            self._call.end(answered=False)

    def send(self, answer: bytes) -> None:
        """Write an answer; no call is open then."""
        self._call = None
        super().send(answer)

    def serve(self, target: str, body: bytes) -> None:
        """Begin a call, or answer what is asked under /control/."""
        if target.startswith("/control/"):
            self._control(target)
            return
        marker = MARKER.search(body)
        self._book.last = body
        self._call = Call(self._book, self)
        self._call.begin(marker[1].decode() if marker else "")

    def _control(self, target: str) -> None:
        url = urlsplit(target)
        given = {name: float(values[0]) for name, values in parse_qs(url.query).items()}
        book = self._book
        match url.path.removeprefix("/control/"):
            case "records":
                self.send(http_answer(json.dumps(book.records).encode()))
                return
            case "last":
                self.send(http_answer(book.last))
                return
            case "wait" if len(book.records) < given["calls"]:
                book.waiting.append((int(given["calls"]), self._send_state))
                return
            case "set":
                book.latency_s = given.get("latency_s", book.latency_s)
                book.again_s = given.get("again_s", book.latency_s)
            case "reset":
                book.reset()
            case "release":
                for call in tuple(book.open):
                    call.answer()
        self._send_state()

    def _send_state(self) -> None:
        self.send(http_answer(json.dumps(self._book.state()).encode()))


async def serve() -> None:
    """Serve until SIGTERM; the first line on stdout is the port."""
    book, stop = Book(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(lambda: Connection(book), LOOPBACK, 0, backlog=BACKLOG)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
