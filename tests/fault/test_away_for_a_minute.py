"""Postgres or Redis away for a minute: workers wait and come back; no job is lost, failed, run twice or paid twice.

Nobody waits that minute: while the outage lasts, what it would make older is made older by hand. How long a write is
tried is told by `tests/unit/test_patience.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from nodes.entries import DispatcherPlan
from nodes.health import health
from nodes.link import Linked
from nodes.waiting import eventually

from gateway.redis_clients import blocking_client
from ops.supervisor import ports
from tasks.dispatch_policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from nodes.brokers import Broker
    from nodes.cluster import AssaylineSetup, DispatcherNode, WorkerNode
    from nodes.records import Records

A_MINUTE_S = 60.0
FASTER = Policy(poll_s=0.2, dead_after_s=10.0, rescue_every_s=0.05, republish_every_s=0.05)
"""What lies between two looks is shorter than in life; what a job or a worker may be late is not, but for the death of
a worker: a server that has just started would keep it alive for twenty seconds."""
PAID_ONCE = [(1, 1, "succeeded")]
SERVER_IS_OLD_ENOUGH = (
    "SELECT pg_sleep(greatest(0, %s - extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())))"
)
"""For anybody to be taken for dead: of a test that runs by itself the server has just been started."""


@pytest.fixture
def postgres(database_url: str) -> Iterator[Linked]:
    """The worker's way to Postgres."""
    with Linked(database_url) as link:
        yield link


@pytest.fixture
def dispatchers_postgres(database_url: str) -> Iterator[Linked]:
    with Linked(database_url) as link:
        yield link


@pytest.fixture
def own_redis(redis_url: str) -> Iterator[Linked]:
    """The way of all processes to Redis."""
    with Linked(redis_url) as link:
        yield link


@pytest.fixture
def processes_env(node_env: dict[str, str], broker: Broker, postgres: Linked, own_redis: Linked) -> dict[str, str]:
    env = node_env | {"ASSAYLINE_DATABASE_URL": postgres.url, "ASSAYLINE_REDIS_URL": own_redis.url}
    return env if broker.url == node_env["ASSAYLINE_REDIS_URL"] else env | {"ASSAYLINE_BROKER_URL": broker.url}


@pytest.fixture
def health_port() -> int:
    return ports.pick()


@pytest.fixture
def dispatcher(celery_setup: AssaylineSetup, dispatchers_postgres: Linked, health_port: int) -> DispatcherNode:
    """One that has its own way to Postgres."""
    plan = DispatcherPlan(policy=FASTER, health_port=health_port)
    return celery_setup.start_dispatcher(plan, ASSAYLINE_DATABASE_URL=dispatchers_postgres.url)


def in_mid_call(setup: AssaylineSetup) -> tuple[UUID, str]:
    job, marker = setup.enqueue(held=True)
    eventually(lambda: setup.wire.calls(marker) == 1)
    return job, marker


def claims_grow_older(store: Records) -> None:
    store.rows(
        "UPDATE assayline.jobs SET started_at = started_at - a.minute, lease_until = lease_until - a.minute"
        " FROM (SELECT make_interval(secs => %s)) AS a(minute)",
        A_MINUTE_S,
    )


def silence_grows_longer(store: Records) -> None:
    """Nobody was heard, and nobody looked."""
    for last in ("workers SET heartbeat_at = heartbeat_at", "sight SET looked_at = looked_at"):
        store.rows(f"UPDATE assayline.{last} - make_interval(secs => %s)", A_MINUTE_S)


def messages_grow_older(store: Records) -> None:
    store.rows("UPDATE assayline.jobs SET queued_at = queued_at - make_interval(secs => %s)", A_MINUTE_S)


def keys_grow_older(redis_url: str) -> None:
    """Slots, leases and answers of a Redis that nobody reached for a minute."""
    with blocking_client(redis_url) as client:
        for key in client.keys("*"):
            left_ms = client.pttl(key)
            if left_ms >= 0:
                client.pexpire(key, int(left_ms - A_MINUTE_S * 1_000))


