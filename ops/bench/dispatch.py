"""How fast a dispatcher releases from a great backlog, and what that costs Postgres.

One provider, 10,000 and 1,000,000 waiting jobs, of one tenant and of a thousand. In place of workers somebody takes the
messages from the queue and ends their jobs in the way workers do, two writes each, as fast as they come: what is
measured is the dispatcher. A transaction that was begun before stays open to the end, so that Postgres can clear
nothing away. Two dispatchers run; one is killed with -9 half way.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import redis

from ops.bench.proc import cpu_s
from ops.bench.report import Check, Figures, Options, Report
from ops.bench.stack import PROVIDER, Stack, job, opened
from tasks.dispatch_policy import Policy
from tasks.sql import statement

N, SMALL = 1_000_000, 10_000
RELEASED = 20_000
"""Jobs that a run releases beyond those that wait at its end. As many from either backlog, for what has been released
stays in front of what waits, as dead entries."""
SLOTS = 2_000
GOAL_PER_S, MOST_RATIO, LONGEST_GAP_S = 1_000.0, 1.5, 2.0
MOST_UNEVEN = 4
"""Jobs: each dispatcher has a turn of its own, and begins it anew when it starts."""
LOADS = {"1 tenant": 1, "1,000 tenants": 1_000}
QUEUE = f"{PROVIDER}.bulk"
START_S = 60.0

# Rows like one that was enqueued: the bench is of the release, and a million calls of the client would take a minute.
COPIES = """
INSERT INTO assayline.jobs (
    id, tenant, analysis, lane, priority, state, reason, chain, hop, provider, model, max_attempts, use_cache,
    use_fallback, tags, not_before, created_at)
SELECT assayline.uuid7(), 'tenant-' || n %% %(tenants)s, j.analysis, 'bulk', 5, 'scheduled', 'enqueued', j.chain, 0,
       j.provider, j.model, j.max_attempts, j.use_cache, j.use_fallback, j.tags, clock_timestamp(), clock_timestamp()
  FROM assayline.jobs j, generate_series(1, %(jobs)s) n WHERE j.id = %(of)s
"""
CLAIM = """
UPDATE assayline.jobs SET state = 'running', claim_no = claim_no + 1, started_at = clock_timestamp(), incarnation = %s
 WHERE id = ANY(%s) AND state = 'queued'
