"""The limiter in any order of events, on a real Valkey under a clock of the test's.

Processes reserve, settle, give up, die and are replaced; providers tell of their limits; Redis goes, forgets all, loses
what is sent or hears it twice. After each step no window holds more than a limit allows, no more calls are open than
may be, and at the end everything is free again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from limitworld import Admitted, LimitWorld, Process

from gateway.breaker.policy import SECOND_US
from gateway.catalog_entries import Lane, Limits
from gateway.errors import LimitReached, Throttled
from gateway.limits.group_state import BOOKED_AHEAD_S, BULK_SHARE
from gateway.limits.kinds import LimitKind
from gateway.limits.limiter import LEASE_S
from gateway.limits.rates import MINUTE_US, Need, rates
from gateway.limits.told import ToldLimit, ToldLimits

PICK = st.integers(0, 1_000)
"""Which of several, modulo their number."""
LANES = st.sampled_from(list(Lane))
LANE_LISTS = st.lists(LANES, min_size=1, max_size=3)
LIMITS = st.builds(
    Limits,
    requests_per_min=st.none() | st.integers(1, 200),
    input_tokens_per_min=st.none() | st.integers(5_000, 50_000),
    output_tokens_per_min=st.none() | st.integers(5_000, 50_000),
    tokens_per_min=st.none() | st.integers(10_000, 50_000),
    concurrent_calls=st.none() | st.integers(1, 8),
)
NEEDS = st.builds(Need, st.just(1), st.integers(0, 5_000), st.integers(0, 5_000))
MOST_AT_ONCE = 10
RENEWED_EVERY_S = 15.0
"""In the test: less than a lease."""
LONG_S = 3_600.0


def taken(call: Admitted, kind: LimitKind) -> int:
    """Of what was reserved for it, as far as is known."""
    return call.need.of(kind) - call.given_back.of(kind)


class LimiterMachine(RuleBasedStateMachine):
    """`url` is set by the test."""

    url = ""

    @initialize(limits=LIMITS)
    def start(self, limits: Limits) -> None:
        self.world = LimitWorld(self.url, limits)
        self.world.flush()
        self.processes = [self.world.process() for _ in range(3)]
        self.dead: list[Process] = []
        self.admitted: list[Admitted] = []
        self.flushes = 0
        self.closed_us = 0

    @rule(which=PICK, lane=LANES, need=NEEDS)
    def reserve(self, which: int, lane: Lane, need: Need) -> None:
        outcome = self.world.reserve(self.processes[which % 3], need, lane)
        if isinstance(outcome, LimitReached):
            assert outcome.retry_after_s is not None
            assert outcome.retry_after_s > 0
            return
        assert isinstance(outcome, Admitted)
        assert 0 <= outcome.reservation.wait_s <= BOOKED_AHEAD_S[lane]
        assert outcome.date_us() >= self.closed_us
        self.admitted.append(outcome)

    @rule(which=PICK, lane=LANES, need=NEEDS)
    def reserve_in_a_batch_that_goes_out_twice(self, which: int, lane: Lane, need: Need) -> None:
        """A renewal before it: both are heard twice, in their order."""
        process = self.processes[which % 3]
        process.line.repeats = True

        async def renewed() -> None:
            process.limiter._renewals.renew()

        self.world.do(renewed())
        process.lapses_us = self.world.now_us + round(LEASE_S * SECOND_US)
        self.reserve(which, lane, need)
        process.line.repeats = False

    @rule(which=PICK, lane=LANES, need=NEEDS)
    def give_up_before_the_reply(self, which: int, lane: Lane, need: Need) -> None:
        limiter = self.processes[which % 3].limiter

        async def cancelled() -> None:
            asking = asyncio.ensure_future(limiter.reserve(self.world.group, need, lane))
            await asyncio.sleep(0)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
            await limiter._line.ask(("PING",))

        self.world.do(cancelled())

    @rule(
        need=NEEDS,
        lanes=st.lists(LANES, min_size=1, max_size=3),
        steps=st.integers(1, 12),
        step_s=st.floats(0.1, 10),
        share=st.sampled_from([0.0, 0.5, 1.0]),
    )
    def saturate(self, need: Need, lanes: list[Lane], steps: int, step_s: float, share: float) -> None:
        """For a while all reserve what they get; each call ends before the next step, and has used so much of it."""
        used = Need(1, int(need.input_tokens * share), int(need.output_tokens * share))
        for _ in range(steps):
            begun = len(self.admitted)
            for number in range(MOST_AT_ONCE):
                before = len(self.admitted)
                self.reserve(number, lanes[number % len(lanes)], need)
                if len(self.admitted) == before:
                    break
            self.no_more_calls_are_open_than_may_be()
            self.time_passes(step_s)
            for one in self.admitted[begun:]:
                one.ends(used, self.world.now_us)
                self.world.settle(one, used)

    @precondition(lambda self: any(one.open for one in self.admitted))
    @rule(which=PICK, more=st.sampled_from([None, -3_000, -1, 0, 1, 3_000]), away=st.booleans(), twice=st.booleans())
    def settle(self, which: int, more: int | None, away: bool, twice: bool) -> None:
        """The provider counted what was reserved, less or more; or no call was made. A second time changes nothing.

        away: Redis is not there when it ends, and back with the next renewal. twice: it goes out twice, with a renewal.
        """
        one = self.an_open_call(which)
        used = (
            None
            if more is None
            else Need(1, *(max(0, n + more) for n in (one.need.input_tokens, one.need.output_tokens)))
        )
        process = one.process
        rates_before = self.world.state(self.processes[0]).rates
        process.line.gone, process.line.repeats = away and process.alive, twice
        one.ends(used, self.world.now_us)
        self.world.settle(one, used)
        process.line.gone = False
        if (away or twice) and process.alive:
            self.world.renew(process)
        process.line.repeats = False
        rates_after = self.world.state(self.processes[0]).rates
        for bucket in one.reservation.buckets:
            if process.alive and bucket.kind in rates_before:
                moved_us = rates_after[bucket.kind].tat_us - rates_before[bucket.kind].tat_us
                assert moved_us == bucket.difference_us(used)
        before = self.contents()
        self.world.settle(one, used)
        assert self.contents() == before

    @precondition(lambda self: any(one.open for one in self.admitted))
    @rule(which=PICK)
    def lose_a_settlement(self, which: int) -> None:
        """The next renewal frees its slot."""
        one = self.an_open_call(which)
        one.process.line.loses = True
        one.open = False
        self.world.settle(one, None)
        one.process.line.loses = False
        if one.process.alive:
            self.world.renew(one.process)

    def an_open_call(self, which: int) -> Admitted:
        """Of a process that lives, or of one that was taken for dead."""
        held = [one for one in self.admitted if one.open]
        return held[which % len(held)]

    @precondition(lambda self: self.admitted)
    @rule(
        which=PICK,
        remaining=st.integers(0, 50),
        reset_s=st.none() | st.floats(0, 90),
        age_s=st.none() | st.floats(-10, 10),
        wait_s=st.none() | st.floats(0.1, 20),
    )
    def a_provider_tells(
        self, which: int, remaining: int, reset_s: float | None, age_s: float | None, wait_s: float | None
    ) -> None:
        """It may only tighten: all that holds without its words holds with them."""
        one = self.admitted[which % len(self.admitted)]
        at = None if age_s is None else self.world.now_us / 1e6 - age_s
        told = ToldLimits({kind: ToldLimit(remaining, None, reset_s) for kind in rates(self.world.limits)}, at)
        error = None if wait_s is None else Throttled("429", retry_after_s=wait_s)
        before = self.world.state(self.processes[0]).rates
        self.world.said(one.process, lambda: one.process.limiter.tighten(one.reservation, told, error))
        after = self.world.state(self.processes[0]).rates
        assert all(after[kind].tat_us >= rate.tat_us for kind, rate in before.items())
        if wait_s is not None:
            self.closed_us = max(self.closed_us, self.world.now_us + round(wait_s * SECOND_US))

    @precondition(lambda self: self.closed_us <= self.world.now_us)
    @rule(which=PICK, need=NEEDS, twice=st.booleans())
    def reserve_what_the_state_admits(self, which: int, need: Need, twice: bool) -> None:
        """As many as it says, and not one more. Bulk: none of it goes ahead of its date. twice: all is heard twice."""
        process = self.processes[which % 3]
        foreseen = self.world.admits(process, need, Lane.BULK, MOST_AT_ONCE)
        begun = len(self.admitted)
        for _ in range(MOST_AT_ONCE):
            before = len(self.admitted)
            (self.reserve_in_a_batch_that_goes_out_twice if twice else self.reserve)(which, Lane.BULK, need)
            if len(self.admitted) == before:
                break
        assert len(self.admitted) - begun == foreseen

    @rule(seconds=st.floats(0, RENEWED_EVERY_S))
    def time_passes(self, seconds: float) -> None:
        """Less than a lease: who lives has renewed."""
        self.world.pass_s(seconds)
        for process in self.processes:
            self.world.renew(process)

    @rule(which=PICK)
    def die(self, which: int) -> None:
        """Without settling anything; another process comes in its place."""
        process = self.processes[which % 3]
        process.alive = False
        process.limiter.close()
        self.dead.append(process)
        self.processes[which % 3] = self.world.process()

    @rule()
    def flush(self) -> None:
        self.world.flush()
        self.flushes += 1
        self.closed_us = 0
        for process in self.dead:
            process.lapses_us = 0  # it will not say what it holds
        for process in self.processes:
            self.world.renew(process)

    @invariant()
    def no_window_holds_more_than_the_limit(self) -> None:
        calls = sorted(self.admitted, key=Admitted.date_us)
        for kind, allowed in self.allowed().items():
            start, total = 0, 0
            for call in calls:
                total += taken(call, kind)
                while call.date_us() - calls[start].date_us() >= MINUTE_US:
                    total -= taken(calls[start], kind)
                    start += 1
                if total > allowed:
                    assert total <= allowed + self.came_back(kind, calls[start], call), f"{total} {kind} in a minute"

    def came_back(self, kind: LimitKind, first: Admitted, last: Admitted) -> int:
        """What calls of before did not use, and gave back between the reservations of two calls: others may take it."""
        since_us = first.date_us() - round(max(BOOKED_AHEAD_S.values()) * SECOND_US)
        return sum(
            one.given_back.of(kind)
            for one in self.admitted
            if one.date_us() < first.date_us() and since_us <= one.given_back_us <= last.date_us()
        )

    def allowed(self) -> dict[LimitKind, float]:
        """By kind: what a minute may hold. Requests by the limit itself, tokens by burst + rate x time.

        A flush makes room for one call, and for as many as may go ahead. Where calls differ in size, each process has
        its own picture of the largest: the first large call of each may come on top (ADR 0010).
        """
        found: dict[LimitKind, float] = {}
        sizes: dict[LimitKind, set[int]] = {}
        for call in self.admitted:
            for bucket in call.reservation.buckets:
                room = max(bucket.room, bucket.amount)
                most = bucket.per_min + room + bucket.reserve + self.flushes * (bucket.amount + bucket.reserve)
                found[bucket.kind] = max(found.get(bucket.kind, 0), most)
                sizes.setdefault(bucket.kind, set()).add(bucket.amount)
        for kind, amounts in sizes.items():
            if len(amounts) > 1:
                found[kind] += (len(self.processes) + len(self.dead) - 1) * max(amounts)
        if LimitKind.REQUESTS in found:
            limit = self.world.limits.requests_per_min
            assert limit is not None
            found[LimitKind.REQUESTS] = limit + self.flushes * (1 + (limit + 50) // 100)
        return found

    @invariant()
    def no_more_calls_are_open_than_may_be(self) -> None:
        most = self.world.limits.concurrent_calls
        if most is None:
            return
        counted = [one for one in self.admitted if one.open and one.process.lapses_us > self.world.now_us]
        assert len(counted) <= most
        assert sum(one.lane is Lane.BULK for one in counted) <= max(1, int(most * BULK_SHARE))

    @invariant()
    def the_server_knows_who_holds_what(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            slots = client.hgetall(self.world.group.key("slots"))
        for process in self.processes:
            for lane in Lane:
                here = [one for one in self.admitted if one.open and one.process is process and one.lane is lane]
                assert int(slots.get(f"{process.limiter._holder.name} {lane}".encode(), 0)) == len(here)

    @invariant()
    def every_key_goes_away(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            assert all(client.pttl(key) > 0 for key in client.keys("*"))

    def contents(self) -> dict[bytes, Any]:
        read = {b"hash": "hgetall", b"zset": "zrange"}
        with redis.Redis.from_url(self.url) as client:
            kinds = {key: client.type(key) for key in client.keys("*")}
            return {
                k: client.hgetall(k) if t == b"hash" else client.zrange(k, 0, -1) for k, t in kinds.items() if t in read
            }

    def teardown(self) -> None:
        """Once all is settled or lapsed and the debts are paid, everything is free again."""
        if not hasattr(self, "world"):
            return
        try:
            for one in self.admitted:
                if one.open and one.process.alive:
                    self.world.settle(one, one.need)
            self.world.pass_s(LONG_S)
            self.all_is_free()
        finally:
            self.world.close()

    def all_is_free(self) -> None:
        limits = self.world.limits
        most = limits.concurrent_calls or 100
        fits = max(1, int((limits.requests_per_min or 10_000) * 0.005))
        process = self.processes[0]
        # A group that was never used has room for one call, as after a flush.
        first = self.world.reserve(process, Need(1, 1, 1), Lane.INTERACTIVE)
        assert isinstance(first, Admitted)
        self.world.settle(first, first.need)
        self.world.pass_s(LONG_S)
        outcomes = [self.world.reserve(process, Need(1, 1, 1), Lane.INTERACTIVE) for _ in range(min(most, fits))]
        for outcome in outcomes:
            assert isinstance(outcome, Admitted)
            assert outcome.reservation.wait_s == 0


def test_the_limiter_holds_its_limits_whatever_happens(redis_url: str) -> None:
    class OnThisServer(LimiterMachine):
        url = redis_url

    run_state_machine_as_test(
        OnThisServer,
        settings=settings(
            max_examples=60,
            stateful_step_count=12,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
