"""Admission: what a call must have before it is made, and what is said of it when it has ended.

    reserve in its limit group → wait for the date → (the call) → settle with what was used

It stands between a call's first line in the ledger and its first byte. Whoever is refused has paid nothing.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.catalog_entries import Lane
from gateway.errors import ExceedsLimit, GatewayError, LimitReached
from gateway.limits.estimate import OutputEstimates
from gateway.limits.need import needed, used
from gateway.limits.rates import Need
from gateway.redis_line import RedisAway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    from gateway.hop import Hop, Seat
    from gateway.limits.limiter import Limiter, Reservation
    from gateway.messages import CompletionRequest, Usage

WAITING_SHARE = 0.25
"""Of a process's slots as many may wait for a date: the others are there for calls that can be made."""
LEAST_LEFT_S = 1.0
"""No call is begun with less time than this: it would be paid for, and its answer thrown away."""
LIMITS_UNKNOWN_S = 5.0
"""When to ask again while Redis is away."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a call asks to be let in.

    like: calls that are alike write answers of like length. left_s: seconds until its answer is of no use any more.
    patient: whether to wait, as long as there is time, where no date can be booked: for a call that completes what is
    paid for already.
    """

    lane: Lane = Lane.INTERACTIVE
    like: Hashable = None
    left_s: float = math.inf
    patient: bool = False


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

    async def enter(self, hop: Hop, request: CompletionRequest, terms: Terms) -> Admitted:
        """Let a call in: return when it may be made.

        Raises:
            ExceedsLimit: it needs more than a limit can ever hold.
            LimitReached: there is no room now, or none in the time that is left. Nothing stays reserved.
        """
        limiter = self._limiter
        if limiter is None:
            return Admitted(self, hop, hop.seats[0], terms, Need(), None, 0.0)
        output_tokens = self._estimates.tokens(terms.like, request.max_tokens)
        need = needed(hop.counting, hop.provider.count_tokens(request), output_tokens, request.max_tokens)
        waited_s = 0.0
        while True:
            try:
                seat, reservation = await self._dated(limiter, hop, need, terms, terms.left_s - waited_s)
                own_wait_s = 0.0 if reservation is None else reservation.wait_s
                return Admitted(self, hop, seat, terms, need, reservation, waited_s + own_wait_s)
            except LimitReached as reached:
                pause_s = reached.retry_after_s or 0.0
                if not terms.patient or waited_s + pause_s + LEAST_LEFT_S > terms.left_s:
                    raise
                await self._sleep(pause_s)
                waited_s += pause_s

    async def _dated(
        self, limiter: Limiter, hop: Hop, need: Need, terms: Terms, left_s: float
    ) -> tuple[Seat, Reservation | None]:
        """Reserve with the account that is ready first, and wait for the date."""
        may_wait = self._most_waiting is None or self._waiting < self._most_waiting
        self._waiting += may_wait
        try:
            seat, reservation = await self._seated(limiter, hop.seats, need, terms.lane, may_wait=may_wait)
            if reservation is not None:
                try:
                    await self._until(reservation, left_s)
                except BaseException:
                    limiter.settle(reservation, None)
                    raise
            return seat, reservation
        finally:
            self._waiting -= may_wait

    async def _seated(
        self, limiter: Limiter, seats: Sequence[Seat], need: Need, lane: Lane, *, may_wait: bool
    ) -> tuple[Seat, Reservation | None]:
        """Reserve with the first account that has room now; where none has, with the one that has it soonest.

        Raises:
            GatewayError: what stands in the way of the one that has room soonest.
        """
        refusals: list[tuple[float, int, GatewayError]] = []
        for place, seat in enumerate(seats):
            try:
                return seat, await self._reserved(limiter, seat, need, lane, may_wait=may_wait and len(seats) == 1)
            except (LimitReached, ExceedsLimit) as refusal:
                refusals.append((_soon(refusal), place, refusal))
        soonest_s, place, reason = min(refusals, key=lambda found: found[:2])
        if not may_wait or len(seats) == 1 or soonest_s == math.inf:
            raise reason
        return seats[place], await self._reserved(limiter, seats[place], need, lane, may_wait=True)

    async def _reserved(
        self, limiter: Limiter, seat: Seat, need: Need, lane: Lane, *, may_wait: bool
    ) -> Reservation | None:
        """Reserve with one account; None where it has no limits."""
        if seat.group.unlimited:
            return None
        try:
            return await limiter.reserve(seat.group, need, lane, may_wait=may_wait)
        except RedisAway as away:
            raise LimitReached(
                f"what {seat.group} has left is not known: Redis is away", retry_after_s=LIMITS_UNKNOWN_S
            ) from away

    async def _until(self, reservation: Reservation, left_s: float) -> None:
        if reservation.wait_s <= 0:
            return
        if reservation.wait_s + LEAST_LEFT_S > left_s:
            raise LimitReached(
                f"{reservation.group} has a date in {reservation.wait_s:.1f} s, and {left_s:.1f} s are left",
                retry_after_s=left_s,
            )
        await self._sleep(reservation.wait_s)


def _soon(refusal: GatewayError) -> float:
    """Seconds until the refused call may have room; infinity where no waiting helps."""
    return math.inf if isinstance(refusal, ExceedsLimit) else refusal.retry_after_s or 0.0


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
    _reservation: Reservation | None
    waited_s: float

    def answered(self, usage: Usage, *, estimated: bool) -> None:
        """Say that it was answered. `estimated`: the usage is our own count, and nothing is learned of it."""
        if not estimated:
            self._by._estimates.saw(self._terms.like, usage.output_tokens)
        self._settle(used(self._hop.counting, self._need, usage))

    def failed(self, error: BaseException) -> None:
        """Say that it was not answered. What nobody told is taken for what was reserved."""
        if isinstance(error, GatewayError) and error.usage is not None:
            self.answered(error.usage, estimated=False)
        elif isinstance(error, GatewayError) and error.paid is False:
            self._settle(Need())
        else:
            self._settle(self._need)

    def unmade(self) -> None:
        """Say that it was not made after all."""
        self._settle(None)

    def _settle(self, use: Need | None) -> None:
        if self._reservation is not None and self._by._limiter is not None:
            self._by._limiter.settle(self._reservation, use)
