"""A limit group: whose limits they are, what is reserved of them, and how many calls could still be booked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.catalog_entries import Lane, Limits
from gateway.limits.rates import LimitKind, Need, buckets, rates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.limits.rates import Bucket


PREFIX = "assayline:limits:"
SECOND_US = 1_000_000
UNLIMITED = Limits()
BOOKED_AHEAD_S: Mapping[Lane, float] = {Lane.INTERACTIVE: 5.0, Lane.BULK: 0.5}
"""How far ahead a date may be booked. Bulk less: interactive calls may pass what it booked only within the reserve."""
BULK_SHARE = 0.8
"""Of the calls that an account allows at once."""


@dataclass(frozen=True, slots=True)
class LimitGroup:
    """Models that share one account's limits, and what these are."""

    provider: str
    account: str
    name: str
    limits: Limits = UNLIMITED

    def __str__(self) -> str:
        return f"{self.provider}/{self.account}/{self.name}"

    def key(self, what: str) -> str:
        """A key of the group. All of one account have one hash tag, so they lie in one slot of a Redis Cluster."""
        return f"{PREFIX}{{{self.provider}/{self.account}}}:{self.name}:{what}"

    @property
    def unlimited(self) -> bool:
        """Whether it has no limit of any kind."""
        return not (self.most_open or rates(self.limits))

    @property
    def most_open(self) -> int:
        """Calls that may be open at once, 0 for no limit."""
        return self.limits.concurrent_calls or 0

    @property
    def most_open_bulk(self) -> int:
        """Of them in the bulk lane; at least one, or bulk would never go."""
        return max(1, int(self.most_open * BULK_SHARE))


@dataclass(frozen=True, slots=True)
class RateState:
    """What is reserved of one rate, in microseconds at that rate.

    tat_us: when all that is reserved would be used up.
    cost_us: of a call as they lately are. slack_us: how far the tat may be where no date is booked ahead.
    """

    tat_us: int
    cost_us: int
    slack_us: int


@dataclass(frozen=True, slots=True)
class GroupState:
    """What is reserved of a group, by Redis's clock. A rate whose calls nobody knows the size of has no entry."""

    group: LimitGroup
    now_us: int
    open: int
    open_bulk: int
    rates: Mapping[LimitKind, RateState]

    def admits(self, lane: Lane, at_most: int, *, may_wait: int | None = None) -> int:
        """Return how many calls, as they lately are, could be booked now, one after the other.

        More may go ahead of a date. Where the size of calls is not known, one could: it makes it known.

        Args:
            lane: of all of them.
            at_most: no more are counted.
            may_wait: at most so many have a date that is not now; None: as many as may be booked.
        """
        fits = (self._fit(rate, self._horizon_us(rate, lane, may_wait)) for rate in self.rates.values())
        most = at_most if self.rates.keys() >= rates(self.group.limits).keys() else min(1, at_most)
        return max(0, min(most, self._slots_left(lane, at_most), *fits))

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
        return max(0, *distances, 0) / SECOND_US

    def _horizon_us(self, rate: RateState, lane: Lane, may_wait: int | None) -> int:
        horizon_us = round(BOOKED_AHEAD_S[lane] * SECOND_US)
        return horizon_us if may_wait is None else min(horizon_us, may_wait * rate.cost_us)

    def _slots_left(self, lane: Lane, at_most: int) -> int:
        if not self.group.most_open:
            return at_most
        left = self.group.most_open - self.open
        return left if lane is Lane.INTERACTIVE else min(left, self.group.most_open_bulk - self.open_bulk)

    def _fit(self, rate: RateState, horizon_us: int) -> int:
        # The last one is booked where the tat is no farther than this, and each takes it farther by its cost.
        return (horizon_us + rate.slack_us - max(0, rate.tat_us - self.now_us)) // rate.cost_us + 1


def unused(bucket: Bucket, now_us: int) -> RateState:
    """A rate that nobody has used yet: `reserve.lua` lets one call go at once, however large."""
    cost_us = bucket.us(bucket.amount)
    return RateState(now_us + max(0, bucket.us(bucket.room) - cost_us), cost_us, bucket.slack_us)


def group_state(group: LimitGroup, now_us: int, open_calls: int, open_bulk: int, kept: Mapping[str, int]) -> GroupState:
    """Read what `state.lua` returns. `kept`: a rate's tat by its name, and its "<name> cost" and "<name> slack"."""
    seen = {
        kind: RateState(kept[kind], kept[f"{kind} cost"], kept[f"{kind} slack"])
        for kind in rates(group.limits)
        if kept.get(f"{kind} cost")
    }
    for bucket in buckets(group.limits, Need(), Need()):
        if bucket.kind is LimitKind.REQUESTS and bucket.kind not in seen:  # of it each call takes one
            seen[bucket.kind] = unused(bucket, now_us)
    return GroupState(group, now_us, open_calls, open_bulk, seen)
