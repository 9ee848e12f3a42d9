"""What a call goes through between the ledger's line and its first byte, over a limiter that is told what to say."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from callworld import ENTRY, GROUP, TIMEOUT_S, USAGE, Sleep, Told, World, reached

from gateway.analyses.registry import load_analyses
from gateway.breaker.health import Health
from gateway.calls.admission import LEAST_LEFT_S, Admission
from gateway.calls.call import Caller
from gateway.calls.hop import Hop, Seat
from gateway.calls.terms import Terms
from gateway.catalog import load_catalog
from gateway.catalog_entries import Counting, Lane, Limits, OutputCounted
from gateway.errors import (
    AuthRejected,
    BreakerOpen,
    DayBudgetSpent,
    ExceedsLimit,
    GatewayError,
    InvalidOutput,
    LimitReached,
    OutputTruncated,
    Overloaded,
    QuotaExhausted,
    Throttled,
    Timeout,
)
from gateway.gateway import Gateway
from gateway.ledger import CallKind, CallOutcome, MemoryLedger
from gateway.limits.group import LimitGroup
from gateway.limits.group_state import BOOKED_AHEAD_S
from gateway.limits.rates import Need
from gateway.limits.reservation import Reservation
from gateway.limits.told import ToldLimits
from gateway.messages import Completion, CompletionRequest, FinishReason, Message, ModelRef, Usage
from gateway.provider_set import ProviderSet
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import Answer, FakeProvider
from gateway.redis_line import RedisAway


async def test_a_call_waits_for_its_date_and_loses_none_of_its_time() -> None:
    world = World(Told(wait_s=2.5))
    answered = await world.call(Terms(Lane.BULK))
    assert (world.sleep.slept, world.timeouts, answered.waited_s) == ([2.5], [TIMEOUT_S], 2.5)
    assert [(lane, may_wait) for _, lane, may_wait in world.limiter.asked] == [(Lane.BULK, True)]


async def test_what_was_used_is_settled() -> None:
    world = World(counting=Counting(cached_input=False))
    await world.call()
    assert world.limiter.settled == [Need(1, 60, 50)]


@pytest.mark.parametrize(("error", "used"), [
    pytest.param(Throttled("429"), Need(), id="refused: a request, and no tokens"),
    pytest.param(Timeout("late"), Need(1, 14, 500), id="nobody knows: all that was reserved"),
    pytest.param(OutputTruncated("cut", usage=USAGE), Need(1, 100, 50), id="told: what it says"),
])  # fmt: skip
async def test_a_failed_call_is_settled_too(error: GatewayError, used: Need) -> None:
    world = World(script=error)
    with pytest.raises(type(error)):
        await world.call()
    assert world.limiter.settled == [used]


async def test_a_call_that_is_not_admitted_is_not_made() -> None:
    world = World(Told(says=[reached()]))
    with pytest.raises(LimitReached):
        await world.call()
    assert (world.outcomes(), world.timeouts, world.limiter.settled) == ([CallOutcome.NOT_CALLED], [], [])
    [made] = world.ledger.calls
    assert made.end is not None
    assert (made.end.error, made.end.error_message, made.end.cost_usd) == ("limit_reached", "no room", 0)


async def test_a_call_that_never_fits_goes_on_to_a_model_where_it_may() -> None:
    world = World(Told(says=[ExceedsLimit("too large")]))
    with pytest.raises(ExceedsLimit) as caught:
        await world.call()
    assert (caught.value.try_next_model, world.outcomes()) == (True, [CallOutcome.NOT_CALLED])


async def test_no_date_is_waited_for_that_leaves_no_time_for_the_call() -> None:
    world = World(Told(wait_s=4.0))
    with pytest.raises(LimitReached) as caught:
        await world.call(Terms(left_s=4.0 + LEAST_LEFT_S - 0.1))
    assert caught.value.retry_after_s == pytest.approx(4.9), "waiting does not help: whoever decides must go on"
    assert (world.limiter.settled, world.sleep.slept, world.timeouts) == ([None], [], [])


async def test_a_call_ends_with_the_time_that_is_left_after_its_wait() -> None:
    world = World(Told(wait_s=4.0))
    await world.call(Terms(left_s=10.0))
    assert world.timeouts == [6.0]


async def test_a_quarter_of_the_slots_may_wait() -> None:
    world = World(Told(wait_s=1.0), slots=8)
    world.sleep.held = asyncio.Event()
    waiting = []
    for _ in range(2):
        world.sleep.asleep.clear()
        waiting.append(asyncio.create_task(world.call()))
        await world.sleep.asleep.wait()
    world.limiter.wait_s = 0.0
    await world.call()
    assert [may_wait for *_, may_wait in world.limiter.asked] == [True, True, False]
    world.sleep.held.set()
    await asyncio.gather(*waiting)
    await world.call()
    assert world.limiter.asked[-1][2], "they wait no more"


async def test_a_cancelled_wait_gives_its_room_back_and_was_no_call() -> None:
    world = World(Told(wait_s=1.0), slots=4)
    world.sleep.held = asyncio.Event()
    waiting = asyncio.create_task(world.call())
    await world.sleep.asleep.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (world.outcomes(), world.limiter.settled, world.timeouts) == ([CallOutcome.NOT_CALLED], [None], [])
    world.limiter.wait_s = 0.0
    await world.call()
    assert world.limiter.asked[-1][2], "its place among those that wait is free"


async def test_while_redis_is_away_a_process_keeps_to_its_share() -> None:
    """Of 60 a minute, four processes: seven and a half each, the half of a quarter. It is settled with nobody."""
    world = World(Told(says=[RedisAway("gone"), RedisAway("gone"), RedisAway("gone")]))
    await world.call(Terms(Lane.BULK))
    with pytest.raises(LimitReached) as caught:
        await world.call(Terms(Lane.BULK))
    assert caught.value.retry_after_s == pytest.approx(8.0, abs=0.5)
    assert (world.limiter.settled, world.outcomes()) == ([], [CallOutcome.SUCCEEDED, CallOutcome.NOT_CALLED])


# -- the breaker, and what providers say ---------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "health"), [
    (Timeout("late"), Health.FAILS),
    (Throttled("429"), Health.SILENT),
    (Overloaded("529"), Health.OVERLOADED),
    (AuthRejected("401"), Health.REJECTED),
    (QuotaExhausted("no money"), Health.EXHAUSTED),
    (OutputTruncated("cut", usage=USAGE), Health.WORKS),
])  # fmt: skip
async def test_the_breaker_hears_how_a_call_went(error: GatewayError, health: Health) -> None:
    world = World(script=error)
    with pytest.raises(type(error)):
        await world.call()
    assert world.limiter.healths == [health]
    assert world.limiter.news == [(None, error)]


async def test_a_caller_who_has_no_patience_says_nothing_about_the_provider() -> None:
    world = World(script=Timeout("late"))
    with pytest.raises(Timeout):
        await world.call(Terms(left_s=5.0))
    assert world.limiter.healths == [Health.SILENT]


async def test_an_answer_says_that_the_provider_works_and_what_it_told() -> None:
    told = ToldLimits({}, at=1.0)
    world = World(script=Completion("fine", FinishReason.STOP, USAGE, "m", told=told))
    await world.call()
    assert (world.limiter.healths, world.limiter.news) == ([Health.WORKS], [(told, None)])


async def test_a_breaker_that_opens_while_a_call_waits_keeps_it_out() -> None:
    world = World(Told(wait_s=1.0, opened_meanwhile=True))
    with pytest.raises(BreakerOpen):
        await world.call()
    assert (world.timeouts, world.limiter.settled, world.limiter.healths) == ([], [None], [Health.SILENT])


async def test_a_retry_says_so() -> None:
    world = World()
    await world.call(Terms(retry=True))
    await world.call()
    assert world.limiter.retries == [True, False]


async def test_output_is_reserved_as_equal_calls_have_produced_it() -> None:
    world = World()
    terms, other = Terms(like="one"), Terms(like="another")
    for _ in range(19):
        await world.call(terms)
    await world.call(terms)
    await world.call(other)
    asked = [need.output_tokens for need, *_ in world.limiter.asked]
    assert asked[:19] == [500] * 19
    assert 50 <= asked[19] <= 53
    assert asked[20] == 500


async def test_where_a_provider_counts_max_tokens_it_is_reserved() -> None:
    world = World(counting=Counting(output=OutputCounted.MAX_TOKENS))
    for _ in range(25):
        await world.call()
    assert {need.output_tokens for need, *_ in world.limiter.asked} == {500}
    assert {used.output_tokens for used in world.limiter.settled if used} == {500}


# -- a re-ask: its first answer is paid for ------------------------------------------------------------------------


def reasking(limiter: Told, sleep: Sleep) -> Gateway:
    """A gateway on a limited account; its model's first answer is unusable, the second is good."""
    env = {"ANTHROPIC_API_KEY": "k"}
    good = json.dumps({"evidence": "it crashes", "label": "bug", "confidence_percent": 90})
    script = [Completion(text, FinishReason.STOP, USAGE, "m") for text in ("no JSON at all", good)]
    provider = FakeProvider(ProviderConfig("claude", "fake"), script=script)
    providers = ProviderSet({"claude": [provider.config]}, lambda _: provider)
    admission = Admission(limiter, sleep=sleep)  # type: ignore[arg-type]
    return Gateway(load_catalog(None, env), load_analyses([]), providers, admission=admission, clock=lambda: 0.0)


