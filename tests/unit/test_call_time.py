"""How much time a call has, and what it says of a provider that did not answer within it."""

from __future__ import annotations

import asyncio
from random import Random
from uuid import UUID

import pytest
from callworld import TIMEOUT_S, Clock, Told, World, reached

from gateway.breaker.health import Health
from gateway.calls.admission import LEAST_LEFT_S
from gateway.calls.call import PATIENT_SHARE
from gateway.calls.terms import Terms
from gateway.errors import LimitReached, Timeout
from gateway.ledger import CallOutcome, CallStart, MemoryLedger
from gateway.limits.rates import Need
from gateway.messages import ModelRef
from tasks.job import Claim
from tasks.verdict import DeadLetter, Rules, verdict

CLAIM = Claim(
    id=UUID(int=1), claim_no=1, analysis="quick", tenant="t", lane="bulk", model=ModelRef("openai", "m"),
    chain=("openai/m", "claude/m"), hop=0, prompt_version=None, output_format=None, max_tokens=None, temperature=None,
    max_cost_usd=None, max_attempts=4, attempts_used=0, use_cache=True, use_fallback=True, deadline_in_s=1.0,
    spent_usd=None, unpriced_calls=None, content="x", context={}, messages=(), schema=None,
)  # fmt: skip


@pytest.mark.parametrize("left_s", [TIMEOUT_S - 0.05, TIMEOUT_S * PATIENT_SHARE])
async def test_a_deadline_a_little_below_the_usual_timeout_hides_no_hang(left_s: float) -> None:
    """Else a provider that hangs is never noticed by jobs with a deadline, nor by re-asks."""
    world = World(script=Timeout("late"))
    with pytest.raises(Timeout):
        await world.call(Terms(left_s=left_s))
    assert world.limiter.healths == [Health.FAILS]


async def test_who_gives_a_provider_less_than_its_share_learns_nothing_of_it() -> None:
    world = World(script=Timeout("late"))
    with pytest.raises(Timeout):
        await world.call(Terms(left_s=TIMEOUT_S * PATIENT_SHARE - 0.1))
    assert world.limiter.healths == [Health.SILENT]


async def test_a_probe_that_times_out_has_failed_however_little_time_it_had() -> None:
    """Were it silent, one caller after the other would be let in to wait in vain."""
    world = World(Told(probe=True), script=Timeout("late"))
    with pytest.raises(Timeout):
        await world.call(Terms(left_s=2.0))
    assert world.limiter.healths == [Health.FAILS]


@pytest.mark.parametrize("limited", [True, False])
@pytest.mark.parametrize("left_s", [-3.0, 0.2, LEAST_LEFT_S - 0.01])
async def test_no_call_is_begun_whose_answer_would_come_too_late(left_s: float, limited: bool) -> None:
    """It costs no attempt, and the job ends as what it is: out of time, on whatever hop."""
    world = World(limited=limited)
    with pytest.raises(LimitReached, match="are left") as caught:
        await world.call(Terms(left_s=left_s))
    assert (world.outcomes(), world.timeouts, world.limiter.asked) == ([CallOutcome.NOT_CALLED], [], [])
    rules = Rules(window_tokens=lambda _: 1_000, remaining_s=left_s)
    decided = verdict(caught.value, CLAIM, rules, Random(7))
    assert decided == DeadLetter("deadline", caught.value)


async def test_with_just_enough_time_it_is_begun() -> None:
    world = World()
    await world.call(Terms(left_s=LEAST_LEFT_S))
    assert world.timeouts == [LEAST_LEFT_S]


class SlowLedger(MemoryLedger):
    """Takes so many seconds to open a call."""

    def __init__(self, takes_s: float, clock: Clock) -> None:
        super().__init__()
        self.takes_s, self.clock = takes_s, clock

    async def open(self, call: CallStart) -> int:
        self.clock.now_s += self.takes_s
        return await super().open(call)


async def test_time_that_the_ledger_took_is_gone_too() -> None:
    limiter = Told()
    world = World(limiter, ledger=SlowLedger(4.0, limiter.clock))
    await world.call(Terms(left_s=10.0))
    assert world.timeouts == [6.0]
    with pytest.raises(LimitReached, match=r"0\.5 s are left"):
        await world.call(Terms(left_s=4.5))
    assert (world.limiter.settled[-1], world.outcomes()[-1]) == (None, CallOutcome.NOT_CALLED)
    assert len(world.timeouts) == 1


# -- who may wait --------------------------------------------------------------------------------------------------


async def test_a_reask_that_waits_for_room_is_one_of_those_that_wait() -> None:
    """While it waits others do not; but it is never turned away for want of a place: its first answer would be lost."""
    world = World(Told(says=[reached(30.0)]), slots=4)
    world.sleep.held = asyncio.Event()
    waiting = asyncio.create_task(world.call(Terms(patient=True)))
    await world.sleep.asleep.wait()
    await world.call()
    assert [may_wait for *_, may_wait in world.limiter.asked] == [True, False]
    world.limiter.says = [reached(30.0)]
    world.sleep.asleep.clear()
    another = asyncio.create_task(world.call(Terms(patient=True)))
    await asyncio.wait_for(world.sleep.asleep.wait(), 5)
    world.sleep.held.set()
    await asyncio.gather(waiting, another)
    await world.call()
    assert world.limiter.asked[-1][2], "it waits no more"


async def test_a_cancelled_reask_gives_its_place_back() -> None:
    world = World(Told(says=[reached(30.0)]), slots=4)
    world.sleep.held = asyncio.Event()
    waiting = asyncio.create_task(world.call(Terms(patient=True)))
    await world.sleep.asleep.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await world.call()
    assert world.limiter.asked[-1][2]
    assert world.limiter.settled == [Need(1, 100, 50)], "of the second call; the first had reserved nothing"
