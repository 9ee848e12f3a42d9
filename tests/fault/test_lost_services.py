"""Redis and Postgres going away in mid-call, and coming back: nothing paid is lost, and work goes on afterwards."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
import redis
from nodes.brokers import chosen
from nodes.health import health, parts
from nodes.waiting import eventually

from ops.embedded import EmbeddedPostgres, EmbeddedValkey
from ops.migrate import upgrade
from ops.supervisor import ports
from workers.health.thresholds import Thresholds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from nodes.cluster import AssaylineSetup

TRYING = "trying the write again"
PAID_ONCE = [(1, 1, "succeeded")]
LEAVES_WITHIN_S = 10.0
"""Half a second of grace, and one that Celery has; a Redis that hangs would hold it for as long as it hangs."""
THE_BROKER_TOO = pytest.mark.skipif(
    chosen() != "redis", reason="the Redis that is lost is the broker; another broker's loss has tests of its own"
)


@pytest.fixture(scope="module")
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A server that may be stopped: nobody else uses it."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def own_postgres(services_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A server that may be stopped, migrated."""
    server = EmbeddedPostgres(services_directory / "postgres-to-be-stopped", durable=False)
    upgrade(server.start())
    yield server
    server.stop()


@pytest.fixture
def redis_url(own_valkey: EmbeddedValkey) -> str:
    with redis.Redis.from_url(own_valkey.url) as client:
        client.flushall()
    return own_valkey.url


@pytest.fixture
def database_url(own_postgres: EmbeddedPostgres) -> str:
    return own_postgres.url


def in_mid_call(setup: AssaylineSetup) -> tuple[UUID, str]:
    job, marker = setup.enqueue(held=True)
    eventually(lambda: setup.wire.calls(marker) == 1)
    return job, marker


def assert_still_working(setup: AssaylineSetup) -> None:
    """Another job comes through."""
    job, _ = setup.enqueue()
    setup.ended(job, within_s=30)


def test_redis_connections_cut_in_mid_call(celery_setup: AssaylineSetup) -> None:
    """The running job's message does not come back, other jobs come through beside it."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start()
    job, marker = in_mid_call(setup)

    with setup.redis as client:
        for kind in ("normal", "pubsub"):
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    assert_still_working(setup)
    setup.wire.release(marker)

    eventually(lambda: worker.endings(job) == [(1, "succeeded")])
    assert setup.store.calls(job) == PAID_ONCE
    assert setup.wire.calls(marker) == 1
    assert worker.container.status == "running"


def test_redis_gone_in_mid_call(celery_setup: AssaylineSetup, own_valkey: EmbeddedValkey) -> None:
    """The answer is written while Redis is away; once it is back, worker and dispatcher go on."""
    setup = celery_setup
    dispatcher = setup.start_dispatcher()
    worker = setup.workers.start()
    job, marker = in_mid_call(setup)

    own_valkey.stop()
    setup.wire.release(marker)
    setup.ended(job)
    worker.wait_for_log("Redis is away")
    own_valkey.start()

    assert_still_working(setup)
    assert setup.store.calls(job) == PAID_ONCE
    assert setup.wire.calls(marker) == 1
    assert dispatcher.container.status == worker.container.status == "running"
    assert worker.logs().count("Redis is away") == 1


@THE_BROKER_TOO
def test_a_worker_without_redis_still_ends_on_sigterm(celery_setup: AssaylineSetup, own_valkey: EmbeddedValkey) -> None:
    """Its call finishes, its result is written, and nothing hangs on the broker that is not there."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start(grace_s=3600.0)
    job, marker = in_mid_call(setup)

    own_valkey.stop()
    worker.wait_for_log("Connection to broker lost")
    worker.kill("SIGTERM")
    setup.wire.release(marker)
    code = worker.container.wait()
    own_valkey.start()

    assert code == 0, worker.logs()
    assert setup.store.calls(job) == PAID_ONCE
    assert setup.store.state(job) == "succeeded"


def test_a_worker_whose_redis_hangs_still_ends_on_sigterm(
    celery_setup: AssaylineSetup, own_valkey: EmbeddedValkey
) -> None:
    """Not gone: stopped in the middle of its connections. Celery would wait for it; the worker does not."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start(grace_s=0.5, let_go_s=1.0)
    job, marker = in_mid_call(setup)
    server = int((own_valkey.directory / "valkey.pid").read_text())

    os.kill(server, signal.SIGSTOP)
    try:
        worker.kill("SIGTERM")
        code = worker.container.wait(LEAVES_WITHIN_S)
    finally:
        os.kill(server, signal.SIGCONT)

    assert code == 0, worker.logs()
    # Another broker is there, and lets it go.
    assert ("the worker ends without it" in worker.logs()) is (chosen() == "redis")
    assert setup.store.calls(job)[0] == (1, 1, "abandoned")
    assert setup.store.job(job)["reason"] != "rescue"
    assert setup.wire.hung_up(marker) == 1
    assert worker.container.pid not in {row["pid"] for row in setup.store.workers()}


def test_postgres_connections_cut_in_mid_call(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    dispatcher = setup.start_dispatcher()
    worker = setup.workers.start()
    job, marker = in_mid_call(setup)

    assert setup.store.cut_connections() >= 3
    setup.wire.release(marker)

    setup.ended(job)
    assert_still_working(setup)
    assert setup.store.calls(job) == PAID_ONCE
    assert dispatcher.container.status == worker.container.status == "running"


def test_postgres_gone_in_mid_call(celery_setup: AssaylineSetup, own_postgres: EmbeddedPostgres) -> None:
    """The answer that was paid for waits in the worker until Postgres is back, and so does a message that comes."""
    setup = celery_setup
    dispatcher = setup.start_dispatcher()
    worker = setup.workers.start()
    job, marker = in_mid_call(setup)

    setup.store.close()
    own_postgres.stop()
    setup.publish((job, 1))
    worker.wait_for_log(TRYING)
    tried = worker.logs().count(TRYING)
    setup.wire.release(marker)
    eventually(lambda: worker.logs().count(TRYING) > tried + 3)
    own_postgres.start()

    setup.ended(job)
    assert_still_working(setup)
    assert setup.store.calls(job) == PAID_ONCE
    assert setup.wire.calls(marker) == 1
    assert dispatcher.container.status == worker.container.status == "running"


@THE_BROKER_TOO
def test_a_worker_without_redis_is_left_alone_and_ready_again_afterwards(
    celery_setup: AssaylineSetup, own_valkey: EmbeddedValkey
) -> None:
    """To kill it for that would help nobody; to stand still once Redis is back would be another thing."""
    setup = celery_setup
    port = ports.pick()
    setup.workers.start(health_port=port, thresholds=Thresholds(look_every_s=0.1))
    eventually(lambda: health(port, "ready")[0] == 200)

    own_valkey.stop()
    eventually(lambda: parts(health(port)[1], deadly=False) == {"broker", "consumer"})
    assert (health(port)[0], health(port, "ready")[0]) == (200, 503)
    own_valkey.start()

    eventually(lambda: health(port, "ready")[0] == 200)
