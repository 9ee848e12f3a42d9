"""Valkey stopped while calls are under way: shares by the group that knows most, and every end is told afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from gateway.calls.admission import Admission
from gateway.calls.hop import Hop, Seat
from gateway.calls.terms import Terms
from gateway.catalog import load_catalog
from gateway.catalog_entries import Lane, Limits
from gateway.limits.alone import SHARE_TAKEN, OwnReservation
from gateway.limits.group import LimitGroup
from gateway.limits.limiter import Limiter
from gateway.limits.rates import Need
from gateway.messages import CompletionRequest, Message, ModelRef
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import FakeProvider
from gateway.redis_line import RedisAway, RedisLine
from ops.embedded import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

REF = ModelRef("fake", "scripted")
BUSY = LimitGroup("fake", "default", "busy", Limits(requests_per_min=1_200))
QUIET = replace(BUSY, name="quiet")
PAID = LimitGroup("fake", "default", "paid", Limits(usd_per_day=Decimal("0.10"), concurrent_calls=4))
PROVIDER = FakeProvider(ProviderConfig("fake", "fake"))
MODEL = load_catalog(None, {"ASSAYLINE_FAKE": "1"}).model(REF)
REQUEST = CompletionRequest("scripted", (Message("user", "x"),), 10, timeout_s=60.0)
PROCESSES = 3


class Books:
    """A ledger in which nothing was spent."""

    async def spent_usd(self, group: LimitGroup, since: datetime) -> Decimal:
        return Decimal(0)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    valkey = EmbeddedValkey(tmp_path)
    await asyncio.to_thread(valkey.start)
    yield valkey
    await asyncio.to_thread(valkey.stop)


@pytest.fixture
async def lines(server: EmbeddedValkey) -> AsyncIterator[list[RedisLine]]:
    made = [RedisLine.from_url(server.url, probe_every_s=0.05) for _ in range(PROCESSES)]
    yield made
    for line in made:
        await line.aclose()


async def test_a_share_goes_by_the_group_that_knows_most_of_the_processes(
    server: EmbeddedValkey, lines: list[RedisLine]
) -> None:
    """One of them has last made a call in a group of its own."""
    limiters = [Limiter(line, f"holder-{number}") for number, line in enumerate(lines)]
    for limiter in limiters:
        limiter.settle(await limiter.reserve(BUSY, Need(), Lane.BULK), Need())
    last = limiters[-1]
    last.settle(await last.reserve(QUIET, Need(), Lane.BULK), Need())
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    admission = Admission(last, sleep=sleep)
    await asyncio.to_thread(server.stop)
    hop = Hop(REF, MODEL, (Seat(BUSY, PROVIDER),), 60.0)
    for _ in range(2):
        admitted = await admission.enter(hop, hop.size(REQUEST), Terms(Lane.INTERACTIVE))
        assert type(admitted._reservation) is OwnReservation
    every_s = 60 / (BUSY.limits.requests_per_min or 1) * PROCESSES / SHARE_TAKEN
    assert slept == [pytest.approx(every_s, rel=0.2)]
    for limiter in limiters:
        limiter.close()


async def test_what_ends_while_redis_is_away_is_told_when_it_is_back(
    server: EmbeddedValkey, lines: list[RedisLine]
) -> None:
    """But for one end that was on its way when Redis went: of that call the worst stays counted, and nobody waits."""
    limiter = Limiter(lines[0], "holder", spending=Books())
    calls = [await limiter.reserve(PAID, Need(cost_usd=Decimal("0.02")), Lane.INTERACTIVE) for _ in range(4)]
    await asyncio.to_thread(server.stop)
    limiter.settle(calls[0], Need(cost_usd=Decimal("0.001")))
    with pytest.raises(RedisAway):
        await limiter.state(PAID)
    for call in calls[1:]:
        limiter.settle(call, Need(cost_usd=Decimal("0.001")))
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(20):
        while lines[0].away:  # noqa: ASYNC110  nobody tells when
            await asyncio.sleep(0.02)
    limiter._renewals.renew()
    money = (await limiter.state(PAID)).money
    assert money is not None
    assert (money.spent, money.open) == (23_000, 0)
    assert (await limiter.reserve(PAID, Need(cost_usd=Decimal("0.077")), Lane.INTERACTIVE)).wait_s == 0
    limiter.close()
