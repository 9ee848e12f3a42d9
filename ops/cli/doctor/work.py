"""Checks of what runs: the dispatcher, the workers of each provider, the queues, jobs that are stuck."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psycopg

from ops.cli import liveness
from ops.cli.doctor.finding import Finding, good, noted, odd, wrong
from tasks.dispatch_policy import Policy
from tasks.pauses import LISTED, Pause
from tasks.unknown import for_psycopg

if TYPE_CHECKING:
    from gateway.catalog import Catalog
    from ops.cli.doctor.stores import Link

# By provider: what waits, what is due, what runs; of what is due, how long the thousand that are longest there wait.
QUEUES = """
WITH placed AS (
    SELECT provider, job_id, row_number() OVER (PARTITION BY provider ORDER BY job_id) AS place FROM assayline.due
), due AS (
    SELECT d.provider, count(*) AS jobs, min(f.not_before) AS oldest
      FROM placed d LEFT JOIN assayline.jobs f ON d.place <= 1000 AND f.id = d.job_id GROUP BY d.provider
), later AS (
    SELECT j.provider, count(*) AS jobs
      FROM assayline.later l JOIN assayline.jobs j ON j.id = l.job_id GROUP BY j.provider
), out AS (
    SELECT provider, count(*) FILTER (WHERE state = 'queued') AS queued,
           count(*) FILTER (WHERE state = 'running') AS running
      FROM assayline.jobs WHERE state IN ('queued', 'running') GROUP BY provider
)
SELECT provider, coalesce(d.jobs, 0) + coalesce(l.jobs, 0) AS scheduled, coalesce(d.jobs, 0) AS due,
       coalesce(o.queued, 0) AS queued, coalesce(o.running, 0) AS running,
       coalesce(extract(epoch FROM clock_timestamp() - d.oldest), 0)::float8 AS oldest_due_s
  FROM due d FULL JOIN later l USING (provider) FULL JOIN out o USING (provider) ORDER BY provider
"""

STUCK = """
SELECT count(*) FILTER (WHERE state = 'running' AND lease_until < clock_timestamp() - interval '30 seconds') AS overdue,
       count(*) FILTER (WHERE state = 'queued' AND copies >= 4) AS unclaimed
  FROM assayline.jobs WHERE state IN ('queued', 'running')
"""

WAITING = """
SELECT (SELECT count(*) FROM assayline.jobs WHERE state = 'scheduled') AS scheduled,
       (SELECT count(*) FROM assayline.waiting) AS waiting
"""
COUNTED_FOR_S = 5
"""No index knows how many jobs are scheduled: where there are tens of millions of all states, nobody waits for it."""

LONG_DUE_S = 300.0
"""A due job that has waited so long stands behind a backlog, or nobody serves it."""


def examine(link: Link, catalog: Catalog | None) -> Iterator[Finding]:
    """What runs, and what waits for it."""
    yield dispatchers(liveness.dispatchers(link)["n"])
    live = liveness.workers(link, Policy().dead_after_s)
    waiting = {row["provider"]: row for row in link.execute(QUEUES)}
    served = _configured(catalog)
    yield from workers([*served, *(name for name in waiting if name not in served)], live, waiting)
    yield from queues(waiting)
    yield from pauses([Pause.from_row(row) for row in link.execute(for_psycopg(LISTED).encode())])
    yield from stuck(_one(link, STUCK))
    yield found(_counted(link))


def dispatchers(count: int) -> Finding:
    """Judge how many dispatchers listen."""
    if count == 0:
        return wrong("dispatcher", "none listens to this database: jobs stay scheduled", "assayline dispatcher")
    return good("dispatcher", "1 listens" if count == 1 else f"{count} listen")


def workers(
    names: Sequence[str], live: Mapping[str, Mapping[str, Any]], waiting: Mapping[str, Mapping[str, Any]]
) -> Iterator[Finding]:
    """Judge for each provider whether somebody serves it. A worker counts as dead after 20 s without a heartbeat."""
    for name in names:
        if name in live:
            count, slots = live[name]["workers"], live[name]["slots"]
            yield good(f"worker {name}", f"{count} alive with {slots} slots")
            continue
        said = "none is alive" + (f", and {_waits(waiting[name])} jobs wait for one" if name in waiting else "")
        yield wrong(f"worker {name}", said, f"assayline worker --provider {name}")


def queues(waiting: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Say how deep the queues are."""
    if not waiting:
        yield good("queues", "empty")
    for name, row in waiting.items():
        said = f"{row['scheduled']} scheduled ({row['due']} due), {row['queued']} queued, {row['running']} running"
        if row["oldest_due_s"] > LONG_DUE_S:
            mend = "see the worker's and dispatcher's lines above; a long backlog needs more slots"
            yield odd(f"queue {name}", f"{said}; one has been due for {row['oldest_due_s']:,.0f} s", mend)
        else:
            yield good(f"queue {name}", said)


def pauses(found: Sequence[Pause]) -> Iterator[Finding]:
    """Name what an operator has stopped: its jobs wait, and nothing else says why."""
    for one in found:
        said = f"paused since {one.since:%Y-%m-%d %H:%M} UTC" + (f": {one.why}" if one.why else "")
        yield odd(f"{one.kind} {one.name}", said, shlex.join(("assayline", "resume", one.kind, one.name)))


def stuck(row: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge jobs that should have moved: a dispatcher rescues and publishes again within seconds."""
    if row["overdue"]:
        said = f"{row['overdue']} attempts run beyond their lease and nobody rescues them"
        yield wrong("stuck jobs", said, "start a dispatcher: assayline dispatcher")
    if row["unclaimed"]:
        said = f"{row['unclaimed']} jobs were published four times and not claimed"
        yield wrong("stuck jobs", said, "do workers and dispatcher use the same broker? compare ASSAYLINE_BROKER_URL")
    if not (row["overdue"] or row["unclaimed"]):
        yield good("stuck jobs", "none")


def found(row: Mapping[str, Any] | None) -> Finding:
    """Judge whether each job that is scheduled is where a release finds it. None: they were too many to count."""
    if row is None:
        return noted("waiting jobs", f"not compared with jobs: they could not be counted within {COUNTED_FOR_S} s")
    strays = row["waiting"] - row["scheduled"]
    mend = "a partition of jobs came or went; in psql: SELECT * FROM assayline.mend_waiting()"
    if strays > 0:
        return odd("waiting jobs", f"{strays} rows of due and later have no scheduled job", mend)
    if strays < 0:
        return wrong(
            "waiting jobs", f"{-strays} scheduled jobs are neither in due nor in later: none is released", mend
        )
    return good("waiting jobs", f"{row['scheduled']}, each where a release finds it")


def _counted(link: Link) -> Mapping[str, Any] | None:
    try:
        with link.transaction():
            link.execute(f"SET LOCAL statement_timeout TO '{COUNTED_FOR_S}s'")
            return _one(link, WAITING)
    except psycopg.errors.QueryCanceled:
        return None


def _waits(row: Mapping[str, Any]) -> int:
    return int(row["scheduled"] + row["queued"] + row["running"])


def _configured(catalog: Catalog | None) -> list[str]:
    if catalog is None:
        return []
    return list(dict.fromkeys(queue.partition(".")[0] for queue in catalog.queues()))


def _one(link: Link, query: str) -> Mapping[str, Any]:
    row = link.execute(query).fetchone()
    assert row is not None
    return row
