"""What providers say of their limits, over a real Valkey: it tightens the group for all, and loosens nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from limitworld import LimitWorld, Process, admitted, refused

from gateway.catalog_entries import Lane
from gateway.errors import GatewayError, InvalidRequest, Overloaded, Throttled
from gateway.limits.group_state import BOOKED_AHEAD_S
from gateway.limits.kinds import LimitKind
from gateway.limits.rates import Need
from gateway.limits.tightening import LONGEST_CLOSED_S, THROTTLED_S
from gateway.limits.told import ToldLimit, ToldLimits

if TYPE_CHECKING:
    from collections.abc import Callable

BULK_AHEAD_S = BOOKED_AHEAD_S[Lane.BULK]


def says(here: LimitWorld, process: Process, told: ToldLimits | None = None, error: GatewayError | None = None) -> None:
    """One call is made, and its provider says this with the answer."""
    one = admitted(here.reserve(process, Need()))
    here.settle(one, Need())
    here.said(process, lambda: process.limiter.tighten(one.reservation, told, error))


def requests(
    remaining: int, limit: int | None = 6_000, at: float | None = None, reset_s: float | None = None
) -> ToldLimits:
    return ToldLimits({LimitKind.REQUESTS: ToldLimit(remaining, limit, reset_s)}, at=at)


def at_once(here: LimitWorld, process: Process) -> int:
    """How many calls go without waiting."""
    count = 0
    while admitted(here.reserve(process, Need())).reservation.wait_s == 0:
        count += 1
    return count


def test_less_than_may_go_at_once_is_taken_for_reserved_by_all(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=6_000)
    here.pass_s(60)
    [teller, other] = here.process(), here.process()
    says(here, teller, requests(remaining=12))
    assert at_once(here, other) == 12


@pytest.mark.parametrize("told", [
    pytest.param(requests(5_000), id="plenty is left"),
    pytest.param(requests(0, limit=200), id="of another limit, a day's perhaps"),
    pytest.param(ToldLimits({}), id="nothing said"),
    pytest.param(None, id="no headers"),
])  # fmt: skip
def test_what_says_nothing_of_our_limit_changes_nothing(world: Callable[..., LimitWorld], told: ToldLimits) -> None:
    here = world(requests_per_min=6_000)
    here.pass_s(60)
    process = here.process()
    expected = at_once(here, process) - 1  # the one that is told with
    here.pass_s(60)
    says(here, process, told)
    assert at_once(here, process) == expected


def test_older_news_than_the_last_say_nothing(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=6_000)
    here.pass_s(60)
    process, now_s = here.process(), here.now_us / 1e6
    says(here, process, requests(25, at=now_s))
    says(here, process, requests(0, at=now_s - 5))
    assert at_once(here, process) == pytest.approx(25, abs=2)


@pytest.mark.parametrize("ahead_s", [253_000_000_000.0, 3_600.0, 301.0])
def test_a_date_far_ahead_of_ours_does_not_count(world: Callable[..., LimitWorld], ahead_s: float) -> None:
    """A server in the year 9999 must not have the last word for ever, and one in another zone not for an hour."""
    here = world(requests_per_min=6_000)
    here.pass_s(60)
    process = here.process()
    says(here, process, requests(5_000, at=here.now_us / 1e6 + ahead_s))
    says(here, process, requests(25, at=here.now_us / 1e6 + ahead_s))
    says(here, process, requests(3, at=here.now_us / 1e6))
    assert at_once(here, process) <= 4


@pytest.mark.parametrize("ahead_s", [2.0, 299.0])
def test_how_long_a_group_is_closed_goes_by_no_date(world: Callable[..., LimitWorld], ahead_s: float) -> None:
    """One edge of a provider has a clock that is ahead; what another one asks for counts all the same."""
    here = world(requests_per_min=6_000)
    here.pass_s(60)
    process, now_s = here.process(), here.now_us / 1e6
    says(here, process, requests(25, at=now_s + ahead_s))
    refusal = Throttled("429", retry_after_s=30.0, told=requests(0, at=now_s))
    says(here, process, refusal.told, refusal)
    assert refused(here.reserve(process, Need())).retry_after_s == pytest.approx(30.0 - BULK_AHEAD_S, abs=0.01)
    here.pass_s(30.0)
    assert at_once(here, process) >= 25, "of the amounts the older ones said nothing"


@pytest.mark.parametrize(("error", "told", "closed_s"), [
    (Throttled("429", retry_after_s=7.0), ToldLimits({}, retry_after_s=9.0), 7.0),
    (Throttled("429"), ToldLimits({}, retry_after_s=9.0), 9.0),
    (Throttled("429"), None, THROTTLED_S),
    (Overloaded("529", retry_after_s=4.0), None, 4.0),
    (Throttled("429", retry_after_s=1e9), None, LONGEST_CLOSED_S),
])  # fmt: skip
def test_a_wait_closes_the_group_for_all(
    world: Callable[..., LimitWorld], error: GatewayError, told: ToldLimits | None, closed_s: float
) -> None:
    here = world(requests_per_min=6_000)
    here.pass_s(60)
    [teller, other] = here.process(), here.process()
    says(here, teller, told, error)
    reached = refused(here.reserve(other, Need()))
    assert reached.retry_after_s == pytest.approx(closed_s - BULK_AHEAD_S, abs=0.01)
    assert "closed by its provider's own word" in str(reached)
    state = here.state(other)
    assert state.admits(Lane.BULK, 100) == 0
    assert state.opens_in_s(Lane.BULK, 0) == pytest.approx(closed_s - BULK_AHEAD_S, abs=0.01)
    here.pass_s(closed_s - BULK_AHEAD_S / 2)
    assert admitted(here.reserve(other, Need())).reservation.wait_s == pytest.approx(BULK_AHEAD_S / 2, abs=0.01)
    here.pass_s(BULK_AHEAD_S)
    assert admitted(here.reserve(other, Need())).reservation.wait_s == 0


@pytest.mark.parametrize(("told", "wait_s"), [
    pytest.param(requests(0, reset_s=40.0), 40.0, id="a window"),
    pytest.param(requests(0, limit=None, reset_s=40.0), 40.0, id="a window of what must be our limit"),
    pytest.param(requests(0, reset_s=60.0), 0.3, id="a bucket that fills as the rate has it"),
    pytest.param(requests(0, reset_s=46.0), 0.3, id="or nearly so"),
    pytest.param(requests(0, reset_s=0.05), 0.35, id="a window that ends at once"),
    pytest.param(requests(0, limit=None, reset_s=3_600.0), 0.3, id="of another limit, an hour's perhaps"),
    pytest.param(requests(1, reset_s=10.0), 0.3, id="a call is left"),
    pytest.param(requests(0), 0.3, id="no reset told"),
])  # fmt: skip
def test_where_a_window_has_nothing_left_the_next_call_goes_when_it_ends(
    world: Callable[..., LimitWorld], told: ToldLimits, wait_s: float
) -> None:
    here = world(requests_per_min=6_000, concurrent_calls=50)
    here.pass_s(60)
    [teller, other] = here.process(), here.process()
    says(here, teller, told)
    state = here.state(other)
    ahead_s = (state.rates[LimitKind.REQUESTS].tat_us - state.now_us) / 1e6
    assert ahead_s == pytest.approx(wait_s + 0.3 * (wait_s > 1), abs=0.02), "a room of 30 takes 0.3 s"
    if wait_s > 1:
        assert refused(here.reserve(other, Need())).retry_after_s == pytest.approx(wait_s - BULK_AHEAD_S, abs=0.02)
        here.pass_s(wait_s)
        assert admitted(here.reserve(other, Need())).reservation.wait_s == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("age_s", "wait_s"), [(0.0, 40.0), (16.0, 25.0), (100.0, 0.0), (-200.0, 40.0)])
def test_what_has_passed_since_an_answers_date_is_not_waited_for_again(
    world: Callable[..., LimitWorld], age_s: float, wait_s: float
) -> None:
    """Its date has whole seconds: up to one of them may not have passed. A clock that is ahead makes no wait longer."""
    here = world(requests_per_min=6_000)
    here.pass_s(60)
    process = here.process()
    says(here, process, requests(0, at=here.now_us / 1e6 - age_s, reset_s=40.0))
    state = here.state(process)
    assert (state.rates[LimitKind.REQUESTS].tat_us - state.now_us) / 1e6 == pytest.approx(wait_s + 0.3, abs=0.02)


def test_a_window_of_tokens_keeps_only_calls_that_need_them(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=6_000, output_tokens_per_min=600_000)
    here.pass_s(60)
    process, need = here.process(), Need(1, 0, 1_000)
    one = admitted(here.reserve(process, need))
    here.settle(one, need)
    told = ToldLimits({LimitKind.OUTPUT_TOKENS: ToldLimit(999, 600_000, 20.0)})
    here.said(process, lambda: process.limiter.tighten(one.reservation, told))
    assert refused(here.reserve(process, need, Lane.INTERACTIVE)).retry_after_s == pytest.approx(15.0, abs=0.5)
    assert admitted(here.reserve(process, Need())).reservation.wait_s == 0


def test_an_urgent_call_does_not_pass_a_closed_door(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=6_000)
    here.pass_s(60)
    process = here.process()
    says(here, process, error=Throttled("429", retry_after_s=3.0))
    wait_s = admitted(here.reserve(process, Need(), Lane.INTERACTIVE)).reservation.wait_s
    assert wait_s == pytest.approx(3.0, abs=0.01)


def test_a_shorter_wait_shortens_no_longer_one(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=6_000)
    here.pass_s(60)
    process = here.process()
    first, second = (admitted(here.reserve(process, Need())).reservation for _ in range(2))
    for reservation, retry_after_s in ((first, 9.0), (second, 2.0)):
        error = Throttled("429", retry_after_s=retry_after_s)
        here.said(process, lambda one=reservation, why=error: process.limiter.tighten(one, None, why))  # type: ignore[misc]
    assert refused(here.reserve(process, Need())).retry_after_s == pytest.approx(9.0 - BULK_AHEAD_S, abs=0.01)


def test_other_errors_close_nothing(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=6_000)
    here.pass_s(60)
    process = here.process()
    says(here, process, error=InvalidRequest("400", retry_after_s=9.0))
    assert admitted(here.reserve(process, Need())).reservation.wait_s == 0
