"""A limit group: whose limits they are, what is reserved of them, and how many calls could still be booked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.catalog_entries import Lane
from gateway.limits.rates import LimitKind, buckets, check_fits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.catalog_entries import Limits
    from gateway.limits.rates import Bucket, Need

PREFIX = "assayline:limits:"
SECOND_US = 1_000_000
BOOKED_AHEAD_S: Mapping[Lane, float] = {Lane.INTERACTIVE: 5.0, Lane.BULK: 1.0}
"""How far ahead a date may be booked. Bulk less: interactive calls may pass what it booked only within the reserve."""
BULK_SHARE = 0.8
"""Of the calls that an account allows at once."""


@dataclass(frozen=True, slots=True)
class LimitGroup:
    """Models that share one account's limits, and what these are."""

    provider: str
    account: str
    name: str
    limits: Limits

    def __str__(self) -> str:
        return f"{self.provider}/{self.account}/{self.name}"

    def key(self, what: str) -> str:
        """A key of the group. All have one hash tag, so they lie in one slot of a Redis Cluster."""
        return f"{PREFIX}{{{self}}}:{what}"

    @property
    def most_open(self) -> int:
        """Calls that may be open at once, 0 for no limit."""
        return self.limits.concurrent_calls or 0

    @property
    def most_open_bulk(self) -> int:
        """Of them in the bulk lane; at least one, or bulk would never go."""
        return max(1, int(self.most_open * BULK_SHARE))


@dataclass(frozen=True, slots=True)
class GroupState:
    """What is reserved of a group, by Redis's clock.

    `tats_us`: when all that is reserved of a rate would be used up at that rate; no entry for one that nobody used yet.
    """

    group: LimitGroup
    now_us: int
    open: int
    open_bulk: int
    tats_us: Mapping[LimitKind, int]

    def admits(self, need: Need, lane: Lane, at_most: int, *, largest: Need) -> int:
        """Return how many calls of this size could be booked now, one after the other; more may go ahead of a date.

        Args:
            need: of one call.
            lane: of all of them.
            at_most: no more are counted.
            largest: of the calls that are lately made in the group; see `sizes`.

        Raises:
            ExceedsLimit: one call needs more than a minute holds.
        """
        check_fits(self.group.limits, need)
        horizon_us = round(BOOKED_AHEAD_S[lane] * SECOND_US)
        fits = [self._slots_left(lane, at_most)]
        drawn = buckets(self.group.limits, need, largest)
        fits += [self._fit(bucket, horizon_us) for bucket in drawn if bucket.amount]
        return max(0, min(at_most, *fits))

    def _slots_left(self, lane: Lane, at_most: int) -> int:
        if not self.group.most_open:
            return at_most
        left = self.group.most_open - self.open
        return left if lane is Lane.INTERACTIVE else min(left, self.group.most_open_bulk - self.open_bulk)

    def _fit(self, bucket: Bucket, horizon_us: int) -> int:
        cost = bucket.us(bucket.amount)
        tat_us = self.tats_us.get(bucket.kind, self.now_us + max(bucket.us(bucket.room), cost) - cost)
        # The last one is booked where the schedule is no farther than this, and each takes it farther by its cost.
        return (horizon_us + bucket.slack_us - max(0, tat_us - self.now_us)) // cost + 1
