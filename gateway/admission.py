"""Admission: what a call must have before it is made, and what is said of it when it has ended.

    reserve in its limit group → wait for the date → (the call) → settle with what was used

It stands between a call's first line in the ledger and its first byte. Whoever is refused has paid nothing.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.breaker.health import Health, health_of
from gateway.catalog_entries import Lane
from gateway.errors import BreakerOpen, DayBudgetSpent, ExceedsLimit, GatewayError, LimitReached, RetriesSpent, Timeout
from gateway.limits.alone import Alone, OwnReservation
from gateway.limits.estimate import OutputEstimates
from gateway.limits.need import needed, used
from gateway.limits.rates import Need
from gateway.limits.reservation import Reservation
from gateway.pricing import NOTHING_USD, cost_usd, worst_cost_usd
from gateway.redis_line import RedisAway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence
    from decimal import Decimal

    from gateway.hop import Hop, Seat
    from gateway.limits.limiter import Limiter
    from gateway.limits.told import ToldLimits
    from gateway.messages import Completion, CompletionRequest, Usage

WAITING_SHARE = 0.25
"""Of a process's slots as many may wait for a date: the others are there for calls that can be made."""
LEAST_LEFT_S = 1.0
"""No call is begun with less time than this: it would be paid for, and its answer thrown away."""
HOPES: tuple[type[GatewayError], ...] = (LimitReached, RetriesSpent, BreakerOpen, DayBudgetSpent, ExceedsLimit)
"""Why an account may refuse a call, the most hopeful first."""

