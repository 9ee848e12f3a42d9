"""What the limiter keeps through deaths, flushes and lost messages, over a real Valkey: slots and settlements."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from typing import TYPE_CHECKING

import pytest
import redis
from limitworld import LimitWorld, admitted, refused

from gateway.catalog_entries import Lane, Limits
from gateway.limits import renewals
from gateway.limits.group import LimitGroup
from gateway.limits.limiter import LEASE_S, Limiter
from gateway.limits.rates import MINUTE_US, Need
from gateway.redis_line import RedisAway, RedisLine

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE_S = 60.0


def test_a_dead_processs_slots_are_free_after_its_lease(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=1)
    dead, other = here.process(), here.process()
    admitted(here.reserve(dead, Need()))
    here.pass_s(LEASE_S - 0.001)
    refused(here.reserve(other, Need()))
    here.pass_s(0.002)
    admitted(here.reserve(other, Need()))


def test_a_process_that_was_taken_for_dead_counts_again_once_it_renews(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=2)
    stalled, other = here.process(), here.process()
    held = admitted(here.reserve(stalled, Need(), Lane.INTERACTIVE))
    here.pass_s(LEASE_S + 1)
    admitted(here.reserve(other, Need(), Lane.INTERACTIVE))
    here.renew(stalled)
    refused(here.reserve(other, Need(), Lane.INTERACTIVE))
    here.settle(held, None)
    admitted(here.reserve(other, Need(), Lane.INTERACTIVE))


def test_after_a_flush_a_bucket_has_room_for_one_call(world: Callable[..., LimitWorld]) -> None:
    """Not for a burst: nobody knows what went before."""
    here = world(requests_per_min=600)
    process = here.process()
    full = [admitted(here.reserve(process, Need())).reservation.wait_s for _ in range(3)]
    assert full == [0, 0, 0]
    here.flush()
    first, second = (admitted(here.reserve(process, Need())).reservation.wait_s for _ in range(2))
    assert first == 0
    assert second > 0


def test_after_a_flush_a_small_call_does_not_wait_for_the_large_ones(world: Callable[..., LimitWorld]) -> None:
    """What the largest of them needs is kept by later calls; were it kept by the first, none would ever go."""
    here = world(input_tokens_per_min=6_000)
    process = here.process()
    here.settle(admitted(here.reserve(process, Need(1, 600, 0))), None)
    here.flush()
    assert admitted(here.reserve(process, Need(1, 1, 0))).reservation.wait_s == 0


def test_after_a_flush_renewals_bring_the_slots_back(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=2)
    process, other = here.process(), here.process()
    held = admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    here.flush()
    here.renew(process)
    admitted(here.reserve(other, Need(), Lane.INTERACTIVE))
    refused(here.reserve(other, Need(), Lane.INTERACTIVE))
    here.settle(held, None)
    admitted(here.reserve(other, Need(), Lane.INTERACTIVE))


def test_slots_do_not_leak_where_settlements_are_lost(world: Callable[..., LimitWorld]) -> None:
    """And light traffic goes on, with nothing open whenever a renewal is due."""
    here = world(concurrent_calls=5)
    process = here.process()
    for lost in [admitted(here.reserve(process, Need())) for _ in range(2)]:
        process.limiter._renewals.drop(lost.reservation)
    for _ in range(20):
        here.settle(admitted(here.reserve(process, Need())), None)
        here.pass_s(LEASE_S / 4)
        here.renew(process)
    assert here.state(process).open == 0


def test_what_ended_while_redis_was_away_is_told_once_it_is_back(world: Callable[..., LimitWorld]) -> None:
    """Its slot, and the tokens that it did not use."""
    here = world(input_tokens_per_min=6_000, concurrent_calls=1)
    process, other = here.process(), here.process()
    held = admitted(here.reserve(process, Need(1, 6_000, 0)))
    process.line.gone = True
    here.settle(held, None)
    here.renew(process)
    refused(here.reserve(other, Need(1, 0, 0)))
    process.line.gone = False
    here.renew(process)
    assert admitted(here.reserve(other, Need(1, 6_000, 0))).reservation.wait_s == 0


def test_of_what_ends_while_redis_is_away_the_latest_is_kept(
    world: Callable[..., LimitWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told in portions, for all of it is more than one write may hold, and before anything is renewed."""
    monkeypatch.setattr(renewals, "PORTION_EVERY_S", 0.0)
    here = world(concurrent_calls=5)
    process = here.process()
    held = admitted(here.reserve(process, Need()))
    process.line.gone = True
    for _ in range(renewals.MOST_UNTOLD + 1):
        process.limiter.settle(held.reservation, None)
    untold = process.limiter._renewals._untold
    assert len(untold) == renewals.MOST_UNTOLD
    process.line.gone = False
    left: list[int] = []

    async def told() -> None:
        process.limiter._renewals.renew()
        async with asyncio.timeout(30):
            while untold:
                left.append(len(untold))
                await asyncio.sleep(0)

    here.do(told())
    portions = {before - after for before, after in itertools.pairwise([renewals.MOST_UNTOLD, *left])}
    assert portions == {0, renewals.PORTION}
    here.renew(process)
    assert here.state(process).open == 0


