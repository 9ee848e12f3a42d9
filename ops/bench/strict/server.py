"""A strict provider as a process: chat completions and messages, refused with 429 by `StrictLimits`.

`python -m ops.bench.strict.server LOAD`, LOAD as JSON (`loads.Load`), prints its port and serves until SIGTERM. Outputs
and durations are drawn in the order of admission, from one seed: every run sees the same. A call whose body says
`takes-SECONDS-s` takes so long instead, and writes as much. Input is counted as a token for each four bytes of body.
Under /control/:

    start     full buckets, an empty record: time zero
    record    what was counted and refused since then; see `StrictLimits.record`
    arrivals  [[marker, arrived_ns, let in], ...] since then; nanoseconds of the wall clock
    state     {"calls", "answered", "open"} of all its life
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from datetime import UTC, datetime
from http import HTTPStatus
from random import Random

import uvloop

from ops.bench.endpoint import MARKER
from ops.bench.http_connection import BACKLOG, HttpConnection, http_answer
from ops.bench.strict import answers
from ops.bench.strict.headers import date_header, limit_headers, refusal_headers
from ops.bench.strict.limits import Call, Refusal, StrictLimits
from ops.bench.strict.loads import Load
from ops.supervisor.ports import LOOPBACK

BYTES_PER_TOKEN = 4
ALLOWANCE_FIELDS = ("max_tokens", "max_completion_tokens")
"""How callers say what a call may write."""

_TAKES = re.compile(rb"takes-([0-9.]{1,9})-s\b")


class Account:
    """What all connections share: the limits, the load, the counters."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.limits = StrictLimits(load.provider, load.per_min, time.monotonic)
        self.calls = self.answered = self.open = 0
        self.arrivals: list[tuple[str, int, bool]] = []
        self._next = self._drawn_anew()

    def start(self) -> None:
        """Begin a run."""
        self.limits.start()
        self.arrivals.clear()
        self._next = self._drawn_anew()

    def arrive(self, path: str, allowed: int, body: bytes, connection: Connection) -> None:
        """Refuse a call at once, or answer it when its output has been produced.

        Args:
            path: how it is answered.
            allowed: tokens it may write.
            body: with its marker, if it has one.
            connection: where it came from.
        """
        self.calls += 1
        drawn, duration_s = self._next
        output = min(drawn, allowed)
        takes_s = duration_s * output / drawn
        if told_s := _TAKES.search(body):
            takes_s = float(told_s[1])
        call = Call(len(body) // BYTES_PER_TOKEN, allowed, output, takes_s)
        refusal = self.limits.arrive(call)
        marker = MARKER.search(body)
        self.arrivals.append((marker[1].decode() if marker else "", time.time_ns(), refusal is None))
        # The figures are those of the arrival; the date of an answer is that of its sending.
        told = limit_headers(self.limits, datetime.now(UTC))
        if refusal is not None:
            connection.send(self._refused(path, refusal, told))
            return
        self._next = self.load.draw(self._rng)
        self.open += 1
        answer = answers.answer(path, call.input_tokens, output, cut=output < drawn)
        asyncio.get_running_loop().call_later(call.duration_s, self._reply, connection, answer, told)

    def state(self) -> dict[str, int]:
        """The counters."""
        return {"calls": self.calls, "answered": self.answered, "open": self.open}

    def _reply(self, connection: Connection, body: bytes, told: dict[str, str]) -> None:
        self.open -= 1
        self.answered += 1
        connection.send(http_answer(body, headers=told | date_header(datetime.now(UTC))))

    def _refused(self, path: str, refusal: Refusal, told: dict[str, str]) -> bytes:
        headers = told | refusal_headers(self.limits, refusal) | date_header(datetime.now(UTC))
        body = answers.refusal(path, refusal.kind, self.limits.meters[refusal.kind].per_min)
        return http_answer(body, HTTPStatus.TOO_MANY_REQUESTS, headers)

    def _drawn_anew(self) -> tuple[int, float]:
        self._rng = Random(self.load.name)
        return self.load.draw(self._rng)


class Connection(HttpConnection):
    """One connection of a caller, or of the bench."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account

    def serve(self, target: str, body: bytes) -> None:
        """Take a call, or answer what is asked under /control/."""
        path = target.partition("?")[0]
        if path.startswith("/control/"):
            self._control(path.removeprefix("/control/"))
            return
        if path not in (answers.CHAT, answers.MESSAGES):
            self._complain(path, HTTPStatus.NOT_FOUND, f"there are {answers.CHAT} and {answers.MESSAGES}")
        elif (allowed := _allowed(body)) is None:
            self._complain(path, HTTPStatus.BAD_REQUEST, f"{' or '.join(ALLOWANCE_FIELDS)}: a number of tokens")
        else:
            self._account.arrive(path, allowed, body, self)

    def _complain(self, path: str, status: HTTPStatus, said: str) -> None:
        self.send(http_answer(answers.complaint(path, said), status))

    def _control(self, what: str) -> None:
        if what == "start":
            self._account.start()
        account = self._account
        told: object = account.state()
        if what == "record":
            told = account.limits.record()
        elif what == "arrivals":
            told = account.arrivals
        self.send(http_answer(json.dumps(told).encode()))


def _allowed(body: bytes) -> int | None:
    """What a request lets the call write; None where it is no request."""
    try:
        asked = json.loads(body)
    except ValueError:
        return None
    found = (asked.get(name) for name in ALLOWANCE_FIELDS) if isinstance(asked, dict) else ()
    return next((tokens for tokens in found if type(tokens) is int and tokens > 0), None)


async def serve(load: Load) -> None:
    """Serve until SIGTERM; the first line on stdout is the port."""
    account, stop = Account(load), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(lambda: Connection(account), LOOPBACK, 0, backlog=BACKLOG)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(Load(**json.loads(sys.argv[1]))))
