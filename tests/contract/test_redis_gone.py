"""Valkey stopped in the middle of a run: processes go on within their shares, and by its word again once it is back."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from gateway.calls.admission import Admission, Admitted
from gateway.calls.hop import Hop, Seat
from gateway.calls.terms import Terms
from gateway.catalog import load_catalog
from gateway.catalog_entries import Lane, Limits
from gateway.errors import LimitReached
from gateway.limits.alone import SHARE_TAKEN, OwnReservation
from gateway.limits.group import LimitGroup
from gateway.limits.limiter import Limiter
from gateway.limits.reservation import Reservation
from gateway.messages import Completion, CompletionRequest, FinishReason, Message, ModelRef, Usage
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import FakeProvider
from gateway.redis_line import RedisLine
from ops.embedded import EmbeddedValkey

if TYPE_CHECKING:
    from pathlib import Path

REF = ModelRef("fake", "scripted")
GROUP = LimitGroup("fake", "default", "default", Limits(requests_per_min=1_200))
PROVIDER = FakeProvider(ProviderConfig("fake", "fake"))
HOP = Hop(REF, load_catalog(None, {"ASSAYLINE_FAKE": "1"}).model(REF), (Seat(GROUP, PROVIDER),), 60.0)
REQUEST = CompletionRequest("scripted", (Message("user", "x"),), 10, timeout_s=60.0)
ANSWER = Completion("fine", FinishReason.STOP, Usage(1, 1), "scripted")
PROCESSES = 2


async def call(admission: Admission) -> Admitted | LimitReached:
    try:
        admitted = await admission.enter(HOP, HOP.size(REQUEST), Terms(Lane.BULK))
    except LimitReached as reached:
        return reached
    admitted.answered(ANSWER, None)
    return admitted


def held_by(outcome: Admitted | LimitReached) -> type:
    assert isinstance(outcome, Admitted), outcome
    return type(outcome._reservation)


async def test_processes_go_on_within_their_shares_and_come_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = EmbeddedValkey(tmp_path)
    await asyncio.to_thread(server.start)
    lines = [RedisLine.from_url(server.url, probe_every_s=0.05) for _ in range(PROCESSES)]
    admissions = [Admission(Limiter(line, f"holder-{number}")) for number, line in enumerate(lines)]
    try:
        for admission in (*admissions, *admissions):
            assert held_by(await call(admission)) is Reservation
        await asyncio.to_thread(server.stop)
        for admission in admissions:
            assert held_by(await call(admission)) is OwnReservation
            every_s = 60 / (GROUP.limits.requests_per_min or 1) * PROCESSES / SHARE_TAKEN
            second = await call(admission)
            waited_s = second.waited_s if isinstance(second, Admitted) else second.retry_after_s or 0.0
            assert waited_s == pytest.approx(every_s, rel=0.2), "half of its share, by what it knew of its fellows"
        told = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(told) == PROCESSES, "one line each, however many calls"
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(20):
            for admission in admissions:
                while held_by(await call(admission)) is not Reservation:  # noqa: ASYNC110  nobody tells when
                    await asyncio.sleep(0.05)
    finally:
        for line in lines:
            await line.aclose()
        await asyncio.to_thread(server.stop)
