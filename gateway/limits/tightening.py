"""What a provider says of its limits, as it tightens ours: for all workers at once, and never the other way round.

Where it says that less is left than may go at once, what is missing is taken for reserved: the schedule moves on to
`now + (room - remaining) / rate`. Where nothing is left, and all of it is there again sooner than it could flow in, it
counts by a window, and nothing is to be had before that ends: the rate's next call goes then. Where it says how long to
wait, the whole group is closed for that time. An amount counts only where the provider speaks of the same limit as
the catalog: some tell of other periods by the same name. Why so: ADR 0010.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.breaker.policy import SECOND_US
from gateway.errors import Overloaded, Throttled
from gateway.limits.rates import MINUTE_US, rates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.errors import GatewayError
    from gateway.limits.group import LimitGroup
    from gateway.limits.kinds import LimitKind
    from gateway.limits.rates import Bucket
    from gateway.limits.told import ToldLimits

LONGEST_CLOSED_S = 3_600.0
"""A provider that asks for more is treated as one without quota: the job's verdict goes on to the next."""
THROTTLED_S = 1.0
"""How long a group is closed after a refusal that says nothing of how long."""
WINDOW_SHARE = 0.75
"""Whole again within this share of the time that a bucket takes to fill at the limit's rate: it is none. What is left
is told rounded to 1,000 tokens, which is an eighth of the smallest limits sold."""


@dataclass(frozen=True, slots=True)
class Tightening:
    """What is taken for reserved of each rate; for how long no call goes; the provider's own date."""

    lacking: Mapping[LimitKind, Lacking]
    closed_us: int
    at_us: int | None


@dataclass(frozen=True, slots=True)
class Lacking:
    """When a rate has a whole room again: as it flows in, from now on; as a window ends, from the provider's date on.

    Microseconds; `until_us` is 0 where no window is known of.
    """

    inflow_us: int
    until_us: int = 0


def tightening(
    group: LimitGroup, drawn: Sequence[Bucket], told: ToldLimits | None, error: GatewayError | None = None
) -> Tightening | None:
    """Return what a provider's words change, None where nothing.

    Args:
        group: that the call belonged to.
        drawn: the call's buckets.
        told: with its answer or refusal.
        error: the refusal, None for an answer.
    """
    found = {} if told is None else {bucket.kind: _lacking(group, bucket, told) for bucket in drawn}
    lacking = {kind: lack for kind, lack in found.items() if lack is not None}
    closed_us = _closed_us(error, told)
    if not (lacking or closed_us):
        return None
    at = None if told is None or told.at is None else round(told.at * SECOND_US)
    return Tightening(lacking, closed_us, at)


def _lacking(group: LimitGroup, bucket: Bucket, told: ToldLimits) -> Lacking | None:
    said, limit = told.limits.get(bucket.kind), rates(group.limits)[bucket.kind]
    if said is None or said.limit not in (None, limit) or said.remaining >= bucket.room:
        return None
    inflow_us = bucket.us(bucket.room - said.remaining)
    fills_in_s = (limit - said.remaining) / limit * MINUTE_US / SECOND_US
    nothing_left = said.remaining < max(1, bucket.amount)
    if not nothing_left or said.reset_s is None or said.reset_s >= fills_in_s * WINDOW_SHARE:
        return Lacking(inflow_us)
    return Lacking(inflow_us, round(said.reset_s * SECOND_US) + bucket.us(bucket.room))


def _closed_us(error: GatewayError | None, told: ToldLimits | None) -> int:
    if not isinstance(error, Throttled | Overloaded):
        return 0
    asked_s = told.retry_after_s if told is not None and error.retry_after_s is None else error.retry_after_s
    if asked_s is None:
        return round(THROTTLED_S * SECOND_US) if isinstance(error, Throttled) else 0
    return round(min(asked_s, LONGEST_CLOSED_S) * SECOND_US)
