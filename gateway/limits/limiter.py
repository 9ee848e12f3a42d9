"""A process's side of the limits: it reserves before each call, settles after it, and says that it is alive.

By the same scripts it asks the account's breaker, tells it how calls end, and draws on the fleet's retry budget.

The scripts decide, by Redis's clock; what comes back is how long to wait, so no worker's clock has a say. A process
that dies leaves its slots to lapse within `LEASE_S`, and what it had reserved of a rate flows off at that rate.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.breaker.breakers import Breakers
from gateway.breaker.health import Health
from gateway.breaker.policy import SECOND_US
from gateway.limits import commands
from gateway.limits.commands import Holder, Reply
from gateway.limits.fellows import Fellows
from gateway.limits.group import LimitGroup
from gateway.limits.group_state import BOOKED_AHEAD_S, GroupState, group_state
from gateway.limits.money import Money, Purse
from gateway.limits.policy import Policy
from gateway.limits.rates import buckets, check_fits
from gateway.limits.refusals import UNSEEDED, as_error, breaker_open
from gateway.limits.renewals import Renewals
from gateway.limits.reservation import Reservation
from gateway.limits.scripts import scripts
from gateway.limits.sizes import LargestCalls
from gateway.limits.tightening import tightening
from gateway.pricing import micro_usd
from gateway.redis_line import RedisAway

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.catalog_entries import Lane
    from gateway.errors import GatewayError
    from gateway.limits.money import Day, Spending
    from gateway.limits.rates import Need
    from gateway.limits.told import ToldLimits
    from gateway.redis_line import RedisLine

LEASE_S = 20.0
"""So long a dead process's slots stay taken: as long as it takes until its jobs are run again."""


