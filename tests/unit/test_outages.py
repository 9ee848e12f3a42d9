"""A process while Redis is away: whom it keeps out by what it heard last, and how long it goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from callworld import GROUP, Told, World, reached

from gateway.breaker.policy import BreakerPolicy
from gateway.breaker.view import HELD_OPEN, ORDERED_HERE, Standing
from gateway.calls.terms import Terms
from gateway.catalog_entries import Lane
from gateway.errors import BreakerOpen, DayBudgetSpent, ExceedsLimit, GatewayError, LimitReached, RetriesSpent
from gateway.limits.alone import LONGEST_S
from gateway.redis_line import RedisAway

OWNER = GROUP.owner
OPEN = Standing("open", 1, 5.0, "5 failures in a row", 5)


def away(times: int = 1) -> list[Exception]:
    return [RedisAway("gone") for _ in range(times)]


# -- the breaker, as it was heard of last ---------------------------------------------------------------------------


async def test_an_open_breaker_keeps_calls_out_until_its_time_has_come() -> None:
    limiter = Told(says=away(3))
    world = World(limiter)
    limiter.breakers.hear(OWNER, OPEN)
    limiter.clock.now_s += 2.0
    with pytest.raises(BreakerOpen, match="5 failures in a row") as caught:
        await world.call()
    assert caught.value.retry_after_s == pytest.approx(3.0)
    limiter.clock.now_s += 3.0
    await world.call()


async def test_what_an_operator_holds_open_stays_so_for_any_time() -> None:
    limiter = Told(says=away(2))
    world = World(limiter)
    limiter.breakers.hear(OWNER, replace(OPEN, reason=HELD_OPEN, again_s=10.0))
    for _ in range(2):
        limiter.clock.now_s += 30.0
        with pytest.raises(BreakerOpen) as caught:
            await world.call()
        assert caught.value.retry_after_s == BreakerPolicy().forced_again_s


async def test_so_does_what_was_ordered_here_and_not_confirmed() -> None:
    limiter = Told(says=away(1))
    world = World(limiter)
    limiter.breakers.hear(OWNER, replace(OPEN, reason=ORDERED_HERE, again_s=0.0))
    limiter.clock.now_s += 30.0
    with pytest.raises(BreakerOpen) as caught:
        await world.call()
    assert caught.value.retry_after_s == BreakerPolicy().forced_again_s


async def test_a_probe_under_way_keeps_others_out_for_a_moment() -> None:
    limiter = Told(says=away(2))
    world = World(limiter)
    limiter.breakers.hear(OWNER, replace(OPEN, state="half-open", again_s=1.0))
    with pytest.raises(BreakerOpen, match="half-open"):
        await world.call()
    limiter.clock.now_s += 1.0
    await world.call()


@pytest.mark.parametrize("standing", [Standing(), Standing("closed", 3, 0.0, "held closed by an operator")])
async def test_a_closed_one_keeps_nobody_out(standing: Standing) -> None:
    limiter = Told(says=away(1))
    world = World(limiter)
    limiter.breakers.hear(OWNER, standing)
    await world.call()


# -- how long it goes on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [
    None, reached(), BreakerOpen("not well"), RetriesSpent("no retry left"), DayBudgetSpent("all of it"),
])  # fmt: skip
async def test_whatever_redis_says_it_is_there_and_the_next_outage_has_its_whole_time(
    word: GatewayError | None,
) -> None:
    limiter = Told(says=away(1))
    world = World(limiter)
    await world.call(Terms(Lane.BULK))
    limiter.clock.now_s += LONGEST_S
    if word is None:
        await world.call(Terms(Lane.BULK))
    else:
        limiter.says = [word]
        with pytest.raises(type(word)):
            await world.call(Terms(Lane.BULK))
    limiter.says = away(1)
    await world.call(Terms(Lane.BULK))


async def test_what_is_found_without_asking_is_no_sign_of_it() -> None:
    limiter = Told(says=[*away(1), ExceedsLimit("too large"), *away(1)])
    world = World(limiter)
    await world.call(Terms(Lane.BULK))
    limiter.clock.now_s += LONGEST_S
    with pytest.raises(ExceedsLimit):
        await world.call(Terms(Lane.BULK))
    with pytest.raises(LimitReached, match="Redis is away"):
        await world.call(Terms(Lane.BULK))
