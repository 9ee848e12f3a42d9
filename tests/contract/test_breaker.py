"""What a breaker promises, over a real Valkey: when it opens, who may probe, what a late outcome is worth, orders."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
import redis
from limitworld import Admitted, LimitWorld, Process, admitted, kept_out, refused

from gateway.breaker.account import Account
from gateway.breaker.health import Health
from gateway.breaker.policy import BreakerPolicy
from gateway.breaker.view import ORDERED_HERE
from gateway.catalog_entries import Lane, Limits
from gateway.errors import BreakerOpen, InvalidRequest, Overloaded, ServerError, Throttled
from gateway.limits.group import LimitGroup
from gateway.limits.limiter import LEASE_S, Limiter
from gateway.limits.rates import Need
from gateway.redis_line import RedisAway, RedisLine

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY = BreakerPolicy()
WORKS, FAILS, SILENT = Health.WORKS, Health.FAILS, Health.SILENT


def call(here: LimitWorld, process: Process, health: Health) -> None:
    """A call that is let in, and ends like this a moment later."""
    one = admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    here.pass_s(0.01)
    here.settle(one, Need(), health)


def opened(here: LimitWorld, process: Process) -> None:
    for _ in range(POLICY.failures_in_a_row):
        call(here, process, FAILS)


def probe(here: LimitWorld, process: Process) -> Admitted:
    one = admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    assert one.reservation.probe
    return one


def test_failures_in_a_row_open_it_for_every_process(world: Callable[..., LimitWorld]) -> None:
    here = world()
    failing, other = here.process(), here.process()
    for _ in range(POLICY.failures_in_a_row - 1):
        call(here, failing, FAILS)
    admitted(here.reserve(other, Need(1, 0, 0)))
    call(here, failing, FAILS)
    error = kept_out(here.reserve(other, Need()))
    assert error.retry_after_s == pytest.approx(POLICY.open_s)
    assert str(error) == "the breaker of openai/default is open: 5 failures in a row"


def test_a_success_between_them_keeps_it_closed(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    for _ in range(2):
        for _ in range(POLICY.failures_in_a_row - 1):
            call(here, process, FAILS)
        call(here, process, WORKS)
        here.pass_s(POLICY.window_s)
    admitted(here.reserve(process, Need()))


def test_what_says_nothing_neither_opens_it_nor_keeps_it_closed(world: Callable[..., LimitWorld]) -> None:
    """A 400 or a 429 among failures does not break their row."""
    here = world()
    process = here.process()
    for _ in range(3 * POLICY.failures_in_a_row):
        call(here, process, SILENT)
    for _ in range(POLICY.failures_in_a_row):
        call(here, process, FAILS)
        one = here.reserve(process, Need())
        if isinstance(one, Admitted):
            here.settle(one, Need(), SILENT)
    kept_out(here.reserve(process, Need()))


def test_every_other_call_that_fails_opens_it_too(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    for _ in range(POLICY.least_calls // 2 - 1):
        call(here, process, WORKS)
        call(here, process, FAILS)
    call(here, process, WORKS)
    admitted(here.reserve(process, Need()))
    call(here, process, FAILS)
    assert "10 of 20 calls failed within 30 s" in str(kept_out(here.reserve(process, Need())))


def test_what_failed_before_the_window_counts_no_more(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    for health in [FAILS, WORKS] * (POLICY.least_calls // 2 - 1):
        call(here, process, health)
    here.pass_s(POLICY.window_s)
    for health in [WORKS, FAILS] * 3:
        call(here, process, health)
    report = here.breaker(process)
    assert (report.standing.state, report.calls, report.failed) == ("closed", 6, 3)


def test_counts_of_the_span_before_still_count(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    for health in [FAILS, WORKS] * (POLICY.least_calls // 2 - 1):
        call(here, process, health)
    here.pass_s(POLICY.window_s / 2)
    call(here, process, WORKS)
    call(here, process, FAILS)
    kept_out(here.reserve(process, Need()))


def test_when_its_time_has_come_one_call_probes_and_all_others_wait(world: Callable[..., LimitWorld]) -> None:
    here = world()
    one, other = here.process(), here.process()
    opened(here, one)
    here.pass_s(POLICY.open_s - 0.001)
    kept_out(here.reserve(one, Need()))
    here.pass_s(0.001)
    held = probe(here, one)
    for process in (one, other):
        error = kept_out(here.reserve(process, Need()))
        assert error.retry_after_s == POLICY.probe_again_s
        assert "half-open, a probe is under way" in str(error)
    here.settle(held, Need(), WORKS)
    assert not admitted(here.reserve(other, Need())).reservation.probe


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_bound(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    opened(here, process)
    waits = []
    for _ in range(6):
        waits.append(kept_out(here.reserve(process, Need())).retry_after_s)
        here.pass_s(waits[-1] or 0)
        here.settle(probe(here, process), Need(), FAILS)
    assert waits == pytest.approx([5, 10, 20, 40, 45, 45])
    here.pass_s(POLICY.longest_open_s)
    here.settle(probe(here, process), Need(), WORKS)
    opened(here, process)
    assert kept_out(here.reserve(process, Need())).retry_after_s == pytest.approx(POLICY.open_s)


def test_a_probe_that_says_nothing_lets_another_go(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    opened(here, process)
    here.pass_s(POLICY.open_s)
    here.settle(probe(here, process), None)
    here.settle(probe(here, process), Need(), WORKS)
    assert here.breaker(process).standing.closed


def test_a_dead_probers_lease_lapses(world: Callable[..., LimitWorld]) -> None:
    here = world()
    dead, other = here.process(), here.process()
    admitted(here.reserve(other, Need()))
    opened(here, dead)
    here.pass_s(POLICY.open_s)
    probe(here, dead)
    here.pass_s(LEASE_S / 2)
    here.renew(other)
    here.pass_s(LEASE_S / 2 - 0.001)
    kept_out(here.reserve(other, Need()))
    here.pass_s(0.001)
    probe(here, other)


def test_a_long_probe_is_renewed_with_its_process(world: Callable[..., LimitWorld]) -> None:
    here = world()
    prober, other = here.process(), here.process()
    opened(here, prober)
    here.pass_s(POLICY.open_s)
    held = probe(here, prober)
    for _ in range(4):
        here.pass_s(LEASE_S - 1)
        here.renew(prober)
        kept_out(here.reserve(other, Need()))
    here.settle(held, Need(), WORKS)
    admitted(here.reserve(other, Need()))


def test_who_took_a_lapsed_probe_over_decides_alone(world: Callable[..., LimitWorld]) -> None:
    here = world()
    stalled, other = here.process(), here.process()
    opened(here, stalled)
    here.pass_s(POLICY.open_s)
    late = probe(here, stalled)
    here.pass_s(LEASE_S + 1)
    held = probe(here, other)
    here.renew(stalled)
    here.settle(late, Need(), WORKS)
    assert here.breaker(other).standing.half_open
    here.settle(held, Need(), FAILS)
    assert here.breaker(other).standing.state == "open"


def test_a_probe_whose_reply_is_lost_is_given_back(redis_url: str) -> None:
    """The caller is cancelled while the script runs."""

    async def cancelled() -> bool:
        line = RedisLine.from_url(redis_url)
        limiter, group = Limiter(line, "holder"), LimitGroup("openai", "default", "default")
        await limiter.breakers.force(group.owner, "open")
        await limiter.breakers.force(group.owner, None)
        asking = asyncio.ensure_future(limiter.reserve(group, Need(), Lane.INTERACTIVE))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        second = await limiter.reserve(group, Need(), Lane.INTERACTIVE)
        limiter.close()
        await line.aclose()
        return second.probe

    assert asyncio.run(cancelled())


def test_a_late_success_of_an_old_call_does_not_close_it(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    late = admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    opened(here, process)
    before = here.breaker(process)
    here.settle(late, Need(), WORKS)
    assert here.breaker(process) == before
    kept_out(here.reserve(process, Need()))


def test_late_failures_of_old_calls_do_not_open_a_closed_one(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    late = [admitted(here.reserve(process, Need(), Lane.INTERACTIVE)) for _ in range(2 * POLICY.failures_in_a_row)]
    opened(here, process)
    here.pass_s(POLICY.open_s)
    here.settle(probe(here, process), Need(), WORKS)
    before = here.breaker(process)
    for one in late:
        here.settle(one, Need(), FAILS)
    assert here.breaker(process) == before
    assert before.standing.closed
    assert (before.standing.failures, before.calls, before.failed) == (0, 0, 0)


def test_an_outcome_counts_once(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    one = admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    for _ in range(POLICY.failures_in_a_row):
        here.settle(one, Need(), FAILS)
    report = here.breaker(process)
    assert (report.standing.failures, report.calls, report.failed) == (1, 1, 1)


def test_a_probe_asked_for_twice_is_one_probe(world: Callable[..., LimitWorld]) -> None:
    """The connection broke before the reply came."""
    here = world()
    process = here.process()
    opened(here, process)
    here.pass_s(POLICY.open_s)
    held = probe(here, process).reservation
    again = here.do(process.limiter._ask(held, 0))
    assert (again.in_the_way, int(again.admission[0]), again.admission[1:]) == (
        "",
        held.epoch,
        [held.admitted_us, 1, 1],
    )


def test_asked_for_twice_a_call_keeps_the_epoch_it_was_let_in(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    held = admitted(here.reserve(process, Need())).reservation
    force(here, process, "open")
    force(here, process, "closed")
    again = here.do(process.limiter._ask(held, 0))
    assert int(again.admission[0]) == held.epoch < here.breaker(process).standing.epoch


def test_an_epoch_of_before_a_flush_never_comes_again(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    opened(here, process)
    first = here.breaker(process).standing.epoch
    here.flush()
    admitted(here.reserve(process, Need()))
    opened(here, process)
    assert here.breaker(process).standing.epoch > first


def test_no_slot_or_date_is_taken_by_whom_a_breaker_keeps_out(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=6_000, concurrent_calls=5)
    process = here.process()
    opened(here, process)
    before = here.state(process)
    kept_out(here.reserve(process, Need()))
    after = here.state(process)
    assert (after.open, after.rates) == (before.open, before.rates)


def test_who_is_refused_a_slot_does_not_take_the_probe(world: Callable[..., LimitWorld]) -> None:
    """All or nothing: the probe stays free for the call that gets one."""
    here = world(concurrent_calls=1)
    process = here.process()
    opened(here, process)
    here.do(process.limiter.breakers.force(here.group.owner, "closed"))
    held = admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    here.do(process.limiter.breakers.force(here.group.owner, "open"))
    here.do(process.limiter.breakers.force(here.group.owner, None))
    refused(here.reserve(process, Need(), Lane.INTERACTIVE))
    here.settle(held, None)
    probe(here, process)


def test_accounts_and_groups(world: Callable[..., LimitWorld]) -> None:
    """A breaker is of an account: its groups share it, other accounts do not know it."""
    here = world()
    process = here.process()
    opened(here, process)
    elsewhere = LimitGroup("openai", "second", "default")
    assert here.do(process.limiter.reserve(elsewhere, Need(), Lane.BULK)).wait_s == 0
    assert here.do(process.limiter.state(LimitGroup("openai", "default", "large"))).breaker.state == "open"


# What others see -----------------------------------------------------------------------------------------------------


def test_the_state_admits_nothing_but_the_probe_in_its_time(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=600)
    process, dispatcher = here.process(), here.process()
    opened(here, process)

    def seen(calls: int = 0) -> tuple[int, float]:
        state = here.state(dispatcher)
        return state.admits(Lane.BULK, 100), state.opens_in_s(Lane.BULK, calls)

    assert seen() == (0, POLICY.open_s)
    here.pass_s(POLICY.open_s)
    assert seen() == (1, 0)
    assert seen(calls=1) == (1, POLICY.probe_again_s)
    held = probe(here, process)
    assert seen() == (0, POLICY.probe_again_s)
    here.settle(held, Need(), WORKS)
    assert seen()[0] > 1


def test_a_report_says_all_there_is_to_know(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    account = here.group.owner
    fresh = here.breaker(process)
    assert (fresh.standing.state, fresh.since, fresh.changes, fresh.next_probe_s) == ("closed", None, 0, None)
    opened(here, process)
    report = here.breaker(process)
    assert (report.account, report.standing.state, report.changes, report.forced) == (account, "open", 1, None)
    assert report.since is not None
    assert report.since.timestamp() == pytest.approx(here.now_us / 1e6)
    assert report.next_probe_s == POLICY.open_s
    here.pass_s(POLICY.open_s)
    probe(here, process)
    report = here.breaker(process)
    assert (report.standing.state, report.probing, report.standing.reason) == ("half-open", True, "5 failures in a row")


def test_a_process_hears_of_a_change_once_and_tells_it(
    world: Callable[..., LimitWorld], caplog: pytest.LogCaptureFixture
) -> None:
    here = world()
    failing, other = here.process(), here.process()
    caplog.set_level(logging.INFO, logger="gateway.breaker.view")
    opened(here, failing)
    for _ in range(5):
        kept_out(here.reserve(other, Need()))
    here.pass_s(POLICY.open_s)
    held = probe(here, other)
    here.settle(held, Need(), WORKS)
    for _ in range(3):
        admitted(here.reserve(other, Need()))
    told = [
        (r.getMessage(), r.__dict__["provider"], r.__dict__["account"], r.__dict__["was"], r.__dict__["reason"])
        for r in caplog.records
    ]
    assert told == [
        ("a breaker is open now", "openai", "default", "closed", "5 failures in a row"),
        ("a breaker is half-open now", "openai", "default", "open", "5 failures in a row"),
        ("a breaker is closed now", "openai", "default", "half-open", "the probe succeeded"),
    ]
    assert other.limiter.breakers.changes.counted["openai/default", "closed", "open"] == 1
    assert here.breaker(other).changes == 2


def test_the_view_is_pybreakers(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    view = process.limiter.breakers.view(here.group.owner)
    assert (view.name, view.current_state) == ("openai/default", "closed")
    for number in range(POLICY.failures_in_a_row):
        assert view.fail_counter == max(0, number - 1), "told with the reply to the next call"
        call(here, process, FAILS)
    kept_out(here.reserve(process, Need()))
    assert (view.current_state, view.state.name, view.success_counter) == ("open", "open", 0)
    assert [view.is_system_error(error("")) for error in (ServerError, Overloaded, Throttled, InvalidRequest)] == [
        True, True, False, False,
    ]  # fmt: skip


def test_a_date_that_comes_after_the_breaker_opened_is_not_kept(world: Callable[..., LimitWorld]) -> None:
    """The call was booked ahead; it is not made any more, and asks nobody."""
    here = world(requests_per_min=40)
    process = here.process()
    admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    booked = admitted(here.reserve(process, Need(), Lane.INTERACTIVE)).reservation
    assert booked.wait_s > 0
    process.limiter.confirm(booked)
    here.do(process.limiter.breakers.force(here.group.owner, "open"))
    with pytest.raises(BreakerOpen, match="the breaker of openai/default is open"):
        process.limiter.confirm(booked)


# Orders --------------------------------------------------------------------------------------------------------------


def force(here: LimitWorld, process: Process, order: Any) -> None:
    here.do(process.limiter.breakers.force(here.group.owner, order))


def test_held_open_it_keeps_all_out_until_it_is_taken_back(world: Callable[..., LimitWorld], redis_url: str) -> None:
    here = world()
    operator, other = here.process(), here.process()
    old = admitted(here.reserve(other, Need()))
    force(here, operator, "open")
    here.pass_s(86_400)
    error = kept_out(here.reserve(other, Need()))
    assert error.retry_after_s == POLICY.forced_again_s
    assert "held open by an operator" in str(error)
    here.settle(old, Need(), WORKS)
    report = here.breaker(other)
    assert (report.forced, report.next_probe_s) == ("open", None)
    with redis.Redis.from_url(redis_url) as client:
        assert client.pttl(here.group.owner.key("breaker")) == -1
    force(here, operator, None)
    here.settle(probe(here, other), Need(), FAILS)
    assert kept_out(here.reserve(other, Need())).retry_after_s == POLICY.open_s
    with redis.Redis.from_url(redis_url) as client:
        assert client.pttl(here.group.owner.key("breaker")) > 0


def test_a_process_knows_an_order_from_an_outage(world: Callable[..., LimitWorld]) -> None:
    """By what a reply says of it: while Redis is away, time opens the one and not the other."""
    here = world()
    operator, other = here.process(), here.process()
    account, breakers = here.group.owner, other.limiter.breakers

    def heard() -> tuple[bool, bool]:
        here.reserve(other, Need())
        return breakers.standing(account).held_open, breakers.standing_by_now(account).keeps_out

    assert heard() == (False, False)
    force(here, operator, "open")
    assert heard() == (True, True)
    here.pass_s(86_400)
    assert breakers.standing_by_now(account).keeps_out
    assert breakers.standing_by_now(account).again_s == POLICY.forced_again_s
    force(here, operator, "closed")
    assert heard() == (False, False)
    force(here, operator, None)
    assert heard() == (False, False)
    opened(here, operator)
    assert heard() == (False, True)
    here.pass_s(POLICY.open_s - 1.0)
    assert breakers.standing_by_now(account).again_s == pytest.approx(1.0)
    here.pass_s(1.0)
    assert not breakers.standing_by_now(account).keeps_out
    force(here, operator, "open")
    force(here, operator, None)
    here.state(other)
    assert not breakers.standing(account).held_open


def test_held_closed_no_failure_opens_it(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    opened(here, process)
    force(here, process, "closed")
    for _ in range(4):
        opened(here, process)
    report = here.breaker(process)
    assert (report.calls, report.changes) == (0, 2)
    late = admitted(here.reserve(process, Need()))
    force(here, process, None)
    here.settle(late, Need(), FAILS)
    assert here.breaker(process).standing.failures == 0
    opened(here, process)
    kept_out(here.reserve(process, Need()))


def test_an_order_given_twice_is_one_change(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    force(here, process, None)
    assert here.breaker(process).changes == 0
    for _ in range(3):
        force(here, process, "open")
    assert here.breaker(process).changes == 1


def test_pybreakers_open_and_close_are_orders_for_all(
    world: Callable[..., LimitWorld], caplog: pytest.LogCaptureFixture
) -> None:
    here = world()
    operator, other = here.process(), here.process()
    caplog.set_level(logging.INFO, logger="gateway.breaker.view")
    view = operator.limiter.breakers.view(here.group.owner)
    here.said(operator, lambda: view.open())
    assert view.current_state == "open"
    assert [r.__dict__["reason"] for r in caplog.records] == [ORDERED_HERE]
    kept_out(here.reserve(operator, Need()))
    assert len(caplog.records) == 1
    kept_out(here.reserve(other, Need()))
    here.said(operator, view.close)
    assert here.breaker(other).forced == "closed"
    admitted(here.reserve(other, Need()))
    here.said(operator, view.half_open)
    assert here.breaker(other).forced is None


# Time ----------------------------------------------------------------------------------------------------------------


def test_calls_of_one_process_go_side_by_side(redis_url: str) -> None:
    """Two hundred calls of 0.2 s through one breaker; pybreaker's own `call()` would take 40 s."""

    async def elapsed_s() -> float:
        line = RedisLine.from_url(redis_url)
        limiter, group = Limiter(line, "holder"), LimitGroup("openai", "default", "default", Limits())

        async def one() -> None:
            reservation = await limiter.reserve(group, Need(), Lane.INTERACTIVE)
            await asyncio.sleep(0.2)
            limiter.settle(reservation, Need(), WORKS)

        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as calls:
            for _ in range(200):
                calls.create_task(one())
        took = asyncio.get_running_loop().time() - began
        limiter.close()
        await line.aclose()
        return took

    assert asyncio.run(elapsed_s()) < 2


