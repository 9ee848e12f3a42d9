"""What a provider says of its limits, as it tightens ours: for all workers at once, and never the other way round.

Where it says that less is left than may go at once, what is missing is taken for reserved: the schedule moves on to
`now + (room - remaining) / rate`. Where it says how long to wait, the whole group is closed for that time. An amount
counts only where the provider speaks of the same limit as the catalog: some tell of other periods by the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.breaker.policy import SECOND_US
from gateway.errors import Overloaded, Throttled
from gateway.limits.rates import rates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.errors import GatewayError
    from gateway.limits.group import LimitGroup
    from gateway.limits.rates import Bucket, LimitKind
    from gateway.limits.told import ToldLimits

LONGEST_CLOSED_S = 3_600.0
"""A provider that asks for more is treated as one without quota: the job's verdict goes on to the next."""
THROTTLED_S = 1.0
"""How long a group is closed after a refusal that says nothing of how long."""


@dataclass(frozen=True, slots=True)
class Tightening:
    """What is taken for reserved of each rate, from now on; for how long no call goes; the provider's own date."""

    lacking_us: Mapping[LimitKind, int]
    closed_us: int
    at_us: int | None


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
    lacking = {} if told is None else {bucket.kind: _lacking_us(group, bucket, told) for bucket in drawn}
    lacking = {kind: us for kind, us in lacking.items() if us > 0}
    closed_us = _closed_us(error)
    if not (lacking or closed_us):
        return None
    at = None if told is None or told.at is None else round(told.at * SECOND_US)
    return Tightening(lacking, closed_us, at)


def _lacking_us(group: LimitGroup, bucket: Bucket, told: ToldLimits) -> int:
    said = told.limits.get(bucket.kind)
    if said is None or said.limit not in (None, rates(group.limits)[bucket.kind]):
        return 0
    return bucket.us(max(0, bucket.room - said.remaining))


def _closed_us(error: GatewayError | None) -> int:
    if not isinstance(error, Throttled | Overloaded):
        return 0
    if error.retry_after_s is None:
        return round(THROTTLED_S * SECOND_US) if isinstance(error, Throttled) else 0
    return round(min(error.retry_after_s, LONGEST_CLOSED_S) * SECOND_US)
