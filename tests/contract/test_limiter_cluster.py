"""Every script of the limiter on a server in cluster mode: it refuses keys of different slots, and undeclared ones.

One node that has all slots: the line is one connection, and follows no redirection to another node.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import redis
from limitworld import LimitWorld, admitted

from gateway.breaker.health import Health
from gateway.catalog_entries import Lane, Limits
from gateway.errors import LimitReached, Throttled
from gateway.limits.kinds import LimitKind
from gateway.limits.rates import Need
from gateway.limits.told import ToldLimit, ToldLimits
from ops.embedded import EmbeddedValkey
from ops.supervisor import ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from gateway.limits.group import LimitGroup

SLOTS, MOST_LOOKS = 16_384, 1_000
CALL = Need(1, 100, 100, Decimal("0.01"))


class ClusterValkey(EmbeddedValkey):
    """A cluster of one node."""

    def command(self) -> list[str]:
        nodes = str(self.directory / "nodes.conf")
        bus = str(ports.pick())
        return [*super().command(), "--cluster-enabled", "yes", "--cluster-config-file", nodes, "--cluster-port", bus]


class Books:
    """A ledger in which nothing was spent."""

    async def spent_usd(self, group: LimitGroup, since: datetime) -> Decimal:
        return Decimal(0)


@pytest.fixture
def cluster_url(tmp_path: Path) -> Iterator[str]:
    server = ClusterValkey(tmp_path)
    url = server.start()
    with redis.Redis.from_url(url) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        for _ in range(MOST_LOOKS):
            if b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"):
                break
            time.sleep(0.02)  # a node takes writes two seconds after it has joined; nobody tells
    yield url
    server.stop()


def test_all_of_an_account_lies_in_one_slot_and_every_script_keeps_to_it(
    cluster_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(requests_per_min=600, tokens_per_min=100_000, concurrent_calls=8, usd_per_day=Decimal(1))
    here = LimitWorld(cluster_url, limits, spending=Books())
    process, other = here.process(), here.process()
    breakers, account = process.limiter.breakers, here.group.owner
    try:
        first = admitted(here.reserve(process, CALL, Lane.INTERACTIVE))
        retry = admitted(here.reserve(process, CALL, Lane.INTERACTIVE, retry=True))
        for _ in range(20):  # bulk books ahead, an interactive call goes ahead of it
            if isinstance(here.reserve(other, CALL), LimitReached):
                break
        ahead = admitted(here.reserve(process, CALL, Lane.INTERACTIVE))
        told = ToldLimits({LimitKind.REQUESTS: ToldLimit(0, 600, 5.0)}, at=here.now_us / 1e6)
        refusal = Throttled("429", retry_after_s=0.1)
        here.said(process, lambda: process.limiter.tighten(first.reservation, told, refusal))
        here.renew(process)
        here.settle(first, CALL, Health.WORKS)
        here.settle(retry, CALL)
        here.settle(ahead, CALL, Health.OVERLOADED)
        state = here.state(process)
        assert state.ceiling is not None
        assert state.money is not None
        assert state.money.spent
        with redis.Redis.from_url(cluster_url) as client:
            keys = {key.decode() for key in client.keys("*")}
            slots = {client.execute_command("CLUSTER", "KEYSLOT", key) for key in keys}
        here.do(breakers.force(account, "open"))
        assert here.breaker(process).forced == "open"
        here.do(breakers.force(account, None))
    finally:
        here.close()
    assert {key.partition("}:")[2].removeprefix("default:").partition(":")[0] for key in keys} == {
        "buckets", "slots", "alive", "held", "ahead", "ceiling", "breaker", "retries", "spent",
    }  # fmt: skip
    assert len(slots) == 1
    assert not [record for record in caplog.records if record.name == "gateway.redis_line"], "no command was refused"