def wait_for_a_look_at_the_dead(port: int) -> None:
    """Until the dispatcher has asked once more who is dead."""
    began = time.monotonic()
    eventually(lambda: health(port)[1]["passed_s"]["rescue"] < time.monotonic() - began)


def assert_each_ran_once(setup: AssaylineSetup, jobs: dict[UUID, str], worker: WorkerNode) -> None:
    for job in jobs:
        setup.ended(job)
    assert setup.store.states() == {"succeeded": len(jobs)}
    for job, marker in jobs.items():
        row = setup.store.job(job)
        assert (row["claim_no"], row["attempts_used"], row["causes"]) == (1, 1, [])
        assert setup.store.calls(job) == PAID_ONCE
        assert setup.wire.calls(marker) == 1
        eventually(lambda job=job: [ending for _, ending in worker.endings(job)].count("succeeded") == 1)  # type: ignore[misc]
    assert "lost worker" not in setup.all_logs()
    assert [row["pid"] for row in setup.store.workers()] == [worker.container.pid]


def test_postgres_away_for_a_minute(
    celery_setup: AssaylineSetup,
    dispatcher: DispatcherNode,
    health_port: int,
    postgres: Linked,
    dispatchers_postgres: Linked,
) -> None:
    """An answer comes meanwhile, another later; a message waits in the worker's hands, and a job is enqueued.

    The dispatcher is back before the worker: all heartbeats that it sees are a minute old.
    """
    setup = celery_setup
    setup.store.rows(SERVER_IS_OLD_ENOUGH, FASTER.dead_after_s + 1.0)
    worker = setup.workers.start(slots=3)
    jobs = dict(in_mid_call(setup) for _ in range(2))
    meanwhile, later = jobs.values()

    dispatchers_postgres.tell("refuse")
    postgres.tell("refuse")
    setup.wire.release(meanwhile)
    eventually(lambda: "trying the write again" in worker.logs())
    unheard, marker = setup.enqueue()
    jobs[unheard] = marker
    setup.publish((unheard, setup.store.release(unheard)))
    tried = worker.logs().count("trying the write again")
    eventually(lambda: worker.logs().count("trying the write again") > tried + 3)
    waiting, marker = setup.enqueue()
    jobs[waiting] = marker
    claims_grow_older(setup.store)
    silence_grows_longer(setup.store)
    dispatchers_postgres.tell("pass")
    wait_for_a_look_at_the_dead(health_port)
    postgres.tell("pass")
    messages_grow_older(setup.store)
    setup.wire.release(later)

    assert_each_ran_once(setup, jobs, worker)
    assert dispatcher.container.status == worker.container.status == "running"


def test_redis_away_for_a_minute(
    celery_setup: AssaylineSetup, dispatcher: DispatcherNode, own_redis: Linked, redis_url: str
) -> None:
    """An answer comes meanwhile and is stored, another later; a message lies in Redis, a job is enqueued."""
    setup = celery_setup
    worker = setup.workers.start(slots=2)
    jobs = dict(in_mid_call(setup) for _ in range(2))
    meanwhile, later = jobs.values()
    lying, marker = setup.enqueue()
    jobs[lying] = marker
    eventually(lambda: setup.store.state(lying) == "queued" and setup.waiting_messages())

    own_redis.tell("refuse")
    setup.wire.release(meanwhile)
    setup.ended(next(iter(jobs)))
    waiting, marker = setup.enqueue()
    jobs[waiting] = marker
    eventually(lambda: "Redis is away" in worker.logs())
    messages_grow_older(setup.store)
    keys_grow_older(redis_url)
    own_redis.tell("pass")
    setup.wire.release(later)

    assert_each_ran_once(setup, jobs, worker)
    assert dispatcher.container.status == worker.container.status == "running"
