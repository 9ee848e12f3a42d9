"""Valkey gone with a breaker open, and gone a second time: an order holds meanwhile, and each outage has its time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from callworld import ENTRY, Clock

from gateway.calls.admission import Admission
from gateway.calls.hop import Hop, Seat, Size
from gateway.calls.terms import Terms
from gateway.catalog_entries import Lane, Limits
from gateway.errors import BreakerOpen, LimitReached
from gateway.limits.alone import LONGEST_S, OwnReservation
from gateway.limits.group import LimitGroup
from gateway.limits.limiter import Limiter, Reservation
from gateway.limits.rates import Need
from gateway.messages import ModelRef
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import FakeProvider
from gateway.redis_line import RedisAway, RedisLine
from ops.embedded import EmbeddedValkey

if TYPE_CHECKING:
    from pathlib import Path

GROUP = LimitGroup("fake", "default", "default", Limits(requests_per_min=60_000))
HELD = replace(GROUP, account="held")
PROVIDER = FakeProvider(ProviderConfig("fake", "fake"))


async def entered(admission: Admission, group: LimitGroup = GROUP) -> type:
    """Let one call in, and end it; by whose word it went."""
    hop = Hop(ModelRef("fake", "m"), ENTRY, (Seat(group, PROVIDER),), 60.0)
    admitted = await admission.enter(hop, Size(10, 10, None), Terms(Lane.INTERACTIVE))
    admitted.unmade()
    return type(admitted._reservation)


async def test_an_open_breaker_and_a_second_outage(tmp_path: Path) -> None:
    server, clock = EmbeddedValkey(tmp_path), Clock()
    await asyncio.to_thread(server.start)
    line = RedisLine.from_url(server.url, probe_every_s=0.02)
    limiter = Limiter(line, "holder")
    admission = Admission(limiter, clock=clock)
    try:
        await limiter.breakers.force(HELD.owner, "open")
        assert await entered(admission) is Reservation
        await asyncio.to_thread(server.stop)

        assert await entered(admission) is OwnReservation
        with pytest.raises(BreakerOpen, match="held open by an operator"):
            await entered(admission, HELD)
        clock.now_s += LONGEST_S
        with pytest.raises(LimitReached, match="Redis is away"):
            await entered(admission)

        await asyncio.to_thread(server.start)
        async with asyncio.timeout(20):
            while line.away:  # noqa: ASYNC110  nobody tells when
                await asyncio.sleep(0.02)
        with pytest.raises(BreakerOpen):  # Redis's word, and all that it says between the outages
            await entered(admission, HELD)
        await asyncio.to_thread(server.stop)

        with pytest.raises(RedisAway):
            await limiter.reserve(GROUP, Need(), Lane.BULK)
        assert await entered(admission) is OwnReservation
    finally:
        limiter.close()
        await line.aclose()
        await asyncio.to_thread(server.stop)
