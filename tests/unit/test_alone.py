"""What a process allows itself while Redis is away: a share, for a while."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.catalog_entries import Lane, Limits
from gateway.errors import ExceedsLimit, LimitReached
from gateway.limits.alone import AGAIN_S, LONGEST_S, SHARE_TAKEN, Alone
from gateway.limits.group import LimitGroup
from gateway.limits.rates import Need

PROCESSES = 4


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def group(**limits: int) -> LimitGroup:
    return LimitGroup("openai", "default", "default", Limits(**limits))


def made(alone: Alone, clock: Clock, at: LimitGroup, seconds: float, need: Need | None = None) -> int:
    """How many calls one process makes that asks as soon as it may."""
    count, until = 0, clock.now_s + seconds
    while clock.now_s < until:
        try:
            alone.settle(alone.reserve(at, need or Need(), Lane.BULK, PROCESSES, may_wait=False))
            count += 1
        except LimitReached as reached:
            clock.now_s += (reached.retry_after_s or 0.0) + 1e-9
    return count


@pytest.mark.parametrize(("limits", "need", "in_a_minute"), [
    ({"requests_per_min": 800}, Need(), 800),
    ({"tokens_per_min": 80_000}, Need(1, 60, 40), 800),
    ({"requests_per_min": 8_000, "output_tokens_per_min": 80_000}, Need(1, 5, 100), 800),
])  # fmt: skip
def test_all_processes_together_stay_below_the_limit(limits: dict[str, int], need: Need, in_a_minute: int) -> None:
    clock = Clock()
    count = made(Alone(clock), clock, group(**limits), LONGEST_S - 1.0, need)
    assert count * PROCESSES <= in_a_minute * SHARE_TAKEN + PROCESSES
    assert count * PROCESSES >= in_a_minute * SHARE_TAKEN * 0.9


def test_open_calls_are_shared_too() -> None:
    alone, at = Alone(Clock()), group(concurrent_calls=16)
    held = [alone.reserve(at, Need(), Lane.BULK, PROCESSES, may_wait=True) for _ in range(2)]
    with pytest.raises(LimitReached):
        alone.reserve(at, Need(), Lane.BULK, PROCESSES, may_wait=True)
    alone.settle(held[0])
    alone.reserve(at, Need(), Lane.BULK, PROCESSES, may_wait=True)


def test_a_date_within_the_horizon_is_waited_for() -> None:
    alone, at = Alone(Clock()), group(requests_per_min=480)
    waits = [alone.reserve(at, Need(), Lane.INTERACTIVE, PROCESSES, may_wait=True).wait_s for _ in range(3)]
    assert waits == pytest.approx([0.0, 1.0, 2.0])


def test_it_ends_after_a_while_and_begins_anew_when_redis_was_heard() -> None:
    clock = Clock()
    alone, at = Alone(clock), group(requests_per_min=48_000)
    alone.reserve(at, Need(), Lane.BULK, PROCESSES, may_wait=True)
    clock.now_s += LONGEST_S
    with pytest.raises(LimitReached, match="Redis is away") as caught:
        alone.reserve(at, Need(), Lane.BULK, PROCESSES, may_wait=True)
    assert caught.value.retry_after_s == AGAIN_S
    alone.heard()
    alone.reserve(at, Need(), Lane.BULK, PROCESSES, may_wait=True)


def test_where_there_are_no_limits_it_goes_on() -> None:
    clock = Clock()
    alone, at = Alone(clock), group()
    for _ in range(3):
        clock.now_s += LONGEST_S
        alone.settle(alone.reserve(at, Need(), Lane.BULK, PROCESSES, may_wait=False))


def test_what_never_fits_is_refused() -> None:
    with pytest.raises(ExceedsLimit):
        Alone(Clock()).reserve(group(tokens_per_min=10), Need(1, 20, 0), Lane.BULK, PROCESSES, may_wait=True)


def test_where_money_is_limited_no_call_goes() -> None:
    """Nobody knows what the others spend meanwhile."""
    alone, need = Alone(Clock()), Need(cost_usd=Decimal("0.01"))
    with pytest.raises(LimitReached) as caught:
        alone.reserve(group(usd_per_day=1), need, Lane.BULK, PROCESSES, may_wait=True)
    assert caught.value.retry_after_s == AGAIN_S
