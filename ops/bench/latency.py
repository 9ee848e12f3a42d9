"""From the moment before `enqueue` is called to the arrival of the provider call, on an idle system, one job at a time.

Both are read off the same machine's wall clock. The stages between come from Postgres's own stamps. Peer: Celery's
`apply_async` to a bare HTTP call in the task, over the same broker, turn by turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Any

from ops.bench.celery_runs import CeleryPeer
from ops.bench.report import Check, Figures, Options, Report, quantile
from ops.bench.stack import ANALYSIS, Stack, job, opened

N, ROUNDS = 2_000, 5
SLOTS = 200
"""The catalog's figure for the provider."""
P50_MS, P99_MS = 10.0, 60.0
WARM_UP = 20
IDLE_S = (0.005, 0.025)
"""Between one job's end and the next: long enough to be idle, uneven so that no timer is hit in step."""
ARRIVAL_S = 30.0

STAGES = """
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM created_at) * 1e3 - sent_ms),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM queued_at - created_at) * 1e3),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - queued_at) * 1e3),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY called_ms - extract(epoch FROM started_at) * 1e3)
      FROM assayline.jobs JOIN unnest(%s::uuid[], %s::float8[], %s::float8[]) AS t(job, sent_ms, called_ms) ON id = job
"""
"""Medians of: enqueue to row, row to queue, queue to claim, claim to call."""


def run(options: Options) -> Report:
    """Measure; see the module."""
    n, rounds = options.per_round(N, ROUNDS)
    with opened(options) as stack:
        stack.dispatcher(*(["--no-listen"] if options.without == "listen" else []))
        stack.worker(SLOTS)
        bench = _Latency(stack)
        ours = bench.ours
        peer = _peer(stack, bench) if options.peers else None
        warm_up = min(WARM_UP, n)
        for measure in filter(None, (ours, peer)):
            measure("warm", warm_up)
        pooled: tuple[list[float], list[float]] = ([], [])
        measured: list[Figures] = []
        for number in range(1, rounds + 1):
            pooled[0].extend(times := ours(f"{number}", n))
            figures: dict[str, Any] = {**_spread("ours", times), **bench.stages()}
            if peer is not None:
                pooled[1].extend(times := peer(f"{number}", n))
                figures |= _spread("celery", times)
            stack.say(f"round {number}: {figures}")
            measured.append(figures)
    checks = [
        Check("enqueue to provider call, p50", quantile(pooled[0], 0.50), "ms", "<=", P50_MS),
        Check("enqueue to provider call, p99", quantile(pooled[0], 0.99), "ms", "<=", P99_MS),
    ]
    peers = {"Celery apply_async to a bare HTTP call": _spread("celery", pooled[1])} if peer else {}
    return Report("latency", checks, measured, peers, options.without, (f"n = {len(pooled[0])}",))


class _Latency:
    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._pause = Random(0)
        self._sent: dict[str, tuple[Any, int]] = {}
        self._arrivals: dict[str, int] = {}

    def ours(self, name: str, n: int) -> list[float]:
        """Enqueue `n` jobs, each when the one before is done; the milliseconds of each."""
        self._sent.clear()
        return self.timed(name, n, self._enqueue)

    def timed(self, name: str, n: int, send: Callable[[str], Any]) -> list[float]:
        """Send `n` times; the milliseconds from before each sending to the call's arrival."""
        endpoint = self._stack.endpoint
        endpoint.ask("reset")
        sent: dict[str, int] = {}
        for place in range(1, n + 1):
            marker = f"{name}.{place}"
            sent[marker] = time.time_ns()
            made = send(marker)
            self._sent[marker] = made, sent[marker]
            self._stack.until(
                lambda place=place: endpoint.ask(f"wait?calls={place}")["calls"] >= place, ARRIVAL_S, "a call"
            )
            time.sleep(self._pause.uniform(*IDLE_S))
        self._arrivals = {marker: at[0] for marker, at in endpoint.arrivals().items()}
        return [(self._arrivals[marker] - at) / 1e6 for marker, at in sent.items()]

    def stages(self) -> dict[str, float]:
        """Medians between the stamps of the jobs sent last, in milliseconds."""
        jobs = [made.id for made, _ in self._sent.values()]
        sent = [at / 1e6 for _, at in self._sent.values()]
        called = [self._arrivals[marker] / 1e6 for marker in self._sent]
        names = ("to_row_ms", "to_queue_ms", "to_claim_ms", "to_call_ms")
        return dict(zip(names, map(float, self._stack.rows(STAGES, [jobs, sent, called])[0]), strict=True))

    def _enqueue(self, marker: str) -> Any:
        asked = job(marker)
        return self._stack.client.enqueue(ANALYSIS, asked.content, context=asked.context, lane=asked.lane)


def _peer(stack: Stack, bench: _Latency) -> Callable[[str, int], list[float]]:
    celery = CeleryPeer(stack)
    celery.worker(SLOTS)
    port = stack.endpoint.port
    return lambda name, n: bench.timed(f"peer.{name}", n, lambda marker: celery.send("peer.call", port, marker))


def _spread(name: str, times: list[float]) -> dict[str, float | None]:
    shares = {"p50": 0.50, "p99": 0.99, "max": 1.0}
    return {f"{name}_{label}_ms": quantile(times, share) for label, share in shares.items()}