async def classified(gateway: Gateway, **wishes: Any) -> Any:
    return await gateway.analyze("text_classification", "it crashes", context={"labels": ["bug", "praise"]}, **wishes)


@dataclass(slots=True)
class SecondRefused(Told):
    """Has room for the first call, and for the next only after `refusals` refusals."""

    refusals: int = 1

    async def reserve(
        self, group: LimitGroup, need: Need, lane: Lane, *, may_wait: bool = True, retry: bool = False
    ) -> Reservation:
        self.asked.append((need, lane, may_wait))
        if 1 < len(self.asked) <= 1 + self.refusals:
            raise reached(30.0)
        return Reservation(str(len(self.asked)), group, (), 0, 0.0)


async def test_a_reask_waits_until_there_is_room() -> None:
    limiter, sleep, ledger = SecondRefused(refusals=2), Sleep(), MemoryLedger()
    result = await classified(reasking(limiter, sleep), ledger=ledger, lane=Lane.BULK)
    assert (result.repaired, result.calls, sleep.slept) == (True, 2, [30.0, 30.0])
    assert {lane for _, lane, _ in limiter.asked} == {Lane.BULK}


async def test_a_reask_that_finds_no_room_in_time_leaves_what_the_first_call_brought() -> None:
    limiter, ledger = SecondRefused(refusals=100), MemoryLedger()
    with pytest.raises(InvalidOutput) as caught:
        await classified(reasking(limiter, Sleep()), ledger=ledger, timeout_s=50.0)
    assert (caught.value.raw_text, caught.value.usage) == ("no JSON at all", USAGE)
    ended = [item.end.outcome for item in ledger.calls if item.end is not None]
    assert ended == [CallOutcome.SUCCEEDED, CallOutcome.NOT_CALLED]


