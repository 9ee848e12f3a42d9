"""What is reserved of a limit group's limits, and how many calls could still be let in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.breaker.policy import PROBE_AGAIN_S, SECOND_US
from gateway.breaker.view import ALL_WELL, Standing, read_standing
from gateway.catalog_entries import Lane
from gateway.limits.kinds import LimitKind
from gateway.limits.money import DayState, day_state
from gateway.limits.policy import BULK_SHARE
from gateway.limits.rates import MINUTE_US, Need, buckets, rates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.limits.group import LimitGroup
    from gateway.limits.money import Day
    from gateway.limits.rates import Bucket

BOOKED_AHEAD_S: Mapping[Lane, float] = {Lane.INTERACTIVE: 5.0, Lane.BULK: 0.5}
"""How far ahead a date may be booked. Bulk less: interactive calls may pass what it booked only within the reserve."""


@dataclass(frozen=True, slots=True)
class RateState:
    """What is reserved of one rate, in microseconds at that rate.

    tat_us: when all that is reserved would be used up.
    cost_us: of a call as they lately are. slack_us: how far the tat may be where no date is booked ahead.
    unused: nobody has used it yet, and one call goes at once, however large or small.
    used: share of the rate that calls have reserved and used in about the last minute.
    """

    tat_us: int
    cost_us: int
    slack_us: int
    unused: bool = False
    used: float = 0.0


@dataclass(frozen=True, slots=True)
class GroupState:
    """What is reserved of a group, by Redis's clock, and what else keeps calls out of it.

    rates: one whose calls nobody knows the size of has no entry.
    ceiling: calls that may be open after an overload; None: no overload holds any back.
    closed_us: until when the provider takes no call, by its own word; 0 where it never said.
    breaker: of the account.
    money: of the day; None without a budget.
    """

    group: LimitGroup
    now_us: int
    open: int
    open_bulk: int
    rates: Mapping[LimitKind, RateState]
    ceiling: int | None = None
    breaker: Standing = ALL_WELL
    closed_us: int = 0
    money: DayState | None = None

    def admits(self, lane: Lane, at_most: int, *, may_wait: int | None = None) -> int:
        """Return how many calls, as they lately are, could be booked now, one after the other.

        More may go ahead of a date. Where the size of calls is not known, one could: it makes it known. Where the
        breaker is half-open, one could: the probe.

        Args:
            lane: of all of them.
            at_most: no more are counted.
            may_wait: at most so many have a date that is not now; None: as many as may be booked.
        """
        fits = (self._fit(rate, self._horizon_us(rate, lane, may_wait)) for rate in self.rates.values())
        most = at_most if self.rates.keys() >= rates(self.group.limits).keys() else min(1, at_most)
        if self._closed_in_s(lane) > 0:
            return 0
        if self.money is not None:
            most = min(most, self.money.admits(at_most))
        return max(0, min(most, self._slots_left(lane, at_most), self._lets_in(at_most), *fits))

    def opens_in_s(self, lane: Lane, calls: int, *, may_wait: int | None = None) -> float:
        """Return in how many seconds one more could be booked than `calls`; 0 where that is now or nobody knows."""
        distances = (
            max(rate.tat_us, self.now_us)
            + calls * rate.cost_us
            - rate.slack_us
            - self._horizon_us(rate, lane, may_wait)
            - self.now_us
            for rate in self.rates.values()
        )
        day_s = self.money.left_s if self.money is not None and self.money.spent_up else 0.0
        distances_s = (us / SECOND_US for us in distances)
        return max(0, day_s, self._breaker_opens_in_s(calls), self._closed_in_s(lane), *distances_s)

    def ready_in_s(self, lane: Lane) -> float | None:
        """Return in how many seconds a call could go, 0 for now.

        None: once an open call has ended, for slots or money are all taken; when that is, nobody knows.
        """
        if self.admits(lane, 1):
            return 0.0
        return self.opens_in_s(lane, 0) or None

    @property
    def out(self) -> bool:
        """Whether the breaker keeps calls out, but for a probe."""
        return not self.breaker.closed

    @property
    def spent_up(self) -> bool:
        """Whether the day's money keeps calls out."""
        return self.money is not None and self.money.spent_up

    @property
    def held_back(self) -> bool:
        """Whether anything bounds how many calls may be made now."""
        return self.out or self.ceiling is not None or self.closed_us > self.now_us or not self.group.unlimited

    def _closed_in_s(self, lane: Lane) -> float:
        return (self.closed_us - self.now_us) / SECOND_US - BOOKED_AHEAD_S[lane]

    def _lets_in(self, at_most: int) -> int:
        if self.breaker.closed:
            return at_most
        return min(1, at_most) if self.breaker.half_open and self.breaker.again_s == 0 else 0

    def _breaker_opens_in_s(self, calls: int) -> float:
        # How long the probe takes that may go now, nobody knows.
        unknown = self.breaker.half_open and calls > 0
        return max(self.breaker.again_s, PROBE_AGAIN_S) if unknown else self.breaker.again_s

    def _horizon_us(self, rate: RateState, lane: Lane, may_wait: int | None) -> int:
        horizon_us = round(BOOKED_AHEAD_S[lane] * SECOND_US)
        return horizon_us if may_wait is None else min(horizon_us, may_wait * rate.cost_us)

    def _slots_left(self, lane: Lane, at_most: int) -> int:
        most = min(self.group.most_open or math.inf, math.inf if self.ceiling is None else self.ceiling)
        if most == math.inf:
            return at_most
        left = int(most) - self.open
        return left if lane is Lane.INTERACTIVE else min(left, most_open_bulk(int(most)) - self.open_bulk)

    def _fit(self, rate: RateState, horizon_us: int) -> int:
        # The last one is booked where the tat is no farther than this, and each takes it farther by its cost.
        fit = (horizon_us + rate.slack_us - max(0, rate.tat_us - self.now_us)) // rate.cost_us + 1
        return max(1, fit) if rate.unused else fit


