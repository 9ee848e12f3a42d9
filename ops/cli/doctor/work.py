"""Checks of what runs: the dispatcher, the workers of each provider, the queues, jobs that are stuck."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ops.cli.doctor.finding import Finding, good, odd, wrong
from ops.cli.liveness import DISPATCHERS, WORKERS
from tasks.dispatch_policy import Policy

if TYPE_CHECKING:
    from gateway.catalog import Catalog
    from ops.cli.doctor.stores import Link

# By provider: what waits, what is due, what runs. Two partial indexes carry it.
QUEUES = """
SELECT provider, count(*) FILTER (WHERE state = 'scheduled') AS scheduled,
       count(*) FILTER (WHERE state = 'scheduled' AND not_before <= clock_timestamp()) AS due,
       count(*) FILTER (WHERE state = 'queued') AS queued, count(*) FILTER (WHERE state = 'running') AS running,
       coalesce(extract(epoch FROM clock_timestamp() - min(not_before)
           FILTER (WHERE state = 'scheduled' AND not_before <= clock_timestamp())), 0)::float8 AS oldest_due_s
  FROM assayline.jobs WHERE state IN ('scheduled', 'queued', 'running') GROUP BY provider ORDER BY provider
"""

STUCK = """
SELECT count(*) FILTER (WHERE state = 'running' AND lease_until < clock_timestamp() - interval '30 seconds') AS overdue,
       count(*) FILTER (WHERE state = 'queued' AND copies >= 4) AS unclaimed
  FROM assayline.jobs WHERE state IN ('queued', 'running')
"""

LONG_DUE_S = 300.0
"""A due job that has waited so long stands behind a backlog, or nobody serves it."""


def examine(link: Link, catalog: Catalog | None) -> Iterator[Finding]:
    """What runs, and what waits for it."""
    yield dispatchers(_one(link, DISPATCHERS)["n"])
    live = {row["provider"]: row for row in link.execute(WORKERS, [Policy().dead_after_s])}
    waiting = {row["provider"]: row for row in link.execute(QUEUES)}
    served = _configured(catalog)
    yield from workers([*served, *(name for name in waiting if name not in served)], live, waiting)
    yield from queues(waiting)
    yield from stuck(_one(link, STUCK))


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
