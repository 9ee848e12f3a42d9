"""The limiter in any order of events, on a real Valkey under a clock of the test's.

Processes reserve, settle, die and are replaced, and Redis forgets all; after each step no window holds more than a
limit allows, no more calls are open than may be, and at the end everything is free again.
"""

from __future__ import annotations

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

from gateway.catalog_entries import Lane, Limits
from gateway.errors import LimitReached
from gateway.limits.group import BOOKED_AHEAD_S, BULK_SHARE
from gateway.limits.rates import MINUTE_US, LimitKind, Need

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

    @rule(which=PICK, lane=LANES, need=NEEDS)
    def reserve(self, which: int, lane: Lane, need: Need) -> None:
        outcome = self.world.reserve(self.processes[which % 3], need, lane)
        if isinstance(outcome, LimitReached):
            assert outcome.retry_after_s is not None
            assert outcome.retry_after_s > 0
            return
        assert 0 <= outcome.reservation.wait_s <= BOOKED_AHEAD_S[lane]
        self.admitted.append(outcome)

    @rule(
        need=NEEDS, lanes=st.lists(LANES, min_size=1, max_size=3), steps=st.integers(1, 12), step_s=st.floats(0.1, 10)
    )
    def saturate(self, need: Need, lanes: list[Lane], steps: int, step_s: float) -> None:
        """For a while all reserve what they get, and each call ends before the next step."""
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
                one.open = False
                self.world.settle(one, one.need)

    @precondition(lambda self: any(one.open for one in self.admitted))
    @rule(which=PICK, more=st.sampled_from([0, 1, 3_000]))
    def settle(self, which: int, more: int) -> None:
        """The provider counted what was reserved, or more. A second time changes nothing."""
        held = [one for one in self.admitted if one.open]
        one = held[which % len(held)]
        one.open = False
        used = Need(1, one.need.input_tokens + more, one.need.output_tokens + more)
        self.world.settle(one, used)
        before = self.contents()
        self.world.settle(one, used)
        assert self.contents() == before

    @rule(which=PICK, need=NEEDS)
    def reserve_what_the_state_admits(self, which: int, need: Need) -> None:
        """As many as it says, and not one more. Bulk: no call of it goes ahead of its date."""
        process = self.processes[which % 3]
        foreseen = self.world.admits(process, need, Lane.BULK, MOST_AT_ONCE)
        begun = len(self.admitted)
        for _ in range(MOST_AT_ONCE):
            before = len(self.admitted)
            self.reserve(which, Lane.BULK, need)
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
        self.processes[which % 3] = self.world.process()

    @rule()
    def flush(self) -> None:
        self.world.flush()
        self.flushes += 1
        for process in self.processes:
            self.world.renew(process)

    @invariant()
    def no_window_holds_more_than_the_limit(self) -> None:
        calls = sorted(self.admitted, key=Admitted.date_us)
        for kind, allowed in self.allowed().items():
            start, total = 0, 0
            for call in calls:
                total += call.need.of(kind)
                while call.date_us() - calls[start].date_us() >= MINUTE_US:
                    total -= calls[start].need.of(kind)
                    start += 1
                assert total <= allowed, f"{total} {kind} in a minute"

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
        if most is None or self.flushes:
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
                assert int(slots.get(f"{process.limiter._holder} {lane}".encode(), 0)) == len(here)

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
