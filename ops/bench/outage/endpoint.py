"""An endpoint's process, told to fail and to be well again, and its record read."""

from __future__ import annotations

import http.client
import json
import sys
import time

from ops.bench.outage.failures import WELL, Failure
from ops.bench.outage.judge import Call
from ops.bench.processes import Running
from ops.bench.stack import START_S, Stack
from ops.supervisor.ports import LOOPBACK, pick

NS = 1e9


class OutageEndpoint:
    """One, in a stack's life, on one port."""

    def __init__(self, stack: Stack, name: str) -> None:
        """Start it; `name` names its record and its log file."""
        self._stack = stack
        self._name = name
        self._record = stack.directory / f"{name}.record"
        self.port = pick()
        self._running: Running | None = None
        self._start()

    @property
    def url(self) -> str:
        """What an OpenAI client is given."""
        return f"http://{LOOPBACK}:{self.port}/v1"

    def fail(self, failure: Failure) -> float:
        """Fail from now on; returns the time, in seconds since 1970."""
        if failure.gone:
            assert self._running is not None
            self._stack.kill(self._running)
            self._running = None
        else:
            self._behave(failure.name)
        return time.time()

    def recover(self) -> float:
        """Be well again from now on; returns the time."""
        if self._running is None:
            self._start()
        else:
            self._behave(WELL)
        return time.time()

    def calls(self) -> list[Call]:
        """All calls so far, in the order of their arrival."""
        found: dict[str, Call] = {}
        for line in self._record.read_text().splitlines():
            event, call, what, ns = json.loads(line)
            if event == "arrived":
                found[call] = Call(what, ns / NS)
            else:
                found[call] = Call(found[call].marker, found[call].arrived_s, ns / NS, what)
        return list(found.values())

    def _start(self) -> None:
        argv = [sys.executable, "-m", "ops.bench.outage.server", str(self.port), str(self._record)]
        running = self._stack.start(self._name, argv)
        self._stack.until(lambda: b"ready\n" in running.log.read_bytes(), START_S, f"the endpoint {self._name}")
        self._running = running

    def _behave(self, how: str) -> None:
        control = http.client.HTTPConnection(LOOPBACK, self.port)
        try:
            control.request("GET", f"/control/{how}")
            control.getresponse().read()
        finally:
            control.close()
