"""A reservation: what a call was let in with, as its process keeps it until the call has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.catalog_entries import Lane

if TYPE_CHECKING:
    from gateway.limits.group import LimitGroup
    from gateway.limits.money import Money
    from gateway.limits.rates import Bucket


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room for one call, from `wait_s` seconds after the reply on. `wait_s` is 0 for most.

    date_us: by Redis's clock; 0 while the reply is on its way. epoch: of the breaker; the call's outcome counts in it
    alone. probe: whether it is the one call that shows if the provider is well again. admitted_us: when, by Redis's
    clock. money: what it may cost, where that is limited. retry: whether it draws on the fleet's retry budget.
    """

    id: str
    group: LimitGroup
    buckets: tuple[Bucket, ...]
    date_us: int
    wait_s: float
    epoch: int = 0
    probe: bool = False
    admitted_us: int = 0
    money: Money | None = None
    retry: bool = False
    lane: Lane = Lane.BULK
