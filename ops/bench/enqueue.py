"""How many jobs a second one producer hands over: `enqueue_many`, 2 KB of content, each job with an idempotency key.

Rows are counted in Postgres afterwards. The dispatcher runs beside it, idle: the jobs are not due before tomorrow.
Peers: a loop of Celery's `apply_async` with the same content, and a bare COPY of the same bytes into one plain table.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg

from ops.bench.celery_runs import CeleryPeer
from ops.bench.report import Check, Figures, Options, Report, median
from ops.bench.stack import Stack, job, opened
from tasks.producer import Job
from tasks.producer.jobs import wire
from tasks.producer.statements import CHUNK_ROWS, ENQUEUE, Chunk, enqueue_params

N, ROUNDS = 60_000, 3
GOAL_PER_S = 10_000.0
CELERY_SHARE = 10
"""The Celery loop sends one for each ten of ours: it is that much slower."""
TABLES = ("jobs", "job_contents", "idempotency_keys")


def run(options: Options) -> Report:
    """Measure; see the module."""
    n, rounds = options.per_round(N, ROUNDS)
    with opened(options) as stack:
        stack.dispatcher()
        stack.await_catalog()
        bench = _Enqueue(stack, n, by_rows=options.without == "copy")
        peer = CeleryPeer(stack) if options.peers else None
        bench.ours("warm", min(n, CHUNK_ROWS))
        bench.counted.clear()
        measured = [bench.round(f"{number}", peer) for number in range(1, rounds + 1)]
    rate = median([float(figures["jobs_per_s"] or 0) for figures in measured])
    checks = [Check("enqueue_many, median of the rounds", rate, "jobs/s", ">=", GOAL_PER_S)]
    checks += [
        Check(f"rows in {table}", sum(c[table] for c in bench.counted), "rows", "=", n * rounds) for table in TABLES
    ]
    peers: dict[str, Figures] = {
        title: {"per_s": median([_number(figures.get(column)) for figures in measured])}
        for title, column in (("Celery apply_async loop", "celery_per_s"), ("bare COPY", "copy_per_s"))
        if peer
    }
    return Report("enqueue", checks, measured, peers, options.without)


class _Enqueue:
    def __init__(self, stack: Stack, n: int, *, by_rows: bool) -> None:
        self._stack = stack
        self._n = n
        self._by_rows = by_rows
        self._tomorrow = datetime.now(UTC) + timedelta(days=1)
        self.counted: list[dict[str, int]] = []

    def round(self, name: str, peer: CeleryPeer | None) -> Figures:
        """Ours, then the peers."""
        jobs = self._jobs(name, self._n)
        figures: dict[str, Any] = {"jobs_per_s": self._rate(jobs)}
        if peer:
            figures["celery_per_s"] = _celery(peer, jobs[: max(1, self._n // CELERY_SHARE)])
            figures["copy_per_s"] = self._copy(jobs)
        self._stack.say(f"round {name}: {figures}")
        return figures

    def ours(self, name: str, n: int) -> float:
        """Enqueue `n` jobs; how many a second."""
        return self._rate(self._jobs(name, n))

    def _jobs(self, name: str, n: int) -> list[Job]:
        fields = {"lane": "bulk", "not_before": self._tomorrow}
        return [job(f"{name}.{place}", idempotency_key=f"{name}-{uuid4()}", **fields) for place in range(n)]

    def _rate(self, jobs: Sequence[Job]) -> float:
        before = self._count()
        start = time.perf_counter()
        if self._by_rows:
            self._row_by_row(jobs)
        else:
            for _ in self._stack.client.enqueue_many(jobs):
                pass
        elapsed_s = time.perf_counter() - start
        after = self._count()
        self.counted.append({table: after[table] - before[table] for table in TABLES})
        return len(jobs) / elapsed_s

    def _row_by_row(self, jobs: Sequence[Job]) -> None:
        """One call of the SQL function for each job; transactions as large as `enqueue_many` makes them."""
        with psycopg.connect(self._stack.servers.database_url) as connection:
            for place, one in enumerate(jobs, 1):
                connection.execute(ENQUEUE, enqueue_params(one))
                if place % CHUNK_ROWS == 0:
                    connection.commit()

    def _copy(self, jobs: Sequence[Job]) -> float:
        """The same bytes, made ready beforehand, in one transaction into one table that has no index."""
        with psycopg.connect(self._stack.servers.database_url) as connection:
            connection.execute("DROP TABLE IF EXISTS bench_copy")
            connection.execute("CREATE TABLE bench_copy (ord bigint, analysis text, content text, options jsonb)")
            connection.commit()
            text = Chunk(0, [wire(one) for one in jobs]).copy_text()
            start = time.perf_counter()
            with connection.cursor() as cursor, cursor.copy("COPY bench_copy FROM STDIN") as copy:
                copy.write(text)
            connection.commit()
            elapsed_s = time.perf_counter() - start
            rows = connection.execute("SELECT count(*) FROM bench_copy").fetchone()
        assert rows == (len(jobs),)
        return len(jobs) / elapsed_s

    def _count(self) -> dict[str, int]:
        return {table: self._stack.number(f"SELECT count(*) FROM assayline.{table}") for table in TABLES}


def _celery(peer: CeleryPeer, jobs: Sequence[Job]) -> float:
    start = time.perf_counter()
    for one in jobs:
        peer.send("peer.take", one.content)
    return len(jobs) / (time.perf_counter() - start)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