def test_renewal_and_settlement_sent_once_more_settle_once(world: Callable[..., LimitWorld]) -> None:
    """The connection broke before the replies came: both go out again, in their order."""
    here = world(output_tokens_per_min=60_000, concurrent_calls=5)
    process = here.process()
    held = admitted(here.reserve(process, Need(1, 0, 600)))
    renewal = process.limiter._renewals.renewal(here.group)
    here.settle(held, Need(1, 0, 3_000))
    once = here.state(process)
    here.do(process.limiter._line.ask(renewal))
    here.settle(held, Need(1, 0, 3_000))
    assert here.state(process) == once


def test_settling_twice_is_settling_once(world: Callable[..., LimitWorld]) -> None:
    here = world(output_tokens_per_min=60_000, concurrent_calls=2)
    process, other = here.process(), here.process()
    first = admitted(here.reserve(process, Need(1, 0, 600), Lane.INTERACTIVE))
    admitted(here.reserve(process, Need(1, 0, 600), Lane.INTERACTIVE))
    for _ in range(3):
        here.settle(first, Need(1, 0, 30_600))
    debt = refused(here.reserve(other, Need(1, 0, 600), Lane.INTERACTIVE))
    assert debt.retry_after_s is not None
    assert debt.retry_after_s < MINUTE_S / 2
    admitted(here.reserve(other, Need(1, 0, 0), Lane.INTERACTIVE))
    assert "2 calls open" in str(refused(here.reserve(other, Need(1, 0, 0), Lane.INTERACTIVE)))


def test_reserving_twice_is_reserving_once(world: Callable[..., LimitWorld]) -> None:
    """A connection may break before the reply came, and the command goes out again."""
    here = world(requests_per_min=60, concurrent_calls=2)
    process = here.process()
    first = admitted(here.reserve(process, Need(), Lane.INTERACTIVE)).reservation
    again = here.do(process.limiter._ask(first, 0))
    assert (again.in_the_way, again.what) == ("", first.date_us)
    admitted(here.reserve(here.process(), Need(1, 0, 0), Lane.INTERACTIVE))


@pytest.mark.parametrize(("kept", "ago_us"), [
    pytest.param("cost and one less", 0, id="a refund below what was used"),
    pytest.param("nothing", -10**15, id="the server's clock was set back"),
])  # fmt: skip
def test_whatever_is_kept_of_use_a_call_gives_back_all_it_did_not_use(
    world: Callable[..., LimitWorld], redis_url: str, kept: str, ago_us: int
) -> None:
    """What is shown of use is a fading sum, moved by what comes back; no remainder of it may stop a settlement."""
    here = world(input_tokens_per_min=60_000, output_tokens_per_min=60_000)
    process, need = here.process(), Need(1, 600, 600)
    first = admitted(here.reserve(process, need))
    cost_us = first.reservation.buckets[0].us(600)
    below = kept != "nothing"
    if below:  # faded by now to a third of a microsecond below what the call adds
        ago_us = round(-MINUTE_US * math.log((cost_us + 0.3) / (cost_us + 1)))
    with redis.Redis.from_url(redis_url) as client:
        used = {"input_tokens used": -(cost_us + 1) if below else 5, "input_tokens used_at": here.now_us - ago_us}
        client.hset(here.group.key("buckets"), mapping=used)
    before = here.state(process).rates
    second = admitted(here.reserve(process, need, Lane.INTERACTIVE))
    here.settle(second, None)
    after = here.state(process).rates
    assert [after[kind].tat_us - before[kind].tat_us for kind in before] == [0, 0]


def test_a_slot_stays_taken_as_long_as_its_process_renews(world: Callable[..., LimitWorld]) -> None:
    here = world(concurrent_calls=1)
    holder, other = here.process(), here.process()
    admitted(here.reserve(holder, Need()))
    for _ in range(4):
        here.pass_s(LEASE_S - 1)
        here.renew(holder)
        refused(here.reserve(other, Need()))


def test_what_a_lapsed_process_ends_frees_nobody_elses_slot(world: Callable[..., LimitWorld]) -> None:
    """Its old reservation was swept with its slots; ending it late must not free the slot of its new one."""
    here = world(concurrent_calls=2)
    stalled, other = here.process(), here.process()
    old = admitted(here.reserve(stalled, Need(), Lane.INTERACTIVE))
    here.pass_s(LEASE_S + 1)
    admitted(here.reserve(stalled, Need(), Lane.INTERACTIVE))
    here.settle(old, None)
    admitted(here.reserve(other, Need(), Lane.INTERACTIVE))
    refused(here.reserve(other, Need(), Lane.INTERACTIVE))