async def test_a_group_without_limits_asks_the_breaker_all_the_same() -> None:
    limiter = Told()
    env = {"OPENAI_API_KEY": "k"}
    good = json.dumps({"evidence": "it crashes", "label": "bug", "confidence_percent": 90})
    provider = FakeProvider(ProviderConfig("openai", "fake"), script=[Completion(good, FinishReason.STOP, USAGE, "m")])
    admission = Admission(limiter)  # type: ignore[arg-type]
    providers = ProviderSet({"openai": [provider.config]}, lambda _: provider)
    gateway = Gateway(load_catalog(None, env), load_analyses([]), providers, admission=admission)
    await classified(gateway, model=ModelRef("openai", "gpt-5.4-mini"))
    assert len(limiter.asked) == len(limiter.settled) == 1


# -- several accounts ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ByAccount(Told):
    """Refuses by account: for how long, or for ever (None); grants a date so far ahead where it may wait for it."""

    refuses: dict[str, float | None] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    spent: frozenset[str] = frozenset()
    accounts: list[str] = field(default_factory=list)

    async def reserve(
        self, group: LimitGroup, need: Need, lane: Lane, *, may_wait: bool = True, retry: bool = False
    ) -> Reservation:
        self.accounts.append(group.account)
        wait_s = self.refuses.get(group.account, 0.0)
        if group.account in self.broken:
            raise BreakerOpen("not well", retry_after_s=wait_s)
        if group.account in self.spent:
            raise DayBudgetSpent("all of it", retry_after_s=wait_s)
        if wait_s is None:
            raise ExceedsLimit("too large")
        if wait_s > BOOKED_AHEAD_S[lane] or (wait_s and not may_wait):
            raise reached(wait_s)
        return Reservation(str(len(self.accounts)), group, (), 0, wait_s)


async def called_by(limiter: ByAccount, sleep: Sleep) -> tuple[MemoryLedger, list[str]]:
    """One call of a provider with three accounts; the ledger, and whose adapter was asked."""
    asked: list[str] = []

    def adapter(account: str) -> FakeProvider:
        def answer(_: CompletionRequest) -> Answer:
            asked.append(account)
            return Completion("fine", FinishReason.STOP, USAGE, "m")

        return FakeProvider(ProviderConfig("openai", "fake", account=account), script=answer)

    limits = Limits(requests_per_min=60)
    seats = tuple(Seat(LimitGroup("openai", name, "default", limits), adapter(name)) for name in ("a", "b", "c"))
    hop, ledger = Hop(ModelRef("openai", "m"), ENTRY, seats, TIMEOUT_S), MemoryLedger()
    request = CompletionRequest("m", (Message("user", "x"),), 100, timeout_s=TIMEOUT_S)
    admission = Admission(limiter, sleep=sleep)  # type: ignore[arg-type]
    await Caller(admission).call(hop, request, ledger, CallKind.ANSWER, Terms())
    return ledger, asked


