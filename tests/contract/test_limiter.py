"""What the limiter promises to callers, over a real Valkey: dates, refusals, debts, lanes, use."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from limitworld import Admitted, LimitWorld, admitted, refused

from gateway.catalog_entries import Lane
from gateway.errors import ExceedsLimit
from gateway.limits.group import LimitGroup
from gateway.limits.group_state import BOOKED_AHEAD_S
from gateway.limits.kinds import LimitKind
from gateway.limits.limiter import LEASE_S
from gateway.limits.rates import LATE_US, Need
from gateway.limits.refusals import SLOT_RETRY_S

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_S = 3_600.0
MINUTE_S = 60.0
APART_S = (MINUTE_S + LATE_US / 1e6) / 40
"""Of 40 requests a minute, each may be so much late."""


def test_a_call_goes_at_once_where_there_is_room(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=60, input_tokens_per_min=10_000, concurrent_calls=5)
    assert admitted(here.reserve(here.process(), Need(1, 100, 100))).reservation.wait_s == 0


def test_callers_get_dates_one_after_the_other(world: Callable[..., LimitWorld]) -> None:
    """No two wait for the same instant, whichever process they are of."""
    here = world(requests_per_min=40)
    processes = [here.process(), here.process()]
    waits = [admitted(here.reserve(processes[n % 2], Need(), Lane.INTERACTIVE)).reservation.wait_s for n in range(4)]
    assert waits == pytest.approx([0, APART_S, 2 * APART_S, 3 * APART_S])


def test_beyond_the_horizon_a_call_is_told_when_to_come_back(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=40)
    process = here.process()
    for _ in range(4):
        admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    error = refused(here.reserve(process, Need(), Lane.INTERACTIVE))
    assert error.retry_after_s == pytest.approx(4 * APART_S - BOOKED_AHEAD_S[Lane.INTERACTIVE])
    assert str(error) == "openai/default/default has no requests to book for 1.0 s"
    here.pass_s(error.retry_after_s)
    wait_s = admitted(here.reserve(process, Need(), Lane.INTERACTIVE)).reservation.wait_s
    assert wait_s == pytest.approx(BOOKED_AHEAD_S[Lane.INTERACTIVE])


def test_what_is_refused_reserves_nothing(world: Callable[..., LimitWorld]) -> None:
    """All or nothing: tokens refuse, so no request and no slot is taken either."""
    here = world(requests_per_min=600, input_tokens_per_min=6_000, concurrent_calls=1)
    process = here.process()
    all_of_it = Need(1, 6_000, 0)
    here.settle(admitted(here.reserve(process, all_of_it)), all_of_it)
    for _ in range(20):
        refused(here.reserve(process, Need(1, 600, 0)))
    assert admitted(here.reserve(process, Need(1, 0, 0))).reservation.wait_s == 0


def test_a_call_larger_than_a_minute_holds_is_refused_for_good(world: Callable[..., LimitWorld]) -> None:
    here = world(input_tokens_per_min=1_000)
    with pytest.raises(ExceedsLimit, match="needs 1001 input_tokens, and a minute has 1000"):
        here.reserve(here.process(), Need(1, 1_001, 0))
    assert admitted(here.reserve(here.process(), Need(1, 1_000, 0))).reservation.wait_s == 0


def test_a_call_that_is_refused_for_good_does_not_slow_down_the_others(world: Callable[..., LimitWorld]) -> None:
    here = world(input_tokens_per_min=100_000)
    process, small = here.process(), Need(1, 100, 0)
    before = admitted(here.reserve(process, small)).reservation.buckets
    with pytest.raises(ExceedsLimit):
        here.reserve(process, Need(1, 1_000_000, 0))
    assert admitted(here.reserve(process, small)).reservation.buckets == before


def test_what_was_not_used_comes_back(world: Callable[..., LimitWorld]) -> None:
    here = world(output_tokens_per_min=60_000)
    process = here.process()
    first = admitted(here.reserve(process, Need(1, 0, 6_000)))
    late = refused(here.reserve(process, Need(1, 0, 6_000)))
    here.settle(first, Need(1, 0, 1_000))
    again = admitted(here.reserve(process, Need(1, 0, 6_000), Lane.INTERACTIVE))
    assert late.retry_after_s is not None
    assert again.reservation.wait_s < late.retry_after_s + BOOKED_AHEAD_S[Lane.BULK]


def test_what_was_used_beyond_is_a_debt(world: Callable[..., LimitWorld]) -> None:
    here = world(output_tokens_per_min=60_000)
    process = here.process()
    first = admitted(here.reserve(process, Need(1, 0, 600)))
    here.settle(first, Need(1, 0, 60_600))
    error = refused(here.reserve(process, Need(1, 0, 600)))
    assert error.retry_after_s == pytest.approx(MINUTE_S, rel=0.1)


def test_a_call_that_was_not_made_gives_its_tokens_back(world: Callable[..., LimitWorld]) -> None:
    here = world(input_tokens_per_min=6_000)
    process = here.process()
    here.settle(admitted(here.reserve(process, Need(1, 6_000, 0))), None)
    assert admitted(here.reserve(process, Need(1, 6_000, 0))).reservation.wait_s == 0


def test_an_interactive_call_passes_what_bulk_has_booked(world: Callable[..., LimitWorld]) -> None:
    """Bulk has booked a second ahead; as many as the reserve holds go at once, the next one waits its turn."""
    here = world(requests_per_min=600)
    process = here.process()
    while isinstance(here.reserve(process, Need()), Admitted):
        pass
    waits = [admitted(here.reserve(process, Need(), Lane.INTERACTIVE)).reservation.wait_s for _ in range(7)]
    assert waits[:6] == [0] * 6
    assert waits[6] > BOOKED_AHEAD_S[Lane.BULK]


def test_bulk_leaves_slots_to_interactive_calls(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=5)
    process = here.process()
    for _ in range(4):
        admitted(here.reserve(process, Need()))
    error = refused(here.reserve(process, Need()))
    assert error.retry_after_s == SLOT_RETRY_S
    assert str(error) == "openai/default/default may have 5 calls open, 4 of them in bulk: none is free"
    admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    refused(here.reserve(process, Need(), Lane.INTERACTIVE))


def test_a_date_that_one_limit_demands_counts_for_the_others_too(world: Callable[..., LimitWorld]) -> None:
    """Tokens put the second call off; then it takes its request, so the next request is free so much after it."""
    here = world(requests_per_min=40, output_tokens_per_min=60_000)
    process = here.process()
    admitted(here.reserve(process, Need(1, 0, 3_000), Lane.INTERACTIVE))
    second = admitted(here.reserve(process, Need(1, 0, 3_000), Lane.INTERACTIVE)).reservation.wait_s
    assert second > 2
    third = admitted(here.reserve(process, Need(1, 0, 0), Lane.INTERACTIVE)).reservation.wait_s
    assert third == pytest.approx(second + APART_S)


@pytest.mark.parametrize(
    ("competing", "lane", "large", "large_lane"),
    [
        (2_500, Lane.BULK, 15_000, Lane.INTERACTIVE),
        (1_000, Lane.BULK, 11_000, Lane.BULK),
        (1_000, Lane.INTERACTIVE, 11_000, Lane.INTERACTIVE),
    ],
    ids=["interactive behind bulk", "bulk behind bulk", "interactive behind interactive"],
)
def test_small_calls_do_not_starve_a_large_one(
    world: Callable[..., LimitWorld], competing: int, lane: Lane, large: int, large_lane: Lane
) -> None:
    """All ask five times a second, in any order; the small ones take all they get."""
    here = world(input_tokens_per_min=100_000)
    process, rng, came = here.process(), Random(1), {competing: 0, large: 0}

    def ask(size: int, in_lane: Lane) -> bool:
        outcome = here.reserve(process, Need(1, size, 0), in_lane)
        if isinstance(outcome, Admitted):
            came[size] += 1
            here.settle(outcome, outcome.need)
        return isinstance(outcome, Admitted)

    for _ in range(5 * 120):
        asked_at = rng.randrange(3)
        for turn in range(3):
            if turn == asked_at:
                ask(large, large_lane)
            ask(competing, lane)
        here.pass_s(0.2)
    assert came[large] >= 2
    assert came[competing] >= 2 or lane is not large_lane, "interactive calls go first, all of them"


@pytest.mark.parametrize("share", [0.4, 0.34, 0.26, 0.51, 1.0])
def test_calls_of_more_than_a_tenth_go_one_by_one(world: Callable[..., LimitWorld], share: float) -> None:
    """A minute holds whole ones: of 40 % two, not two and a half."""
    limit = 100_000
    here = world(input_tokens_per_min=limit)
    dates = here.saturate(Need(1, int(limit * share), 0), 5 * MINUTE_S)
    assert max(sum(since <= at < since + MINUTE_S for at in dates) for since in dates) * share <= 1
    assert len(dates) >= 4 * int(1 / share)


def test_a_limit_that_is_free_does_not_keep_a_call_from_going_ahead(world: Callable[..., LimitWorld]) -> None:
    """49 requests a minute have no reserve, and need none: tokens are what keeps the call."""
    here = world(requests_per_min=49, output_tokens_per_min=100_000)
    process = here.process()
    here.settle(admitted(here.reserve(process, Need(1, 0, 500))), Need(1, 0, 6_000))
    here.pass_s(1.3)
    assert admitted(here.reserve(process, Need(1, 0, 500), Lane.INTERACTIVE)).reservation.wait_s == 0
    assert admitted(here.reserve(process, Need(1, 0, 500), Lane.INTERACTIVE)).reservation.wait_s > 0


def test_what_went_ahead_counts_until_its_own_date(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=600)
    process = here.process()

    def at_once() -> int:
        while isinstance(here.reserve(process, Need()), Admitted):
            pass
        waits = [admitted(here.reserve(process, Need(), Lane.INTERACTIVE)).reservation.wait_s for _ in range(8)]
        return waits.count(0)

    assert at_once() == 6
    here.pass_s(2 * BOOKED_AHEAD_S[Lane.INTERACTIVE])
    assert at_once() == 6


def test_the_state_shows_what_is_reserved_and_forgets_the_dead(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=600, concurrent_calls=10)
    dead, alive = here.process(), here.process()
    for _ in range(3):
        admitted(here.reserve(dead, Need(), Lane.INTERACTIVE))
    here.pass_s(LEASE_S / 2)
    admitted(here.reserve(alive, Need(), Lane.BULK))
    state = here.state(alive)
    assert (state.open, state.open_bulk) == (4, 1)
    assert (state.rates[LimitKind.REQUESTS].tat_us or 0) > state.now_us
    here.pass_s(LEASE_S / 2 + 1)
    state = here.state(alive)
    assert (state.open, state.open_bulk) == (1, 1)
    assert state.admits(Lane.BULK, at_most=100) == 7
    assert state.admits(Lane.INTERACTIVE, at_most=100) == 9
    assert state.admits(Lane.INTERACTIVE, at_most=2) == 2


def test_a_group_that_nobody_used_has_room_for_one_call_and_what_may_be_booked(
    world: Callable[..., LimitWorld],
) -> None:
    here = world(fresh=True, requests_per_min=60)
    here.flush()
    state = here.state(here.process())
    assert state.open == 0
    assert state.admits(Lane.INTERACTIVE, at_most=100) == 5


def test_when_a_call_could_go_is_not_known_where_others_must_end_first(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=2, requests_per_min=60)
    process = here.process()
    assert here.state(process).ready_in_s(Lane.INTERACTIVE) == 0
    first = admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    assert here.state(process).ready_in_s(Lane.BULK) == pytest.approx(0.5, abs=0.05), "a request takes a second"
    assert here.state(process).ready_in_s(Lane.INTERACTIVE) == 0
    admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    here.pass_s(MINUTE_S / 4)
    assert here.state(process).ready_in_s(Lane.INTERACTIVE) is None
    here.renew(process)
    here.settle(first, Need())
    assert here.state(process).ready_in_s(Lane.INTERACTIVE) == 0


def test_groups_do_not_know_each_other(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=1)
    process = here.process()
    other = LimitGroup("openai", "second", "default", here.limits)
    admitted(here.reserve(process, Need()))
    refused(here.reserve(process, Need()))
    assert here.do(process.limiter.reserve(other, Need(), Lane.BULK)).wait_s == 0


def test_small_calls_leave_room_for_the_large_one_among_them(world: Callable[..., LimitWorld]) -> None:
    """Once a large call was seen, no sliding minute holds more than the limit, whatever the mixture."""
    limit = 100_000
    here = world(output_tokens_per_min=limit)
    process, small, large = here.process(), Need(1, 0, 200), Need(1, 0, 4_000)
    calls: list[tuple[float, int]] = []
    here.settle(admitted(here.reserve(process, large)), large)
    here.pass_s(LONG_S / 10)
    began, step = here.now_us, 0
    while here.now_us - began < 5 * MINUTE_S * 1e6:
        step += 1
        need = large if step % 30 == 0 else small
        outcome = here.reserve(process, need, Lane.INTERACTIVE if need is large else Lane.BULK)
        if isinstance(outcome, Admitted):
            calls.append(((outcome.date_us() - began) / 1e6, need.output_tokens))
            here.settle(outcome, need)
        else:
            assert outcome.retry_after_s is not None
            here.pass_s(min(outcome.retry_after_s + 1e-6, 1))
    fullest = max(sum(n for at, n in calls if since <= at < since + MINUTE_S) for since, _ in calls)
    assert fullest <= limit
    assert sum(n for at, n in calls if at >= MINUTE_S) >= 0.85 * 4 * limit
    assert sum(n == 4_000 for _, n in calls) >= 10


def test_a_call_is_charged_for_what_it_did_not_reserve(world: Callable[..., LimitWorld]) -> None:
    """It needs nothing of a limit, so it does not wait for it; what it uses of it, others wait for."""
    here = world(requests_per_min=600, input_tokens_per_min=6_000)
    process = here.process()
    here.settle(admitted(here.reserve(process, Need(1, 10, 0))), Need(1, 6_000, 0))
    free = admitted(here.reserve(process, Need(1, 0, 0)))
    assert free.reservation.wait_s == 0
    first = refused(here.reserve(process, Need(1, 10, 0))).retry_after_s
    here.settle(free, Need(1, 600, 0))
    second = refused(here.reserve(process, Need(1, 10, 0))).retry_after_s
    assert first is not None
    assert second is not None
    assert second > first + 5


@pytest.mark.parametrize(
    ("limits", "need", "least"),
    [
        ({"requests_per_min": 600}, Need(), 0.98),
        ({"requests_per_min": 50}, Need(), 0.98),
        ({"requests_per_min": 60}, Need(), 0.98),
        ({"requests_per_min": 7}, Need(), 1.0),
        ({"input_tokens_per_min": 300_000}, Need(1, 1_000, 0), 0.98),
        ({"output_tokens_per_min": 1_000_000, "requests_per_min": 4_000}, Need(1, 0, 2_000), 0.98),
    ],
    ids=lambda value: str(value),
)
def test_a_saturated_limit_is_used_up(
    world: Callable[..., LimitWorld], limits: dict[str, int], need: Need, least: float
) -> None:
    """Bulk alone, two processes that ask as soon as they are told they may, minutes two to four."""
    here = world(**limits)
    dates = here.saturate(need, 4 * MINUTE_S)
    measured = sum(MINUTE_S <= date < 4 * MINUTE_S for date in dates)
    a_minute = min(limit / max(1, getattr(need, kind.removesuffix("_per_min"))) for kind, limit in limits.items())
    assert least * 3 * a_minute <= measured <= 3 * a_minute


def test_the_state_shows_what_is_used_of_a_rate(world: Callable[..., LimitWorld]) -> None:
    here = world(tokens_per_min=1_000_000)
    process = here.process()
    for _ in range(200):
        here.settle(admitted(here.reserve(process, Need(1, 10_000, 0))), Need(1, 5_000, 0))
        here.pass_s(1.0)
    [rate] = here.state(process).rates.values()
    assert rate.used == pytest.approx(0.3, abs=0.05), "300,000 of a million a minute, and a little for the rate's burst"
    here.pass_s(120.0)
    [rate] = here.state(process).rates.values()
    assert rate.used < 0.06
