"""Redis behind Sentinels, as the broker and for everything else: the master is demoted, or dies, and work goes on.

All other worker and fault tests go through such a broker too with `ASSAYLINE_TEST_BROKER=sentinel`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import redis
from nodes.brokers import RedisBroker, started_sentinels
from nodes.cluster import PROVIDER, QUEUES
from nodes.sentinels import MASTER, PASSWORD
from nodes.waiting import eventually

from gateway.redis_clients import client
from gateway.redis_line import RedisLine
from gateway.settings import Settings
from ops.cli.doctor import brokers, stores
from ops.cli.doctor.finding import Verdict
from tasks.job import Released

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nodes.cluster import AssaylineSetup
    from nodes.sentinels import SentinelSet

PAID_ONCE = [(1, 1, "succeeded")]
FAILED_OVER_WITHIN_S = 15.0
"""The Sentinels of these tests take a second or two; those of an installation have half a minute by default."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    """Shared by the tests, in order: the last one kills the master."""
    yield from started_sentinels(tmp_path_factory.mktemp("sentinels"))


@pytest.fixture
def redis_url(servers: SentinelSet) -> str:
    """For limits, cache and results as well."""
    return servers.url()


@pytest.fixture
def broker(servers: SentinelSet) -> RedisBroker:
    found = RedisBroker(servers.url())
    found.lose_all()
    return found


def test_doctor_says_what_the_sentinels_say(servers: SentinelSet, tmp_path: Path) -> None:
    settings = Settings(redis_url=servers.url(), broker_url=servers.url(1))

    own = {finding.subject: finding for finding in stores.redis(settings, tmp_path)}
    others = {finding.subject: finding for finding in brokers.examine(settings, QUEUES)}

    assert own["sentinels"] == others["sentinels"]
    assert own["sentinels"].verdict is Verdict.GOOD
    assert f"3 of 3 name 127.0.0.1:{servers.master().port} as {MASTER}, with 1 replica" in own["sentinels"].said
    assert "valkey" in own["redis"].said
    assert others["broker"].verdict is Verdict.GOOD
    assert PASSWORD not in repr([*own.values(), *others.values()])


def test_doctor_says_why_no_sentinel_helps(servers: SentinelSet, tmp_path: Path) -> None:
    url = servers.url().replace(f"master_name={MASTER}", "master_name=another")
    findings = list(stores.redis(Settings(redis_url=url), tmp_path))
    assert [finding.subject for finding in findings] == ["sentinels", "redis"]
    assert "none names another" in findings[0].said


async def test_a_line_and_a_client_follow_the_master(servers: SentinelSet) -> None:
    """A manual failover: the old master lives on as a replica, and takes no writes."""
    line, other = RedisLine.from_url(servers.url(), probe_every_s=0.05), client(servers.url())
    assert await line.ask(("SET", "kept", "1")) == [b"OK"]
    assert await other.wait(1, 1000) == 1
    before = await asyncio.to_thread(servers.master)

    with redis.Redis.from_url(servers.sentinels[0].url) as sentinel:
        sentinel.execute_command("SENTINEL", "FAILOVER", MASTER)
    await asyncio.to_thread(eventually, lambda: servers.master() is not before)
    # What the Sentinels do by themselves some eight seconds later; but they break all connections as well.
    with redis.Redis.from_url(before.url) as demoted:
        demoted.replicaof("127.0.0.1", servers.master().port)

    async with asyncio.timeout(FAILED_OVER_WITHIN_S):
        while await asyncio.gather(line.ask(("SET", "later", "1")), return_exceptions=True) != [[b"OK"]]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert await line.ask(("GET", "kept")) == [b"1"]
        assert await other.get("later") == b"1"
    await line.aclose()
    await other.aclose()


def test_a_master_killed_in_mid_call(celery_setup: AssaylineSetup, servers: SentinelSet) -> None:
    """The answer is written, another master found, and the jobs that come meanwhile all end, each paid once."""
    setup = celery_setup
    dispatcher = setup.start_dispatcher()
    worker = setup.workers.start()
    first, _ = setup.enqueue()
    setup.ended(first)
    job, marker = setup.enqueue(held=True)
    eventually(lambda: setup.wire.calls(marker) == 1)
    eventually(servers.in_step)

    old = servers.master()
    old.kill()
    meanwhile = [setup.enqueue() for _ in range(5)]
    setup.wire.release(marker)
    setup.ended(job)
    for other, others_marker in meanwhile:
        setup.ended(other, within_s=FAILED_OVER_WITHIN_S)
        assert setup.wire.calls(others_marker) == 1

    assert servers.master() is not old
    assert setup.store.calls(job) == PAID_ONCE
    assert dispatcher.container.status == worker.container.status == "running"
    setup.publisher._publish([Released(uuid4(), 1, PROVIDER, "bulk")])
    worker.terminate()