@pytest.mark.parametrize(("refuses", "account", "slept"), [
    ({}, "a", []),
    ({"a": 2.0}, "b", []),
    ({"a": 2.0, "b": None}, "c", []),
    ({"a": 3.0, "b": 1.0, "c": 2.0}, "b", [1.0]),
    ({"a": None, "b": None, "c": 2.0}, "c", [2.0]),
])  # fmt: skip
async def test_the_account_that_is_ready_first_makes_the_call(
    refuses: dict[str, float | None], account: str, slept: list[float]
) -> None:
    sleep = Sleep()
    ledger, asked = await called_by(ByAccount(refuses=refuses), sleep)
    assert (asked, sleep.slept) == ([account], slept)
    assert [written.start.account for written in ledger.calls] == [account], "the ledger says who paid"


async def test_where_no_account_has_room_the_soonest_says_when() -> None:
    limiter = ByAccount(refuses={"a": 9.0, "b": 7.0, "c": None})
    with pytest.raises(LimitReached) as caught:
        await called_by(limiter, Sleep())
    assert caught.value.retry_after_s == 7.0


async def test_where_no_account_can_ever_hold_it_no_one_waits() -> None:
    with pytest.raises(ExceedsLimit):
        await called_by(ByAccount(refuses=dict.fromkeys("abc")), Sleep())


async def test_a_busy_account_comes_before_one_whose_calls_fail() -> None:
    """Else the job would go on to another provider, though this one is well."""
    limiter = ByAccount(refuses={"a": 1.0, "b": 9.0, "c": None}, broken=frozenset("a"))
    with pytest.raises(LimitReached) as caught:
        await called_by(limiter, Sleep())
    assert caught.value.retry_after_s == 9.0
    _, asked = await called_by(ByAccount(broken=frozenset("a")), Sleep())
    assert asked == ["b"]


async def test_an_account_with_money_left_makes_the_call() -> None:
    ledger, asked = await called_by(ByAccount(spent=frozenset("ab")), Sleep())
    assert asked == ["c"]
    assert [written.start.account for written in ledger.calls] == ["c"]


@pytest.mark.parametrize(("limiter", "error", "retry_after_s"), [
    (ByAccount(refuses={"a": 1.0, "b": 9.0, "c": None}, spent=frozenset("a")), LimitReached, 9.0),
    (ByAccount(refuses={"a": 1.0, "b": 9.0, "c": 3.0}, spent=frozenset("ac"), broken=frozenset("b")), BreakerOpen, 9.0),
    (ByAccount(refuses={"a": 9.0, "b": 4.0, "c": None}, spent=frozenset("ab")), DayBudgetSpent, 4.0),
])  # fmt: skip
async def test_what_passes_soonest_stands_in_the_way(
    limiter: ByAccount, error: type[GatewayError], retry_after_s: float
) -> None:
    with pytest.raises(error) as caught:
        await called_by(limiter, Sleep())
    assert caught.value.retry_after_s == retry_after_s


@pytest.mark.parametrize(("script", "cost_usd"), [
    (None, Decimal("0.00015")),
    (Throttled("too fast"), Decimal(0)),
    (OutputTruncated("cut", usage=Usage(100, 500)), Decimal("0.0006")),
    (Timeout("late"), None),
])  # fmt: skip
async def test_where_money_is_limited_a_call_is_reserved_at_its_worst_and_settled_at_its_cost(
    script: Exception | None, cost_usd: Decimal | None
) -> None:
    """What nobody knows has cost its worst."""
    limited = replace(GROUP, limits=Limits(usd_per_day=Decimal(1)))
    world = World(script=script, group=limited)
    with contextlib.suppress(GatewayError):
        await world.call()
    [(need, _, _)], [used] = world.limiter.asked, world.limiter.settled
    assert need.cost_usd == Decimal(need.input_tokens + 500) / 1_000_000
    assert used is not None
    assert used.cost_usd == (need.cost_usd if cost_usd is None else cost_usd)


async def test_where_all_accounts_fail_the_provider_does() -> None:
    limiter = ByAccount(refuses={"a": 5.0, "b": 3.0, "c": 4.0}, broken=frozenset("abc"))
    with pytest.raises(BreakerOpen) as caught:
        await called_by(limiter, Sleep())
    assert caught.value.retry_after_s == 3.0
