"""Admission: what a call must have before it is made, and what is said of it when it has ended.

    reserve in its limit group → wait for the date → (the call) → settle with what was used

It stands between a call's first line in the ledger and its first byte. Whoever is refused has paid nothing.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.breaker.health import Health, health_of
from gateway.calls.seating import Seating
from gateway.errors import GatewayError, LimitReached, Timeout
from gateway.limits.estimate import OutputEstimates
from gateway.limits.need import needed, used
from gateway.limits.rates import Need
from gateway.pricing import NOTHING_USD, cost_usd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from decimal import Decimal

    from gateway.calls.hop import Hop, Seat, Size
    from gateway.calls.seating import AnyReservation
    from gateway.calls.terms import Terms
    from gateway.limits.limiter import Limiter
    from gateway.limits.told import ToldLimits
    from gateway.messages import Completion, Usage

WAITING_SHARE = 0.25
"""Of a process's slots as many may wait for a date: the others are there for calls that can be made. A patient call
waits in any case, for an answer that is paid for would be lost with it; but while it waits, others do not."""
LEAST_LEFT_S = 1.0
"""No call is begun with less time than this: it would be paid for, and its answer thrown away."""


class Admission:
    """One process's. Lives on one event loop. Without a limiter every call is let in."""

    def __init__(
        self,
        limiter: Limiter | None = None,
        *,
        slots: int | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an admission.

        Args:
            limiter: the process's; None: no limits are kept.
            slots: calls that the process may have open; None: no bound, and all may wait.
            sleep: for tests.
            clock: for how long Redis has been away, and what goes meanwhile.
        """
        self._seating = None if limiter is None else Seating(limiter, clock)
        self._most_waiting = None if slots is None else max(1, int(slots * WAITING_SHARE))
        self._sleep = sleep
        self._waiting = 0
        """Calls that wait for room or for their date, or may have to: the reply is on its way."""
        self._estimates = OutputEstimates()

    async def enter(self, hop: Hop, size: Size, terms: Terms) -> Admitted:
        """Let a call in: return when it may be made.

        Args:
            hop: where it goes.
            size: of the call, from `Hop.size`.
            terms: see there.

        Raises:
            ExceedsLimit: it needs more than a limit can ever hold.
            LimitReached: there is no room now, or none in the time that is left, or no time. Nothing stays reserved.
            BreakerOpen: calls of every account lately failed.
            RetriesSpent: too many calls of every account are retries, and this one is.
            DayBudgetSpent: no account may spend more today.
        """
        check_left(terms.left_s)
        seating = self._seating
        if seating is None:
            return Admitted(None, self._estimates, hop, hop.seats[0], terms, Need(), None, 0.0)
        output_tokens = self._estimates.tokens(terms.like, size.max_tokens)
        worst_usd = size.worst_usd if hop.has_budget else None
        need = needed(hop.counting, size.input_tokens, output_tokens, size.max_tokens, worst_usd)
        waited_s = 0.0
        while True:
            try:
                seat, reservation = await self._dated(seating, hop, need, terms, terms.left_s - waited_s)
                waited_s += reservation.wait_s
                return Admitted(seating, self._estimates, hop, seat, terms, need, reservation, waited_s)
            except LimitReached as reached:
                pause_s = reached.retry_after_s or 0.0
                if not terms.patient or waited_s + pause_s + LEAST_LEFT_S > terms.left_s:
                    raise
                await self._pause(pause_s)
                waited_s += pause_s

    def _may_one_wait(self) -> bool:
        return self._most_waiting is None or self._waiting < self._most_waiting

    async def _pause(self, pause_s: float) -> None:
        self._waiting += 1
        try:
            await self._sleep(pause_s)
        finally:
            self._waiting -= 1

    async def _dated(
        self, seating: Seating, hop: Hop, need: Need, terms: Terms, left_s: float
    ) -> tuple[Seat, AnyReservation]:
        """Reserve with the account that is ready first, and wait for the date."""
        may_wait = self._may_one_wait()
        self._waiting += may_wait
        try:
            seat, reservation = await seating.take(hop.seats, need, terms, may_wait=may_wait)
            try:
                await self._until(seating, reservation, left_s)
            except BaseException:
                seating.settle(reservation, None, Health.SILENT)
                raise
            return seat, reservation
        finally:
            self._waiting -= may_wait

    async def _until(self, seating: Seating, reservation: AnyReservation, left_s: float) -> None:
        """Wait for the date, and look once more whether the call may go."""
        if reservation.wait_s <= 0:
            return
        if reservation.wait_s + LEAST_LEFT_S > left_s:
            raise LimitReached(
                f"{reservation.group} has a date in {reservation.wait_s:.1f} s, and {left_s:.1f} s are left",
                retry_after_s=left_s,
            )
        await self._sleep(reservation.wait_s)
        seating.confirm(reservation)


@dataclass(slots=True)
class Admitted:
    """A call that was let in, `waited_s` seconds after it asked, by the account of `seat`.

    `answered`, `failed` or `unmade` is said of it in the end. What is said first ends its reservation, whatever else
    goes wrong then; what is said after that changes nothing.
    """

    _seating: Seating | None
    _estimates: OutputEstimates
    _hop: Hop
    seat: Seat
    _terms: Terms
    _need: Need
    _reservation: AnyReservation | None
    waited_s: float
    _ended: bool = False

    def answered(self, completion: Completion, usd: Decimal | None) -> None:
        """Say that it was answered, and what it cost, US dollars (None: unknown).

        Of a usage that is our own count nothing is learned.
        """
        use = self._need
        try:
            if not completion.usage_estimated:
                self._estimates.saw(self._terms.like, completion.usage.output_tokens)
            use = self._used(completion.usage, usd)
        finally:
            self._end(use, Health.WORKS, completion.told)

    def failed(self, error: BaseException, *, impatient: bool = False) -> None:
        """Say that it was not answered. What nobody told is taken for what was reserved.

        Args:
            error: what it ended with.
            impatient: whether it had much less time than the provider usually has: that it was late says nothing of the
                provider then. Of a probe it does: else one caller after the other could wait in vain.
        """
        facts = error if isinstance(error, GatewayError) else None
        probes = self._reservation is not None and self._reservation.probe
        silent = impatient and isinstance(error, Timeout) and not probes
        use = self._need
        try:
            use = self._used_by(facts)
        finally:
            self._end(use, Health.SILENT if silent else health_of(error), facts.told if facts else None, facts)

    def unmade(self) -> None:
        """Say that it was not made after all."""
        self._end(None, Health.SILENT)

    def _used_by(self, error: GatewayError | None) -> Need:
        if error is not None and error.usage is not None:
            self._estimates.saw(self._terms.like, error.usage.output_tokens)
            return self._used(error.usage, cost_usd(self._hop.entry, error.usage))
        unpaid = error is not None and error.paid is False
        return Need(cost_usd=self._money(NOTHING_USD)) if unpaid else self._need

    def _used(self, usage: Usage, usd: Decimal | None) -> Need:
        return used(self._hop.counting, self._need, usage, self._money(usd))

    def _money(self, usd: Decimal | None) -> Decimal | None:
        return None if self._need.cost_usd is None else usd

    def _end(
        self, use: Need | None, health: Health, told: ToldLimits | None = None, error: GatewayError | None = None
    ) -> None:
        if self._ended or self._seating is None or self._reservation is None:
            return
        self._ended = True
        self._seating.settle(self._reservation, use, health)
        if use is not None:
            self._seating.tighten(self._reservation, told, error)


def check_left(left_s: float) -> None:
    """Refuse to begin a call that would be paid for, and its answer thrown away.

    Raises:
        LimitReached: less than `LEAST_LEFT_S` is left. All of that is to be waited for, so a job that hears it is out
            of time: no other hop or account has more.
    """
    if left_s < LEAST_LEFT_S:
        raise LimitReached(
            f"{left_s:.1f} s are left, and no call is begun with less than {LEAST_LEFT_S:g} s",
            retry_after_s=max(0.0, left_s),
        )