"""
"""With its worker's name, or it would be rescued: a worker without a row is dead."""
END = """
UPDATE assayline.jobs SET state = 'succeeded', finished_at = clock_timestamp()
 WHERE id = ANY(%s) AND state = 'running'
"""
WORKER = """
INSERT INTO assayline.workers (incarnation, hostname, pid, providers, slots) VALUES (%s, 'bench', 0, %s, %s)
"""
SERVED = "SELECT count(*) FROM assayline.jobs WHERE release > 0 GROUP BY tenant"
NUMBERS = "SELECT id::text, release, copies FROM assayline.jobs WHERE release > 0"
"""How often each job was given a number, and how many of these its last release and its republishing account for."""
LISTENING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN "assayline_due"'
"""
"""Dispatchers that are ready: it is the last that one does before it begins to release."""
ALIVE = "UPDATE assayline.workers SET heartbeat_at = clock_timestamp() WHERE incarnation = %s"


@dataclass(slots=True)
class Taken:
    """What came out of the queue: when each portion came, how often each message, whose jobs."""

    at: list[float] = field(default_factory=list)
    messages: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def jobs(self) -> int:
        """How many different jobs."""
        return len({job for job, _ in self.messages})

    @property
    def longest_gap_s(self) -> float:
        """Between two portions."""
        return max((after - before for before, after in zip(self.at, self.at[1:], strict=False)), default=0.0)


class Drain(threading.Thread):
    """Takes messages and ends their jobs, until told to stop. It stands for so many slots that are never full."""

    def __init__(self, stack: Stack, slots: int) -> None:
        super().__init__(daemon=True)
        self._slots = slots
        self._servers = stack.servers
        self._stopping = threading.Event()
        self.taken = Taken()
        self.failed: BaseException | None = None

    def run(self) -> None:
        """Drain."""
        try:
            self._drain()
        except BaseException as error:
            self.failed = error

    def stop(self) -> None:
        """Stop, and raise what went wrong."""
        self._stopping.set()
        self.join()
        if self.failed is not None:
            raise self.failed

    def _drain(self) -> None:
        incarnation, alive_at = uuid4(), 0.0
        with (
            redis.Redis.from_url(self._servers.redis_url) as broker,
            psycopg.connect(self._servers.database_url, autocommit=True) as database,
        ):
            database.execute(WORKER, [incarnation, [PROVIDER], self._slots])
            while not self._stopping.is_set():
                if time.monotonic() - alive_at > 1.0:
                    database.execute(ALIVE, [incarnation])
                    alive_at = time.monotonic()
                found = broker.lpop(QUEUE, 500) or broker.rpop(QUEUE, 500)
                if not found:
                    time.sleep(0.002)
                    continue
                bodies = [json.loads(raw)["headers"]["id"].rpartition(":") for raw in found]
                self.taken.at.append(time.monotonic())
                self.taken.messages.update((job_id, int(release)) for job_id, _, release in bodies)
                ids = [job_id for job_id, _, _ in bodies]
                database.execute(CLAIM, [incarnation, ids])
                database.execute(END, [ids])


def run(options: Options) -> Report:
    """Measure; see the module. `n`: how many wait in the great backlog."""
    return measure(options, {name: LOADS[name] for name in options.loads or LOADS})


def measure(options: Options, loads: Mapping[str, int], *, slots: int = SLOTS) -> Report:
    """Measure.

    Args:
        options: as for every bench.
        loads: of how many tenants the jobs are, by the load's name.
        slots: that are said to be there. Few for tests: of a short backlog some is left when a dispatcher is killed.
    """
    n = options.n or N
    small = min(SMALL, max(60, n // 100))
    rounds: list[Figures] = []
    checks: list[Check] = []
    for load, tenants in loads.items():
        few = _measured(options, load, tenants, slots, small, min(RELEASED, n // 2))
        many = _measured(options, load, tenants, slots, n, min(RELEASED, n // 2))
        rounds += [few, many]
        checks += judged(load, tenants, few, many)
    return Report("dispatch", checks, rounds, without=options.without)


def judged(load: str, tenants: int, few: Mapping[str, Any], many: Mapping[str, Any]) -> list[Check]:
    """What the run with the great backlog must reach, `few` being that with the small one."""
    ratio = many["blocks_per_row"] / max(1e-9, few["blocks_per_row"])
    sizes = f"{many['waiting']:,} / {few['waiting']:,} waiting"
    checks = [
        Check(f"{load}, {many['waiting']:,} waiting: released", many["per_s"], "jobs/s", ">=", GOAL_PER_S),
        Check(f"{load}: blocks a row, {sizes}", ratio, "x", "<=", MOST_RATIO),
        Check(f"{load}: longest gap, one of two dispatchers killed", many["gap_s"], "s", "<=", LONGEST_GAP_S),
        Check(f"{load}: released twice", many["twice"], "messages", "=", 0),
    ]
    if tenants > 1:
        uneven = many["most_of_a_tenant"] - many["least_of_a_tenant"]
        checks.append(Check(f"{load}: most served - least served", uneven, "jobs", "<=", MOST_UNEVEN))
    return checks


def released_twice(messages: Mapping[tuple[str, int], int], rows: Mapping[str, tuple[int, int]]) -> int:
    """How many messages there were beyond those that are accounted for.

    Args:
        messages: how often each came, by job and release number.
        rows: of each job the number of its last release or republishing, and `copies`: one for its last release and
            one for each republishing since. No job of this bench goes back to wait, so each is released once.
    """
    came: Counter[str] = Counter()
    for (job_id, _), times in messages.items():
        came[job_id] += times
    # A number is a release, whether or not its message came.
    return sum(
        max(0, max(came[job_id], number) - copies)
        for job_id, (number, copies) in (dict.fromkeys(came, (0, 0)) | dict(rows)).items()
    )


def _measured(options: Options, load: str, tenants: int, slots: int, waiting: int, released: int) -> dict[str, Any]:
    with opened(options) as stack:
        first = stack.dispatcher(without=options.without)
        stack.await_catalog()
        _fill(stack, waiting + released, tenants)
        with psycopg.connect(stack.servers.database_url) as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT count(*) FROM assayline.workers")
            second = stack.dispatcher(without=options.without)
            stack.until(lambda: stack.number(LISTENING) == 2, START_S, "both dispatchers")
            drain = Drain(stack, slots)
            cpu_before = cpu_s(first.pid) + cpu_s(second.pid)
            drain.start()
            stack.until(lambda: drain.failed or drain.taken.jobs >= released // 2, 300.0, "half of the releases")
            cpu_s_used = cpu_s(first.pid) + cpu_s(second.pid) - cpu_before
            half = drain.taken.jobs
            stack.kill(first)
            stack.until(lambda: drain.failed or drain.taken.jobs >= released, 300.0, "the releases")
            taken = drain.taken
            elapsed_s = max(0.001, taken.at[-1] - taken.at[0])
            jobs = taken.jobs
            stack.stop(second)  # not killed: what it releases, it sends
            drain.stop()
            served = [n for (n,) in stack.rows(SERVED)]
            numbers = {job_id: (number, copies) for job_id, number, copies in stack.rows(NUMBERS)}
            figures: dict[str, Any] = {
                "load": load,
                "waiting": waiting,
                "released": jobs,
                "per_s": jobs / elapsed_s,
                "gap_s": taken.longest_gap_s,
                "twice": released_twice(taken.messages, numbers),
                "blocks_per_row": _blocks_per_row(stack),
                "dispatcher_ms_per_job": 1_000 * cpu_s_used / half,
                "most_of_a_tenant": max(served),
                "least_of_a_tenant": min(served) if len(served) == tenants else 0,
            }
    options.say(f"{load}, {waiting:,} waiting: {figures}")
    return figures


def _fill(stack: Stack, jobs: int, tenants: int) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    [receipt] = stack.client.enqueue_many([job("template", lane="bulk", not_before=tomorrow)])
    began = time.monotonic()
    for portion in range(0, jobs, 100_000):
        wanted = {"tenants": tenants, "jobs": min(100_000, jobs - portion), "of": receipt.id}
        with psycopg.connect(stack.servers.database_url) as database:
            database.execute(COPIES, wanted)
    stack.client.cancel(receipt.id)
    with psycopg.connect(stack.servers.database_url, autocommit=True) as database:
        database.execute("VACUUM ANALYZE assayline.jobs, assayline.due")
    stack.say(f"{jobs:,} jobs wait after {time.monotonic() - began:.0f} s")


def _blocks_per_row(stack: Stack) -> float:
    """Blocks that a release of a hundred jobs reads for each, while the transaction is open, its plans being made."""
    policy = Policy()
    text = statement("release").text
    parameters = {
        "provider": PROVIDER, "lane": "bulk", "groups": json.dumps([{"models": None, "most": None, "more": None}]),
        "weights": "{}", "active_since": None, "most": 100, "backlog_share": policy.backlog_share,
        "least_backlog": policy.least_backlog, "bulk_share": policy.bulk_share, "dead_after_s": policy.dead_after_s,
    }  # fmt: skip
    for name in sorted(parameters, key=len, reverse=True):
        text = text.replace(f":{name}", f"%({name})s")
    with psycopg.connect(stack.servers.database_url, autocommit=True) as database:
        for _ in range(3):
            [(found,)] = database.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + text, parameters).fetchall()
    plan = found[0]["Plan"]
    return float((plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]) / plan["Actual Rows"])
