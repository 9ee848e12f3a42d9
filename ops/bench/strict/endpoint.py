"""A strict endpoint's process, and what its record says of a run."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ops.bench.stack import Stack
from ops.bench.strict.loads import Load
from ops.supervisor.ports import LOOPBACK

SETTLING = 0.2
"""The first part of a run that is not measured: of five minutes the first. The endpoint's buckets start full."""
MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Record:
    """What an endpoint counted and refused in a run, second by second; see `StrictLimits.record`."""

    load: Load
    seconds: int
    counted: Mapping[str, Sequence[float]]
    refused: Sequence[int]
    most_open: int
    highest_minute: Mapping[str, float]

    @classmethod
    def of(cls, load: Load, told: Mapping[str, Any], seconds: int) -> Record:
        """Read the endpoint's JSON; what came after `seconds` is left out."""
        counted = {kind: amounts[:seconds] for kind, amounts in told["counted"].items()}
        return cls(
            load,
            len(told["refused"][:seconds]),
            counted,
            told["refused"][:seconds],
            told["most_open"],
            told["highest_minute"],
        )

    @property
    def since(self) -> int:
        """The first second that is measured."""
        return round(self.seconds * SETTLING)

    @property
    def use(self) -> float | None:
        """Of the limit that binds, the share that was used in the measured part."""
        measured = self.counted[self.load.bound_by][self.since :]
        return sum(measured) * MINUTE_S / (self.load.limit * len(measured)) if measured else None

    @property
    def refusals(self) -> int:
        """Calls refused from the first second on: the start is no excuse."""
        return sum(self.refused)

    @property
    def calls(self) -> int:
        """Calls let in and refused."""
        return round(sum(self.counted["requests"])) + self.refusals

    def figures(self) -> dict[str, float | int | None]:
        """The run in figures."""
        use, highest = self.use, self.highest_minute[self.load.bound_by] / self.load.limit
        return {
            "use_%": None if use is None else 100 * use,
            "calls": self.calls,
            "refused": self.refusals,
            "highest_minute_%": 100 * highest,
            "most_open": self.most_open,
        }


@dataclass(frozen=True, slots=True)
class Arrival:
    """One call as it came: its marker, nanoseconds of the wall clock, and whether it was let in."""

    marker: str
    at_ns: int
    let_in: bool


class StrictEndpoint:
    """One endpoint process, in a stack's life."""

    def __init__(self, stack: Stack, load: Load, whose: str) -> None:
        """Start it; `whose` names its log file."""
        self.load = load
        argv = [sys.executable, "-m", "ops.bench.strict.server", json.dumps(load.as_json())]
        running = stack.start(f"strict-{whose}", argv)
        stack.until(lambda: running.log.read_bytes().endswith(b"\n"), 30.0, "the strict endpoint's port")
        self.port = int(running.log.read_text())

    @property
    def url(self) -> str:
        """Scheme and address: what Anthropic's clients are given, and OpenAI's with /v1."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Begin a run: full buckets, an empty record."""
        self._ask("start")

    def calls(self) -> int:
        """How many calls have come, ever."""
        return int(self._ask("state")["calls"])

    def arrivals(self) -> list[Arrival]:
        """All calls that have come in the run, in order."""
        return [Arrival(*told) for told in self._ask("arrivals")]

    def most_open(self) -> int:
        """The most calls that were open at once in the run."""
        return int(self._ask("record")["most_open"])

    def record(self, seconds: int) -> Record:
        """What was recorded in the run's first seconds."""
        return Record.of(self.load, self._ask("record"), seconds)

    def _ask(self, what: str) -> Any:
        control = http.client.HTTPConnection(LOOPBACK, self.port)
        try:
            control.request("GET", f"/control/{what}")
            return json.load(control.getresponse())
        finally:
            control.close()
