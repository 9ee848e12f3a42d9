"""Our workers at two providers, both lanes in work, and what Postgres says became of the jobs."""

from __future__ import annotations

import itertools
from uuid import uuid4

from ops.bench.catalogs import MadeUp
from ops.bench.outage.endpoint import OutageEndpoint
from ops.bench.outage.judge import PRIMARY, SECONDARY, Asked, Call
from ops.bench.stack import Stack, entry, job
from tasks.producer import Client, Job

SLOTS = 40
"""Of each provider's worker."""
PER_MIN = {PRIMARY: 1_800, SECONDARY: 1_200}
"""Requests that each provider allows: the second one bears the interactive jobs, not all that the first one does."""
TIMEOUT_S = {PRIMARY: 3.0, SECONDARY: 10.0}
"""The primary's is short, as for an endpoint that answers within 0.3 s: a hang cannot be seen before it."""
WAITING_JOBS = 200
"""Of the bulk lane, about ten seconds' worth: so many are enqueued whenever half of that is left."""
PROVIDERS = [
    MadeUp(name, SLOTS, {"requests_per_min": PER_MIN[name]}, more={"timeout_s": TIMEOUT_S[name]})
    for name in (PRIMARY, SECONDARY)
]

JOBS = """
    SELECT extract(epoch FROM created_at)::float8,
           CASE WHEN state = 'succeeded' THEN extract(epoch FROM finished_at)::float8 END, provider
      FROM assayline.jobs WHERE source = %s AND lane = %s AND created_at > to_timestamp(%s) ORDER BY created_at
"""
FAILED_CALLS = """
    SELECT extract(epoch FROM started_at)::float8, extract(epoch FROM finished_at)::float8
      FROM assayline.calls
     WHERE provider = %s AND outcome <> 'not_called' AND job_id IN (SELECT id FROM assayline.jobs WHERE source = %s)
"""
DUE = "SELECT count(*) FROM assayline.jobs WHERE source = %s AND lane = 'bulk' AND state = 'scheduled'"
NOT_ENDED = """
    SELECT count(*) FROM assayline.jobs WHERE source = %s AND state IN ('scheduled', 'queued', 'running')
"""
STANDING = """
    SELECT count(*) FROM assayline.jobs
     WHERE source = %s AND provider = %s AND state IN ('scheduled', 'queued', 'running')
"""
FAILED = """
    SELECT count(*) FROM assayline.jobs
     WHERE source = %s AND state NOT IN ('succeeded', 'scheduled', 'queued', 'running')
"""


class OurSystem:
    """A dispatcher, and a worker at each of two providers."""

    def __init__(self, stack: Stack, *, without: str | None) -> None:
        """Start everything and wait until it lives. `without`: the mechanism to switch off, None for none."""
        self._stack = stack
        self._run = f"failover-{uuid4().hex[:8]}"
        self._numbers = itertools.count()
        self._client = Client(stack.servers.database_url, stack.servers.redis_url)
        self.primary, self._secondary = OutageEndpoint(stack, PRIMARY), OutageEndpoint(stack, SECONDARY)
        stack.use_catalog(PROVIDERS, [self.primary.url, self._secondary.url])
        stack.dispatcher(without=without)
        self._workers = [
            stack.start(f"worker-{name}", [*entry(without), "worker", "--provider", name])
            for name in (PRIMARY, SECONDARY)
        ]
        stack.await_workers(self._workers)

    def ask(self) -> None:
        """Enqueue one interactive job. May be called from one thread beside those that call the rest."""
        one = self._job("interactive")
        self._client.enqueue(one.analysis, one.content, context=one.context, lane=one.lane, source=one.source)

    def close(self) -> None:
        """End the workers, whatever still runs: calls may be open for long. Close what `ask` uses."""
        for worker in self._workers:
            self._stack.kill(worker)
        self._client.close()

    def top_up(self) -> None:
        """Enqueue more of the bulk lane where few are left."""
        if self._stack.number(DUE, [self._run]) <= WAITING_JOBS // 2:
            self._stack.enqueue([self._job("bulk") for _ in range(WAITING_JOBS)])

    def jobs(self, lane: str, since_s: float = 0.0) -> list[Asked]:
        """The jobs of a lane that were enqueued since then."""
        return [Asked(*row) for row in self._stack.rows(JOBS, [self._run, lane, since_s])]

    def ledger(self) -> list[Call]:
        """The primary's calls as the ledger has them: the record of what reached nobody."""
        return [Call("", *row) for row in self._stack.rows(FAILED_CALLS, [PRIMARY, self._run])]

    def left_elsewhere(self) -> int:
        """Jobs that stand at the secondary now and have not ended."""
        return self._stack.number(STANDING, [self._run, SECONDARY])

    def failed(self) -> int:
        """Jobs that have ended, but not well."""
        return self._stack.number(FAILED, [self._run])

    def not_ended(self) -> int:
        """Jobs that have not ended."""
        return self._stack.number(NOT_ENDED, [self._run])

    def _job(self, lane: str) -> Job:
        return job(f"{self._run}.{next(self._numbers)}", lane=lane, source=self._run)