Held = Reservation | OwnReservation


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a call asks to be let in.

    like: calls that are alike write answers of like length. left_s: seconds until its answer is of no use any more.
    patient: whether to wait, as long as there is time, where no date can be booked: for a call that completes what is
    paid for already. retry: whether it repeats a call that failed.
    """

    lane: Lane = Lane.INTERACTIVE
    like: Hashable = None
    left_s: float = math.inf
    patient: bool = False
    retry: bool = False


class Admission:
    """One process's. Lives on one event loop. Without a limiter every call is let in."""

    def __init__(
        self,
        limiter: Limiter | None = None,
        *,
        slots: int | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Make an admission.

        Args:
            limiter: the process's; None: no limits are kept.
            slots: calls that the process may have open; None: no bound, and all may wait.
            sleep: for tests.
        """
        self._limiter = limiter
        self._most_waiting = None if slots is None else max(1, int(slots * WAITING_SHARE))
        self._sleep = sleep
        self._waiting = 0
        """Calls that wait for their date, or may have to: the reply is on its way."""
        self._estimates = OutputEstimates()
        self._alone = Alone()

    async def enter(self, hop: Hop, request: CompletionRequest, terms: Terms) -> Admitted:
        """Let a call in: return when it may be made.

        Raises:
            ExceedsLimit: it needs more than a limit can ever hold.
            LimitReached: there is no room now, or none in the time that is left. Nothing stays reserved.
            BreakerOpen: calls of every account lately failed.
            DayBudgetSpent: no account may spend more today.
        """
        limiter = self._limiter
        if limiter is None:
            return Admitted(self, hop, hop.seats[0], terms, Need(), None, 0.0)
        output_tokens = self._estimates.tokens(terms.like, request.max_tokens)
        input_tokens = hop.provider.count_tokens(request)
        worst_usd = worst_cost_usd(hop.entry, input_tokens, request.max_tokens) if hop.has_budget else None
        need = needed(hop.counting, input_tokens, output_tokens, request.max_tokens, worst_usd)
        waited_s = 0.0
        while True:
            try:
                seat, reservation = await self._dated(limiter, hop, need, terms, terms.left_s - waited_s)
                return Admitted(self, hop, seat, terms, need, reservation, waited_s + reservation.wait_s)
            except LimitReached as reached:
                pause_s = reached.retry_after_s or 0.0
                if not terms.patient or waited_s + pause_s + LEAST_LEFT_S > terms.left_s:
                    raise
                await self._sleep(pause_s)
                waited_s += pause_s

    async def _dated(self, limiter: Limiter, hop: Hop, need: Need, terms: Terms, left_s: float) -> tuple[Seat, Held]:
        """Reserve with the account that is ready first, and wait for the date."""
        may_wait = self._most_waiting is None or self._waiting < self._most_waiting
        self._waiting += may_wait
        try:
            seat, reservation = await self._seated(limiter, hop.seats, need, terms, may_wait=may_wait)
            try:
                await self._until(limiter, reservation, left_s)
            except BaseException:
                self.settle(reservation, None, Health.SILENT)
                raise
            return seat, reservation
        finally:
            self._waiting -= may_wait

    async def _seated(
        self, limiter: Limiter, seats: Sequence[Seat], need: Need, terms: Terms, *, may_wait: bool
    ) -> tuple[Seat, Held]:
        """Reserve with the first account that has room now; where none has, with the one that has it soonest.

        Raises:
            GatewayError: what stands in the way of the one that has room soonest. An account that is busy comes before
                one whose calls fail: the call waits for it, and goes to no other provider.
        """
        refusals: list[tuple[int, float, int, GatewayError]] = []
        for place, seat in enumerate(seats):
            try:
                return seat, await self._reserved(limiter, seat, need, terms, may_wait=may_wait and len(seats) == 1)
            except HOPES as refusal:
                refusals.append((HOPES.index(type(refusal)), refusal.retry_after_s or 0.0, place, refusal))
        hope, _, place, reason = min(refusals, key=lambda found: found[:3])
        if not may_wait or len(seats) == 1 or hope > 0:
            raise reason
        return seats[place], await self._reserved(limiter, seats[place], need, terms, may_wait=True)

    async def _reserved(self, limiter: Limiter, seat: Seat, need: Need, terms: Terms, *, may_wait: bool) -> Held:
        """Reserve with one account; while Redis is away, out of this process's own share."""
        try:
            reservation = await limiter.reserve(seat.group, need, terms.lane, may_wait=may_wait, retry=terms.retry)
        except RedisAway:
            return self._alone.reserve(seat.group, need, terms.lane, limiter.processes, may_wait=may_wait)
        self._alone.heard()
        return reservation

    async def _until(self, limiter: Limiter, reservation: Held, left_s: float) -> None:
        """Wait for the date, and look once more whether the call may go."""
        if reservation.wait_s <= 0:
            return
        if reservation.wait_s + LEAST_LEFT_S > left_s:
            raise LimitReached(
                f"{reservation.group} has a date in {reservation.wait_s:.1f} s, and {left_s:.1f} s are left",
                retry_after_s=left_s,
            )
        await self._sleep(reservation.wait_s)
        if isinstance(reservation, Reservation):
            limiter.confirm(reservation)

    def settle(self, reservation: Held, used: Need | None, health: Health) -> None:
        """End a reservation; see `Limiter.settle`."""
        if isinstance(reservation, OwnReservation):
            self._alone.settle(reservation)
        elif self._limiter is not None:
            self._limiter.settle(reservation, used, health)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call that was let in, `waited_s` seconds after it asked, by the account of `seat`.

    Exactly one of `answered`, `failed` and `unmade` is said of it in the end.
    """

    _by: Admission
    _hop: Hop
    seat: Seat
    _terms: Terms
    _need: Need
    _reservation: Held | None
    waited_s: float

    def answered(self, completion: Completion) -> None:
        """Say that it was answered. Of a usage that is our own count nothing is learned."""
        if not completion.usage_estimated:
            self._by._estimates.saw(self._terms.like, completion.usage.output_tokens)
        self._settle(self._used(completion.usage), Health.WORKS, completion.told)

    def failed(self, error: BaseException, *, impatient: bool = False) -> None:
        """Say that it was not answered. What nobody told is taken for what was reserved.

        `impatient`: it had less time than the provider usually has; that it was late says nothing of the provider.
        """
        told = error.told if isinstance(error, GatewayError) else None
        silent = impatient and isinstance(error, Timeout)
        self._settle(self._used_by(error), Health.SILENT if silent else health_of(error), told, error)

    def unmade(self) -> None:
        """Say that it was not made after all."""
        if self._reservation is not None:
            self._by.settle(self._reservation, None, Health.SILENT)

    def _used_by(self, error: BaseException) -> Need:
        if isinstance(error, GatewayError) and error.usage is not None:
            self._by._estimates.saw(self._terms.like, error.usage.output_tokens)
            return self._used(error.usage)
        unpaid = isinstance(error, GatewayError) and error.paid is False
        return Need(cost_usd=self._money(NOTHING_USD)) if unpaid else self._need

    def _used(self, usage: Usage) -> Need:
        return used(self._hop.counting, self._need, usage, self._money(cost_usd(self._hop.entry, usage)))

    def _money(self, usd: Decimal | None) -> Decimal | None:
        return None if self._need.cost_usd is None else usd

    def _settle(self, use: Need, health: Health, told: ToldLimits | None, error: BaseException | None = None) -> None:
        if self._reservation is None:
            return
        self._by.settle(self._reservation, use, health)
        limiter = self._by._limiter
        if limiter is not None and isinstance(self._reservation, Reservation):
            limiter.tighten(self._reservation, told, error if isinstance(error, GatewayError) else None)
