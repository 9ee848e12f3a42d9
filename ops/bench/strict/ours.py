"""Our workers under a load: real processes, one account, a catalog that says what it allows, work without end."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from ops.bench.catalogs import MadeUp
from ops.bench.proc import Cores
from ops.bench.processes import Running
from ops.bench.stack import Stack, entry, job
from ops.bench.strict.endpoint import Record, StrictEndpoint
from ops.bench.strict.loads import Load

SLOTS = 200
"""Of each worker: the shipped catalog's figure."""
KILL_EVERY_S = 20.0
LOOK_S = 0.5
WAITING_JOBS = 3_000
"""So many are enqueued at the beginning, and again whenever two thirds of that are left."""

PROVIDERS = {
    "anthropic": ("claude", "anthropic", "", {"output": "produced", "cached_input": False}),
    "openai": ("openai", "openai_compatible", "/v1", {"output": "max_tokens"}),
}
"""By whose protocol it is: name, dialect, path of the API below the endpoint's address, counting. As the shipped
catalog has them, and the variables, which are named after the protocol."""

DUE = "SELECT count(*) FROM assayline.due"


def provider(load: Load) -> MadeUp:
    """A provider whose account has the load's limits."""
    name, dialect, _, counting = PROVIDERS[load.provider]
    limits = {f"{kind}_per_min": limit for kind, limit in load.per_min.items()}
    return MadeUp(
        name,
        SLOTS,
        limits | {"concurrent_calls": load.calls_at_once},
        dialect,
        prefix=load.provider,
        more={"counting": counting},
    )


class OurWorkers:
    """A dispatcher and workers on one account, and the endpoint that judges them."""

    def __init__(
        self, stack: Stack, load: Load, workers: int, *, without: str | None, skews_s: Sequence[float]
    ) -> None:
        """Start everything and wait until it lives.

        Args:
            stack: with nothing on it yet.
            load: what the account allows, and what calls are like.
            workers: how many processes.
            without: the mechanism to switch off in them, None for none.
            skews_s: by how much each worker's clock is wrong, none for right ones. Not together with `without`.
        """
        self._stack = stack
        self._load = load
        self._without = without
        self._skews_s = skews_s
        run = uuid4().hex[:8]  # what an earlier run has asked may be answered from the cache
        self._names = (f"limits.{run}.{number}" for number in itertools.count())
        self.endpoint = StrictEndpoint(stack, load, "ours")
        self._provider = provider(load)
        _, _, path, _ = PROVIDERS[load.provider]
        stack.use_catalog([self._provider], [self.endpoint.url + path])
        self.dispatcher = stack.dispatcher(without=without)
        self._workers = [self._worker(place) for place in range(workers)]
        stack.await_workers(self._workers)

    @property
    def worker_pids(self) -> list[int]:
        """Of the workers that live now."""
        return [worker.pid for worker in self._workers]

    def run(self, seconds: int, *, kills: bool) -> tuple[Record, dict[str, Any]]:
        """Keep them in work for so many seconds; the endpoint's record, and what else was seen.

        kills: one worker after the other is killed with -9 and replaced at once.
        """
        self.endpoint.start()
        begun, cores = time.monotonic(), Cores()
        self._enqueue()
        least_due, killed = WAITING_JOBS, 0
        every_s = min(KILL_EVERY_S, seconds / 4) if kills else float("inf")
        while (now_s := time.monotonic() - begun) < seconds:
            if now_s >= every_s * (killed + 1):
                self._replace(killed % len(self._workers))
                killed += 1
            time.sleep(LOOK_S)
            self._stack.check()
            least_due = min(least_due, self._top_up())
        record, busy_percent = self.endpoint.record(seconds), cores.busy_percent()
        self.kill()
        return record, {"least_waiting": least_due, "killed": killed, "cores_busy_%": busy_percent}

    def kill(self) -> None:
        """Kill the workers: their calls may be open for long."""
        for worker in self._workers:
            self._stack.kill(worker)
        self._workers.clear()

    def _top_up(self) -> int:
        """Enqueue more where few are left; how many were due before."""
        due = self._stack.number(DUE)
        if due <= WAITING_JOBS * 2 // 3:
            self._enqueue()
        return due

    def _enqueue(self) -> None:
        names, allowed = itertools.islice(self._names, WAITING_JOBS), self._load.max_tokens
        self._stack.enqueue([job(name, lane="bulk", max_tokens=allowed) for name in names])

    def _replace(self, place: int) -> None:
        self._stack.kill(self._workers[place])
        self._workers[place] = self._worker(place)

    def _worker(self, place: int) -> Running:
        argv = entry(self._without)
        if self._skews_s:
            skew_s = self._skews_s[place % len(self._skews_s)]
            argv = (sys.executable, "-m", "ops.bench.skewed", f"{skew_s:g}")
        flags = ["--provider", self._provider.name, "--slots", str(SLOTS)]
        return self._stack.start("worker", [*argv, "worker", *flags])
