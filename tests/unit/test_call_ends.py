"""What goes wrong when a call ends: nothing hides how it ended, and nothing keeps its reservation."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from callworld import TIMEOUT_S, USAGE, Told, World, reached

from gateway.breaker.health import Health
from gateway.calls.call import Caller
from gateway.calls.terms import Terms
from gateway.errors import AuthRejected, LimitReached, OutputTruncated, Throttled
from gateway.ledger import CallEnd, CallKind, CallOutcome, MemoryLedger
from gateway.limits.alone import OwnReservation
from gateway.limits.rates import Need
from gateway.messages import Completion, CompletionRequest, FinishReason, Message
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import FakeProvider
from gateway.redis_line import RedisAway


class Unwritable(MemoryLedger):
    """Its database goes away while a call is under way."""

    async def close(self, call_no: int, end: CallEnd) -> None:
        raise OSError("the database is away")


async def test_a_ledger_that_fails_does_not_hide_why_the_call_did(caplog: pytest.LogCaptureFixture) -> None:
    """The job's verdict goes by the provider's error; that its end is not written down is said beside it."""
    error = Throttled("429", retry_after_s=7.0)
    world = World(script=error, ledger=Unwritable())
    with pytest.raises(Throttled) as caught:
        await world.call()
    assert caught.value is error
    assert isinstance(error.__cause__, OSError)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == ["the end of a call was not written down (OSError)"]
    assert len(world.limiter.settled) == 1


async def test_what_the_sdk_said_is_kept_beside_it() -> None:
    error, sdks = AuthRejected("401"), ValueError("what the SDK raised")
    error.__cause__ = sdks
    world = World(script=error, ledger=Unwritable())
    with pytest.raises(AuthRejected):
        await world.call()
    assert isinstance(error.__cause__, ExceptionGroup)
    assert [type(cause) for cause in error.__cause__.exceptions] == [ValueError, OSError]


async def test_nor_why_it_was_not_made() -> None:
    refusal = reached(7.0)
    world = World(Told(says=[refusal]), ledger=Unwritable())
    with pytest.raises(LimitReached) as caught:
        await world.call()
    assert caught.value is refusal
    assert isinstance(refusal.__cause__, OSError)


async def test_a_cancellation_stays_one() -> None:
    """Turned into an error of the database it would be caught, and its task go on."""
    asked = asyncio.Event()

    class Hanging(FakeProvider):
        async def complete(self, request: CompletionRequest) -> Completion:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError("nothing sets that event")

    world = World()
    provider = Hanging(ProviderConfig("openai", "fake"))
    request = CompletionRequest("m", (Message("user", "x"),), 10, timeout_s=TIMEOUT_S)
    caller = Caller(world.admission)
    making = asyncio.create_task(caller.call(world.hop(provider), request, Unwritable(), CallKind.ANSWER, Terms()))
    await asked.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert len(world.limiter.settled) == 1


def _fails(*_: Any) -> None:
    raise RuntimeError("an error of ours")


async def test_an_error_of_ours_at_the_end_keeps_no_slot_and_leaves_no_call_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was used is taken for what was reserved, once; the ledger says that it failed."""
    world = World()
    monkeypatch.setattr(world.admission._estimates, "saw", _fails)
    with pytest.raises(RuntimeError):
        await world.call()
    assert (world.limiter.settled, world.limiter.healths) == ([Need(1, 14, 500)], [Health.WORKS])
    assert world.outcomes() == [CallOutcome.FAILED]


async def test_nor_does_one_at_the_end_of_a_call_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(script=OutputTruncated("cut", usage=USAGE))
    monkeypatch.setattr(world.admission._estimates, "saw", _fails)
    with pytest.raises(RuntimeError):
        await world.call()
    assert (world.limiter.settled, world.limiter.healths) == ([Need(1, 14, 500)], [Health.WORKS])
    [written] = world.ledger.calls
    assert written.end is not None
    assert written.end.error == "output_truncated"


async def test_nor_does_one_in_what_the_provider_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reservation has ended by then, and does not end a second time."""
    limiter = Told()
    world = World(limiter)
    monkeypatch.setattr(Told, "tighten", _fails)
    with pytest.raises(RuntimeError):
        await world.call()
    assert limiter.settled == [Need(1, 100, 50)]
    assert world.outcomes() == [CallOutcome.FAILED]


async def test_while_redis_is_away_a_call_ends_once_too(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(Told(says=[RedisAway("gone")]))
    size = world.hop(FakeProvider(ProviderConfig("openai", "fake")))
    request = CompletionRequest("m", (Message("user", "x"),), 10, timeout_s=TIMEOUT_S)
    admitted = await world.admission.enter(size, size.size(request), Terms())
    assert isinstance(admitted._reservation, OwnReservation)
    admitted.answered(Completion("fine", FinishReason.STOP, USAGE, "m"), None)
    admitted.failed(Throttled("429"))
    admitted.unmade()
    assert world.admission._seating is not None
    assert list(world.admission._seating._alone._open.values()) == [0]