class Limiter:
    """One process's. Lives on one event loop. `holder` names this life of the process and none after it."""

    def __init__(
        self,
        line: RedisLine,
        holder: str,
        *,
        policy: Policy | None = None,
        lease_s: float = LEASE_S,
        spending: Spending | None = None,
        tells: bool = True,
        now_us: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Make a limiter.

        Args:
            line: the process's line to Redis.
            holder: letters, digits and -; in keys and in members of sets.
            policy: for breakers, overloads and retries; the same in all processes.
            lease_s: how long slots, and a probe, count without a renewal.
            spending: who knows what was spent today; a process that makes calls needs it where a group has a budget.
            tells: whether the log says how breakers change; not where somebody only looks on.
            now_us: the time, for tests; None: Redis's own.
            clock: for how long ago a large call was, or many processes; nothing else goes by it.
            wall_clock: Unix time, for the day that it is.
        """
        policy = policy or Policy()
        self.breakers = Breakers(line, policy=policy.breaker, now_us=now_us, tells=tells)
        self._scripts = scripts(policy)
        self._line = line
        self._holder = Holder(holder, round(lease_s * SECOND_US))
        self._now_us = now_us
        self._largest = LargestCalls(clock)
        self._fellows = Fellows(lease_s, clock)
        self._purse = Purse(line, self._scripts.seed, spending, wall_clock)
        self._renewals = Renewals(line, self._scripts.renew, self._holder, self._purse, self._now)

    @property
    def processes(self) -> int:
        """That share the limits, this one among them, as was lately heard; see `Fellows`."""
        return self._fellows.processes

    async def reserve(
        self, group: LimitGroup, need: Need, lane: Lane, *, may_wait: bool = True, retry: bool = False
    ) -> Reservation:
        """Reserve all that a call needs. The caller waits `wait_s`, makes the call, and settles.

        Args:
            group: whose limits.
            need: of the call.
            lane: of the call.
            may_wait: whether a date ahead of now will do.
            retry: whether it repeats a call that failed, and so draws on the fleet's retry budget. A call of the next
                hop does not.

        Raises:
            ExceedsLimit: it needs more than a minute holds, or a day's money.
            LimitReached: no date within `BOOKED_AHEAD_S` is free, or none now, or no slot, or open calls may take what
                is left of the day's money; nothing is reserved.
            RetriesSpent: it is a retry, and the fleet has none left; nothing is reserved.
            BreakerOpen: the account's calls lately failed; nothing is reserved.
            DayBudgetSpent: what is left of the day's money is not enough; nothing is reserved.
            ConfigurationError: the group has a budget, and nobody here knows what is spent.
            RedisAway: nobody knows what is free.
        """
        check_fits(group.limits, need)  # before it is counted: what never goes must not slow down the others
        if self._line.away:
            raise RedisAway("Redis is away")  # nothing was sent, so there is nothing to settle
        self._renewals.tell_kept()
        day = self._purse.today(group)
        one = self._wanted(group, need, lane, day, retry=retry)
        horizon_us = round(BOOKED_AHEAD_S[lane] * SECOND_US) if may_wait else 0
        self._renewals.hold(one)
        try:
            reply = await self._ask(one, horizon_us)
            if day is not None and reply.in_the_way == UNSEEDED:
                await self._purse.begin(group, day, self._now())
                reply = await self._ask(one, horizon_us)
        except BaseException:
            # It may be reserved without our knowing: the reply was lost, or came too late.
            self.settle(one, None)
            raise
        self.breakers.hear(group.owner, reply.standing)
        if reply.in_the_way:
            self._renewals.drop(one)
            raise as_error(group, reply.in_the_way, reply.what, horizon_us, reply.standing, day)
        epoch, admitted_us, probe, processes = reply.admission
        self._fellows.heard(processes)
        one = replace(
            one,
            date_us=reply.what,
            wait_s=reply.wait_s,
            epoch=int(epoch),
            probe=bool(probe),
            admitted_us=admitted_us,
        )
        self._renewals.hold(one)
        return one

    def confirm(self, reservation: Reservation) -> None:
        """Look once more when a reservation's date has come. Asks nobody: it goes by what this process has been told.

        Raises:
            BreakerOpen: the breaker has opened since; the caller settles, with nothing used.
        """
        account = reservation.group.owner
        standing = self.breakers.standing(account)
        if not standing.closed and standing.epoch > reservation.epoch:
            raise breaker_open(account, standing)

    def settle(self, reservation: Reservation, used: Need | None, health: Health = Health.SILENT) -> None:
        """End a reservation, once the call has ended. Never waits, never fails.

        While Redis is away this is kept, and told once it is back. Where it is lost on its way, the next renewal frees
        the slot; the money stays counted at its worst, and what was not used of tokens flows off at their rate.

        Args:
            reservation: from `reserve`; a second time does nothing.
            used: what the provider counted; None: nothing, for no call was made, so a retry costs nothing either. More
                than was reserved is a debt that the next calls wait for. A request is spent either way: its date cannot
                be given to another call.
            health: what the outcome says about the provider, see `health_of`.
        """
        self._renewals.drop(reservation)
        said = commands.settle(reservation, used, health, self._holder, self._now())
        self._renewals.tell(self._scripts.settle.whole(*said))

    def tighten(self, reservation: Reservation, told: ToldLimits | None, error: GatewayError | None = None) -> None:
        """Take over what the provider said with an answer, or with a refusal. Never waits, never fails."""
        news = tightening(reservation.group, reservation.buckets, told, error)
        if news is None:
            return
        said = commands.tighten(reservation.group, news, self._now())
        with contextlib.suppress(RedisAway):  # its next answer, or refusal, says it again
            self._line.post(self._scripts.tighten.whole(*said))

    async def state(self, group: LimitGroup) -> GroupState:
        """Look at what is reserved, by whomever; nothing changes.

        Raises:
            RedisAway: nobody knows.
        """
        day = self._purse.today(group)
        reply = await self._scripts.state.run(self._line, *commands.state(group, day, self._now()))
        state = group_state(group, reply, day)
        self.breakers.hear(group.owner, state.breaker)
        return state

    def close(self) -> None:
        """Stop renewing, for good."""
        self._renewals.close()

    def _wanted(self, group: LimitGroup, need: Need, lane: Lane, day: Day | None, *, retry: bool) -> Reservation:
        """What is asked for, as a reservation without a date."""
        drawn = buckets(group.limits, need, self._largest.with_this(group, need))
        money = None if day is None or need.cost_usd is None else Money(day.key, micro_usd(need.cost_usd))
        return Reservation(self._renewals.next_id(), group, drawn, 0, 0.0, money=money, retry=retry, lane=lane)

    async def _ask(self, one: Reservation, horizon_us: int) -> Reply:
        said = commands.reserve(one, horizon_us, self._holder, self._now())
        return Reply.read(await self._scripts.reserve.run(self._line, *said))

    def _now(self) -> int | str:
        return "" if self._now_us is None else self._now_us()