def test_without_redis_no_order_is_given() -> None:
    async def ordered() -> None:
        line = RedisLine.from_url("redis://127.0.0.1:1")
        limiter = Limiter(line, "holder")
        account = Account("openai", "default")
        try:
            with pytest.raises(RedisAway):
                await limiter.breakers.force(account, "open")
            with pytest.raises(RedisAway):
                await limiter.breakers.describe(account)
        finally:
            limiter.close()
            await line.aclose()

    asyncio.run(ordered())


# -- accounts that are out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("health", "out_s", "reason"), [
    (Health.REJECTED, POLICY.rejected_s, "the key was rejected"),
    (Health.EXHAUSTED, POLICY.exhausted_s, "its quota is used up"),
])  # fmt: skip
def test_one_refusal_of_the_account_takes_it_out(
    world: Callable[..., LimitWorld], health: Health, out_s: float, reason: str
) -> None:
    """Every other call would end the same way. A probe that meets the same takes it out as long again, no longer."""
    here = world()
    process = here.process()
    for _ in range(3):
        here.settle(admitted(here.reserve(process, Need())), Need(), health)
        error = kept_out(here.reserve(here.process(), Need()))
        assert error.retry_after_s == pytest.approx(out_s)
        assert reason in str(error)
        here.pass_s(out_s)
    here.settle(admitted(here.reserve(process, Need())), Need(), Health.WORKS)
    assert here.breaker(process).standing.closed


def test_an_old_call_takes_no_account_out(world: Callable[..., LimitWorld]) -> None:
    """It was made before the key was mended."""
    here = world()
    process = here.process()
    early, late = (admitted(here.reserve(process, Need())) for _ in range(2))
    here.settle(early, Need(), Health.REJECTED)
    here.pass_s(POLICY.rejected_s)
    here.settle(admitted(here.reserve(process, Need())), Need(), Health.WORKS)
    here.settle(late, Need(), Health.REJECTED)
    assert here.breaker(process).standing.closed
