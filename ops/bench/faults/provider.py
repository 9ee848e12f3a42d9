"""A provider's process, and its record."""

from __future__ import annotations

import json
import sys

from ops.bench.faults.conduct import Manner
from ops.bench.faults.judge import Call
from ops.bench.stack import START_S, Stack

NS = 1e9


class Provider:
    """One, in a stack's life. Nothing is done to it: it fails by itself, as its seed says."""

    def __init__(self, stack: Stack, name: str, seed: int, takes_s: tuple[float, float]) -> None:
        """Start it; `name` names its record and its log file. takes_s: see `conduct`."""
        self._record = stack.directory / f"{name}.record"
        argv = [sys.executable, "-m", "ops.bench.faults.server", str(seed), str(self._record), *map(str, takes_s)]
        running = stack.start(name, argv)
        stack.until(lambda: running.log.read_bytes().endswith(b"\n"), START_S, f"the port of {name}")
        self.port = int(running.log.read_text())

    def count(self) -> int:
        """How many calls have come."""
        return self._record.read_bytes().count(b"\n")

    def calls(self) -> list[Call]:
        """All calls so far, in the order of their arrival."""
        lines = (json.loads(line) for line in self._record.read_text().splitlines())
        return [Call(name, marker, Manner(manner), ns / NS) for name, marker, manner, ns in lines]