def unused(bucket: Bucket, now_us: int) -> RateState:
    """A rate that nobody has used yet: `reserve.lua` has room for this call alone, whatever larger ones would need."""
    cost_us = bucket.us(bucket.amount)
    return RateState(now_us + max(0, bucket.us(bucket.room) - cost_us), cost_us, bucket.slack_us, unused=True)


def most_open_bulk(most_open: int) -> int:
    """Of so many calls that may be open, how many in the bulk lane; at least one, or bulk would never go."""
    return max(1, int(most_open * BULK_SHARE))


def _used(kept: Mapping[str, int], kind: LimitKind, now_us: int) -> float:
    """What fades within a minute comes, at a steady rate, to what a minute holds."""
    fading = math.exp(min(0, kept.get(f"{kind} used_at", now_us) - now_us) / MINUTE_US)
    return max(0.0, kept.get(f"{kind} used", 0) / MINUTE_US * fading)


def group_state(group: LimitGroup, reply: Sequence[Any], day: Day | None = None) -> GroupState:
    """Read what `state.lua` returns. `day`: of its money, where it has a budget."""
    now_us, open_calls, open_bulk, ceiling, stands, spent, spent_open, cost, *pairs = reply
    money = day_state(group, day, spent, spent_open, cost)
    kept: dict[str, int] = dict(zip((field.decode() for field in pairs[::2]), pairs[1::2], strict=True))
    seen = {
        kind: RateState(kept[kind], kept[f"{kind} cost"], kept[f"{kind} slack"], used=_used(kept, kind, now_us))
        for kind in rates(group.limits)
        if kept.get(f"{kind} cost")
    }
    for bucket in buckets(group.limits, Need(), Need()):
        if bucket.kind is LimitKind.REQUESTS and bucket.kind not in seen:  # of it each call takes one
            seen[bucket.kind] = unused(bucket, now_us)
    held_back = None if ceiling < 0 else ceiling
    return GroupState(
        group, now_us, open_calls, open_bulk, seen, held_back, read_standing(stands), kept.get("closed", 0), money
    )
