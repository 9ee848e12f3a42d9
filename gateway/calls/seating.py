"""Which account makes a call: the one that has room first, by Redis's word, or by our own while Redis is away."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gateway.errors import BreakerOpen, DayBudgetSpent, ExceedsLimit, GatewayError, LimitReached, RetriesSpent
from gateway.limits.alone import Alone, OwnReservation
from gateway.limits.refusals import breaker_open
from gateway.redis_line import RedisAway

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.breaker.health import Health
    from gateway.calls.hop import Seat
    from gateway.calls.terms import Terms
    from gateway.limits.limiter import Limiter
    from gateway.limits.rates import Need
    from gateway.limits.reservation import Reservation
    from gateway.limits.told import ToldLimits

    AnyReservation = Reservation | OwnReservation

SAID_BY_REDIS = LimitReached, RetriesSpent, BreakerOpen, DayBudgetSpent
HOPES = (*SAID_BY_REDIS, ExceedsLimit)
"""Why an account may refuse a call, the most hopeful first. The last is found without asking."""


class Seating:
    """One process's. Lives on one event loop."""

    def __init__(self, limiter: Limiter, clock: Callable[[], float] = time.monotonic) -> None:
        """Make a seating.

        Args:
            limiter: the process's.
            clock: for how long Redis has been away, and what goes meanwhile.
        """
        self._limiter = limiter
        self._alone = Alone(clock)

    async def take(
        self, seats: Sequence[Seat], need: Need, terms: Terms, *, may_wait: bool
    ) -> tuple[Seat, AnyReservation]:
        """Reserve with the first account that has room now; where none has, with the one that has it soonest.

        Raises:
            GatewayError: what stands in the way of the one that has room soonest. An account that is busy comes before
                one whose calls fail: the call waits for it, and goes to no other provider.
        """
        refusals: list[tuple[int, float, int, GatewayError]] = []
        for place, seat in enumerate(seats):
            try:
                return seat, await self._reserved(seat, need, terms, may_wait=may_wait and len(seats) == 1)
            except HOPES as refusal:
                refusals.append((HOPES.index(type(refusal)), refusal.retry_after_s or 0.0, place, refusal))
        hope, _, place, reason = min(refusals, key=lambda found: found[:3])
        if not may_wait or len(seats) == 1 or hope > 0:
            raise reason
        return seats[place], await self._reserved(seats[place], need, terms, may_wait=True)

    async def _reserved(self, seat: Seat, need: Need, terms: Terms, *, may_wait: bool) -> AnyReservation:
        """Reserve with one account; while Redis is away, out of this process's own share."""
        try:
            reservation = await self._limiter.reserve(
                seat.group, need, terms.lane, may_wait=may_wait, retry=terms.retry
            )
        except RedisAway:
            return self._reserved_alone(seat, need, terms, may_wait=may_wait)
        except SAID_BY_REDIS:
            self._alone.heard()
            raise
        self._alone.heard()
        return reservation

    def _reserved_alone(self, seat: Seat, need: Need, terms: Terms, *, may_wait: bool) -> OwnReservation:
        """Reserve out of this process's own share, where the breaker let calls in when Redis was last heard."""
        owner = seat.group.owner
        standing = self._limiter.breakers.standing_by_now(owner)
        if standing.keeps_out:
            raise breaker_open(owner, standing)
        return self._alone.reserve(seat.group, need, terms.lane, self._limiter.processes, may_wait=may_wait)

    def confirm(self, reservation: AnyReservation) -> None:
        """Look once more when a reservation's date has come; see `Limiter.confirm`."""
        if not isinstance(reservation, OwnReservation):
            self._limiter.confirm(reservation)

    def settle(self, reservation: AnyReservation, used: Need | None, health: Health) -> None:
        """End a reservation; see `Limiter.settle`."""
        if isinstance(reservation, OwnReservation):
            self._alone.settle(reservation)
        else:
            self._limiter.settle(reservation, used, health)

    def tighten(self, reservation: AnyReservation, told: ToldLimits | None, error: GatewayError | None) -> None:
        """Take over what the provider said of its limits; see `Limiter.tighten`."""
        if not isinstance(reservation, OwnReservation):
            self._limiter.tighten(reservation, told, error)
