"""The peers under a load, side by side, each against its own endpoint: Celery's `rate_limit`, LiteLLM's Router."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ops.bench import celery_peer
from ops.bench.litellm_venv import SETTINGS, python, redis_arguments
from ops.bench.proc import Cores
from ops.bench.processes import Running
from ops.bench.stack import START_S, Stack, content
from ops.bench.strict import celery_limited
from ops.bench.strict.endpoint import Record, StrictEndpoint
from ops.bench.strict.loads import Load

CELERY_SHARED = "Celery rate_limit, a share each"
CELERY_MENDED = "Celery, a share each, kombu mended"
CELERY_NAIVE = "Celery rate_limit, the whole each"
LITELLM = "LiteLLM Router, Redis"

ENOUGH = 1.5
"""Tasks for Celery: so many times what the limit lets through."""
SPARE_SLOTS = 2.0
"""Calls that a peer may have open, beyond the mean that uses up the limit."""
LEAST_SLOTS = 8


class Peer(Protocol):
    """One of them, its processes started and waiting."""

    endpoint: StrictEndpoint
    processes: Sequence[Running]

    def begin(self, seconds: int) -> None:
        """Give it work for so many seconds."""
        ...


class CeleryLimited:
    """Celery workers, each with the same `rate_limit`."""

    def __init__(
        self, stack: Stack, load: Load, workers: int, name: str, per_min: float, *, mended: bool = False
    ) -> None:
        """Start the workers.

        Args:
            stack: the servers.
            load: what calls are like.
            workers: how many processes.
            name: of the queue, the workers and their logs.
            per_min: tasks a minute in each of them.
            mended: see `celery_limited.mend`.
        """
        self.endpoint = StrictEndpoint(stack, load, name)
        self._queue = name
        self._load = load
        self._app = celery_peer.make_app(celery_peer.broker_url(stack.servers.redis_url))
        settings = {
            celery_peer.BROKER: celery_peer.broker_url(stack.servers.redis_url),
            celery_limited.RATE: f"{per_min:.3f}",
            celery_limited.MENDED: "1" if mended else "",
        }
        argv = celery_peer.worker_argv(slots(load, workers), celery_limited.__name__, name)
        self.processes: Sequence[Running] = [
            stack.start(name, [*argv, "-n", f"{name}.{number}@bench"], **settings) for number in range(workers)
        ]
        stack.until(lambda: self._answering() == workers, START_S, f"the workers of {name}")

    def begin(self, seconds: int) -> None:
        """See `Peer.begin`."""
        self.endpoint.start()
        minutes = 1 + seconds / 60 * ENOUGH  # the endpoint's bucket holds a minute at the start
        for number in range(math.ceil(self._load.calls_per_min * minutes)):
            arguments = (self.endpoint.port, f"{self._queue}.{number}", self._load.max_tokens)
            self._app.send_task(celery_limited.CALL, arguments, queue=self._queue)

    def _answering(self) -> int:
        found = self._app.control.inspect(timeout=1.0).ping() or {}
        return sum(name.startswith(f"{self._queue}.") for name in found)


class LiteLLMLimited:
    """Processes of callers over LiteLLM's Router."""

    def __init__(self, stack: Stack, load: Load, workers: int) -> None:
        """Start the processes, in an environment that is built where it is missing."""
        self.endpoint = StrictEndpoint(stack, load, "litellm")
        question = {
            "base_url": self.endpoint.url + ("/v1" if load.provider == "openai" else ""),
            "model": f"{load.provider}/strict",
            "max_tokens": load.max_tokens,
            "content": content("litellm"),
            "limits": {LITELLM_LIMITS[kind]: limit for kind, limit in load.per_min.items()},
            "callers": slots(load, workers),
            "redis": redis_arguments(stack.servers.redis_url),
        }
        program = str(Path(__file__).with_name("litellm_limited.py"))
        argv = [python(), program, json.dumps(question)]
        self.processes: Sequence[Running] = [stack.start("litellm", argv, **SETTINGS) for _ in range(workers)]
        stack.until(self._ready, START_S, "LiteLLM's processes")

    def begin(self, seconds: int) -> None:
        """See `Peer.begin`; they do not end by themselves."""
        self.endpoint.start()
        for process in self.processes:
            os.kill(process.pid, signal.SIGUSR1)

    def _ready(self) -> bool:
        return all(b"ready\n" in process.log.read_bytes() for process in self.processes)


LITELLM_LIMITS = {"requests": "rpm", "tokens": "tpm", "input_tokens": "itpm", "output_tokens": "otpm"}
"""LiteLLM's words for what is limited."""


def run_peers(stack: Stack, load: Load, workers: int, seconds: int, *, with_litellm: bool) -> dict[str, Any]:
    """Run all peers side by side on one stack.

    Returns:
        By the peer's title, its endpoint's record; and under "cores_busy_%" how busy they kept the machine.
    """
    alone, shared = load.calls_per_min, load.calls_per_min / workers
    peers: dict[str, Peer] = {
        CELERY_SHARED: CeleryLimited(stack, load, workers, "celery-shared", shared),
        CELERY_MENDED: CeleryLimited(stack, load, workers, "celery-mended", shared, mended=True),
        CELERY_NAIVE: CeleryLimited(stack, load, workers, "celery-naive", alone),
    }
    if with_litellm:
        peers[LITELLM] = LiteLLMLimited(stack, load, workers)
    cores, ends = Cores(), {}
    for title, peer in peers.items():
        peer.begin(seconds)
        ends[title] = time.monotonic() + seconds
    records: dict[str, Record] = {}
    for title, peer in peers.items():
        time.sleep(max(0.0, ends[title] - time.monotonic()))
        stack.check()
        records[title] = peer.endpoint.record(seconds)
        for process in peer.processes:
            stack.kill(process)  # their calls may be open for long
    return {"records": records, "cores_busy_%": cores.busy_percent()}


def slots(load: Load, workers: int) -> int:
    """Calls that each of a peer's processes may have open."""
    return max(LEAST_SLOTS, math.ceil(SPARE_SLOTS * load.calls_open / workers))
