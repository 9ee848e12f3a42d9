"""What an overload does to a group's concurrency, and what retries the fleet may make, over a real Valkey."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import redis
from limitworld import Admitted, LimitWorld, Process, admitted, kept_out, no_retry_left, refused

from gateway.breaker.health import Health
from gateway.breaker.policy import BreakerPolicy
from gateway.catalog_entries import Lane
from gateway.limits.limiter import LEASE_S
from gateway.limits.policy import OverloadPolicy, RetryBudget
from gateway.limits.rates import Need
from gateway.limits.refusals import LONGEST_RETRY_WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable

OVERLOAD, RETRIES, BREAKER = OverloadPolicy(), RetryBudget(), BreakerPolicy()


def fill(here: LimitWorld, process: Process, lane: Lane = Lane.INTERACTIVE, at_most: int = 200) -> list[Admitted]:
    """As many calls as are let in."""
    found: list[Admitted] = []
    while len(found) < at_most and isinstance(one := here.reserve(process, Need(), lane), Admitted):
        found.append(one)
    here.pass_s(0.1)
    return found


def end(here: LimitWorld, calls: list[Admitted], health: Health) -> None:
    for one in calls:
        here.settle(one, Need(), health)
    here.pass_s(0.1)


def test_an_overload_cuts_what_may_be_open(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=10)
    process, other = here.process(), here.process()
    calls = fill(here, process)
    end(here, calls[:1], Health.OVERLOADED)
    assert here.state(other).ceiling == 7
    end(here, calls[1:], Health.SILENT)
    assert len(fill(here, other)) == 7
    error = refused(here.reserve(process, Need()))
    assert str(error) == (
        "openai/default/default may have 7 calls open, 5 of them in bulk, for its provider was overloaded: none is free"
    )


def test_without_a_limit_a_cut_is_one_too(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    calls = fill(here, process, at_most=20)
    end(here, calls[:1], Health.OVERLOADED)
    end(here, calls[1:], Health.SILENT)
    assert len(fill(here, process)) == 14


def test_of_one_congestion_only_the_first_overload_cuts_and_counts(world: Callable[..., LimitWorld]) -> None:
    """Ten calls of one crowd are refused: one cut, one failure. A call of after the cut that is refused cuts again."""
    here = world(concurrent_calls=100)
    process = here.process()
    crowd = fill(here, process)
    end(here, crowd[:10], Health.OVERLOADED)
    assert here.state(process).ceiling == 70
    assert here.breaker(process).standing.failures == 1
    end(here, crowd[10:], Health.SILENT)
    later = fill(here, process)
    assert len(later) == 70
    end(here, later[:2], Health.OVERLOADED)
    assert here.state(process).ceiling == 49
    assert here.breaker(process).standing.failures == 2


def test_a_cut_goes_by_the_calls_of_the_living(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=100)
    dead, process = here.process(), here.process()
    fill(here, dead, at_most=50)
    here.pass_s(LEASE_S / 2)
    calls = fill(here, process, at_most=10)
    here.pass_s(LEASE_S / 2)
    end(here, calls[:1], Health.OVERLOADED)
    assert here.state(process).ceiling == 7


def test_one_call_at_least_may_always_go(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=3)
    process = here.process()
    for _ in range(BREAKER.failures_in_a_row - 1):
        end(here, fill(here, process, at_most=1), Health.OVERLOADED)
    assert here.state(process).ceiling == 1
    admitted(here.reserve(process, Need(), Lane.BULK))


def test_overload_after_overload_opens_the_breaker(world: Callable[..., LimitWorld]) -> None:
    """And a probe that meets one opens it for longer, but cuts nothing: it went alone."""
    here = world(concurrent_calls=20)
    process = here.process()
    for _ in range(BREAKER.failures_in_a_row):
        crowd = fill(here, process)
        end(here, crowd, Health.OVERLOADED)
    assert kept_out(here.reserve(process, Need())).retry_after_s == pytest.approx(BREAKER.open_s, abs=0.2)
    before = here.state(process).ceiling
    here.pass_s(BREAKER.open_s)
    end(here, fill(here, process), Health.OVERLOADED)
    assert kept_out(here.reserve(process, Need())).retry_after_s == pytest.approx(2 * BREAKER.open_s, abs=0.2)
    assert here.state(process).ceiling == before == 2


def test_successes_bring_it_back_one_call_a_round(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=10)
    process = here.process()
    calls = fill(here, process)
    end(here, calls[:1], Health.OVERLOADED)
    end(here, calls[1:], Health.WORKS)
    assert here.state(process).ceiling == 7, "what was let in before the cut says nothing about the load after it"
    rounds = []
    for _ in range(4):
        crowd = fill(here, process)
        end(here, crowd, Health.WORKS)
        rounds.append(len(crowd))
    assert rounds == [7, 7, 8, 9]


def test_a_large_cut_comes_back_in_larger_steps(world: Callable[..., LimitWorld]) -> None:
    """Of 200 calls sixty are cut; each round brings three back."""
    here = world(concurrent_calls=200)
    process = here.process()
    calls = fill(here, process)
    end(here, calls[:1], Health.OVERLOADED)
    end(here, calls[1:], Health.SILENT)
    crowd = fill(here, process)
    end(here, crowd, Health.WORKS)
    assert (len(crowd), here.state(process).ceiling) == (140, 142)


def test_after_a_while_without_a_cut_nothing_is_held_back(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=10)
    process = here.process()
    calls = fill(here, process)
    end(here, calls[:1], Health.OVERLOADED)
    end(here, calls[1:], Health.SILENT)
    here.pass_s(OVERLOAD.forget_s - 1)
    assert here.state(process).ceiling == 7
    here.pass_s(1)
    assert here.state(process).ceiling is None
    assert len(fill(here, process)) == 10


def test_bulk_keeps_to_its_share_of_what_is_left(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=10)
    process = here.process()
    calls = fill(here, process)
    end(here, calls[:1], Health.OVERLOADED)
    end(here, calls[1:], Health.SILENT)
    state = here.state(process)
    assert (state.admits(Lane.BULK, 100), state.admits(Lane.INTERACTIVE, 100)) == (5, 7)
    assert len(fill(here, process, Lane.BULK)) == 5
    assert here.state(process).admits(Lane.BULK, 100) == 0
    assert len(fill(here, process, Lane.INTERACTIVE)) == 2


def test_other_groups_of_the_account_are_not_cut(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=10)
    process = here.process()
    end(here, fill(here, process)[:1], Health.OVERLOADED)
    here.name = "large"
    assert here.state(process).ceiling is None


# Retries -------------------------------------------------------------------------------------------------------------


def retry(here: LimitWorld, process: Process) -> bool:
    outcome = here.reserve(process, Need(), retry=True)
    if isinstance(outcome, Admitted):
        here.settle(outcome, Need())
    return isinstance(outcome, Admitted)


def others(here: LimitWorld, process: Process, calls: int) -> None:
    for _ in range(calls):
        here.settle(admitted(here.reserve(process, Need())), Need())


def test_some_retries_are_in_hand_for_the_whole_fleet(world: Callable[..., LimitWorld]) -> None:
    here = world()
    processes = [here.process(), here.process()]
    assert [retry(here, processes[n % 2]) for n in range(RETRIES.most + 1)] == [True] * RETRIES.most + [False]
    error = no_retry_left(here.reserve(processes[0], Need(), retry=True))
    assert error.retry_after_s == LONGEST_RETRY_WAIT_S, "other calls pay, too"
    assert str(error) == "openai/default has no retry left for 6.0 s: too many of its calls are retries"
    admitted(here.reserve(processes[0], Need()))


def test_ten_other_calls_pay_for_a_retry(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    while retry(here, process):
        pass
    for _ in range(3):
        others(here, process, 9)
        assert not retry(here, process)
        others(here, process, 1)
        assert retry(here, process)


def test_time_alone_brings_retries_back_and_no_more_than_were_in_hand(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    while retry(here, process):
        pass
    here.pass_s(RETRIES.one_every_s)
    assert [retry(here, process), retry(here, process)] == [True, False]
    here.pass_s(86_400)
    assert sum(retry(here, process) for _ in range(2 * RETRIES.most)) == RETRIES.most
    others(here, process, 20 * RETRIES.most)
    assert sum(retry(here, process) for _ in range(2 * RETRIES.most)) == RETRIES.most


def test_a_retry_that_was_not_made_after_all_costs_none(world: Callable[..., LimitWorld]) -> None:
    """Its date came too late, or the breaker opened meanwhile."""
    here = world()
    process = here.process()
    for _ in range(2 * RETRIES.most):
        here.settle(admitted(here.reserve(process, Need(), retry=True)), None)
    assert sum(retry(here, process) for _ in range(2 * RETRIES.most)) == RETRIES.most


def test_a_call_that_was_not_made_after_all_pays_for_no_retry(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    while retry(here, process):
        pass
    for _ in range(30):
        here.settle(admitted(here.reserve(process, Need())), None)
    assert not retry(here, process)


def test_a_retry_that_is_refused_otherwise_costs_none(world: Callable[..., LimitWorld], redis_url: str) -> None:
    here = world(concurrent_calls=1)
    process = here.process()
    admitted(here.reserve(process, Need()))
    for _ in range(2 * RETRIES.most):
        assert not retry(here, process)
    with redis.Redis.from_url(redis_url) as client:
        assert not client.exists(here.group.owner.key("retries"))


def test_a_retry_sent_twice_costs_one(world: Callable[..., LimitWorld], redis_url: str) -> None:
    here = world()
    process = here.process()
    first = admitted(here.reserve(process, Need(), Lane.INTERACTIVE, retry=True)).reservation
    with redis.Redis.from_url(redis_url) as client:
        once = client.get(here.group.owner.key("retries"))
        here.do(process.limiter._ask(first, 0))
        assert client.get(here.group.owner.key("retries")) == once


@pytest.mark.parametrize("apart_s", [0, 1])
def test_under_load_retries_are_a_tenth_of_the_other_calls(world: Callable[..., LimitWorld], apart_s: int) -> None:
    """All that is asked for is retried, too. What was in hand, a tenth of the calls, what time has paid; no retry more.

    The first call pays nothing: all that may be in hand is.
    """
    here = world()
    process = here.process()
    made = 0
    for _ in range(600):
        others(here, process, 1)
        made += retry(here, process)
        here.pass_s(apart_s)
    assert made == math.floor(RETRIES.most + 599 * RETRIES.share + 599 * apart_s / RETRIES.one_every_s)