def test_a_settlement_that_was_lost_is_made_good_by_the_next_renewal(
    world: Callable[..., LimitWorld], redis_url: str
) -> None:
    here = world(concurrent_calls=2)
    process, other = here.process(), here.process()
    lost = admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    admitted(here.reserve(process, Need(), Lane.INTERACTIVE))
    process.limiter._renewals.drop(lost.reservation)
    refused(here.reserve(other, Need(), Lane.INTERACTIVE))
    here.renew(process)
    admitted(here.reserve(other, Need(), Lane.INTERACTIVE))
    with redis.Redis.from_url(redis_url) as client:
        assert client.hlen(here.group.key(f"held:{process.limiter._holder.name}")) == 1


def test_a_reservation_whose_reply_is_lost_is_given_back(redis_url: str) -> None:
    """The caller is cancelled while the script runs: the slot is free again."""

    async def cancelled() -> float:
        line = RedisLine.from_url(redis_url)
        limiter = Limiter(line, "holder")
        group = LimitGroup("openai", "default", "default", Limits(concurrent_calls=1))
        asking = asyncio.ensure_future(limiter.reserve(group, Need(), Lane.INTERACTIVE))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        second = await limiter.reserve(group, Need(), Lane.INTERACTIVE)
        limiter.close()
        await line.aclose()
        return second.wait_s

    assert asyncio.run(cancelled()) == 0


def test_a_limiter_renews_by_itself_until_it_is_closed(redis_url: str) -> None:
    async def scores(server: redis.Redis) -> list[float]:
        line = RedisLine.from_url(redis_url)
        limiter = Limiter(line, "holder", lease_s=0.4)
        group = LimitGroup("openai", "default", "default", Limits(concurrent_calls=1))
        await limiter.reserve(group, Need(), Lane.INTERACTIVE)
        seen = [float(server.zscore(group.key("alive"), "holder") or 0)]
        async with asyncio.timeout(10):
            while len(seen) < 4:
                await asyncio.sleep(0.01)
                score = float(server.zscore(group.key("alive"), "holder") or 0)
                seen += [score] if score != seen[-1] else []
        limiter.close()
        assert limiter._renewals._timer is None
        await line.aclose()
        return seen

    with redis.Redis.from_url(redis_url) as client:
        seen = asyncio.run(scores(client))
    assert seen == sorted(seen)


def test_a_process_knows_of_its_fellows_from_whichever_group_has_most(world: Callable[..., LimitWorld]) -> None:
    """And forgets those that are gone, but not while it hears nothing."""
    here = world(requests_per_min=6_000)
    processes = [here.process() for _ in range(4)]
    for process in processes:
        admitted(here.reserve(process, Need()))
    last = processes[-1].limiter
    assert (last.processes, processes[0].limiter.processes) == (4, 1)
    quiet = LimitGroup("openai", "default", "quiet", here.limits)
    here.do(last.reserve(quiet, Need(), Lane.BULK))
    assert last.processes == 4
    here.pass_s(2 * LEASE_S - 0.001)
    assert last.processes == 4
    here.do(last.reserve(quiet, Need(), Lane.BULK))
    assert last.processes == 4
    here.pass_s(LEASE_S)
    here.do(last.reserve(quiet, Need(), Lane.BULK))
    assert last.processes == 1
    here.pass_s(10 * LEASE_S)
    assert last.processes == 1


def test_redis_tells_the_time(redis_url: str) -> None:
    async def reserved() -> int:
        line = RedisLine.from_url(redis_url)
        limiter = Limiter(line, "holder")
        group = LimitGroup("openai", "default", "default", Limits(requests_per_min=60))
        reservation = await limiter.reserve(group, Need(), Lane.BULK)
        limiter.close()
        await line.aclose()
        return reservation.date_us

    before = time.time()
    assert before - 1 <= asyncio.run(reserved()) / 1e6 <= time.time() + 1


def test_a_redis_that_refuses_the_script_is_no_better_than_none(
    world: Callable[..., LimitWorld], redis_url: str
) -> None:
    here = world(requests_per_min=60)
    with redis.Redis.from_url(redis_url) as client:
        client.set(here.group.key("buckets"), "no hash")
    with pytest.raises(RedisAway, match="Redis refuses a script"):
        here.reserve(here.process(), Need())


def test_without_redis_nobody_knows_what_is_free() -> None:
    async def asked() -> None:
        line = RedisLine.from_url("redis://127.0.0.1:1")
        limiter = Limiter(line, "holder")
        group = LimitGroup("openai", "default", "default", Limits(requests_per_min=60))
        try:
            with pytest.raises(RedisAway):
                await limiter.reserve(group, Need(), Lane.BULK)
        finally:
            limiter.close()
            await line.aclose()

    asyncio.run(asked())
