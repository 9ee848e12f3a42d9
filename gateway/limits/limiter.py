"""A process's side of the limits: it reserves before each call, settles after it, and says that it is alive.

By the same scripts it asks the account's breaker, tells it how calls end, and draws on the fleet's retry budget.

The scripts decide, by Redis's clock; what comes back is how long to wait, so no worker's clock has a say. A process
that dies leaves its slots to lapse within `LEASE_S`, and what it had reserved of a rate flows off at that rate.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.breaker.breakers import Breakers
from gateway.breaker.health import Health
from gateway.breaker.policy import SECOND_US
from gateway.breaker.view import read_standing
from gateway.limits.fellows import Fellows
from gateway.limits.group import BOOKED_AHEAD_S, GroupState, LimitGroup, group_state
from gateway.limits.held import Held, days_held, renewal
from gateway.limits.money import Money, Purse, micro_usd
from gateway.limits.policy import Policy
from gateway.limits.rates import buckets, check_fits
from gateway.limits.refusals import UNSEEDED, as_error, breaker_open
from gateway.limits.scripts import scripts
from gateway.limits.sizes import LargestCalls
from gateway.limits.tightening import tightening
from gateway.redis_line import RedisAway

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.catalog_entries import Lane
    from gateway.errors import GatewayError
    from gateway.limits.money import Spending
    from gateway.limits.rates import Bucket, Need
    from gateway.limits.told import ToldLimits
    from gateway.redis_line import Command, RedisLine

LEASE_S = 20.0
"""So long a dead process's slots stay taken: as long as it takes until its jobs are run again."""
RENEWALS = 4
"""In a lease's time: three may be lost."""
MOST_UNTOLD = 4_096
"""Ends of calls that are kept while Redis is away, the latest: more than a process has calls open when it goes."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room for one call, from `wait_s` seconds after the reply on. `wait_s` is 0 for most.

    epoch: of the breaker; the call's outcome counts in it alone. probe: whether it is the one call that shows if the
    provider is well again. admitted_us: when, by Redis's clock. money: what it may cost, where that is limited. retry:
    whether it draws on the fleet's retry budget.
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
            now_us: the time, for tests; None: Redis's own.
            clock: for how long ago a large call was, or many processes; nothing else goes by it.
            wall_clock: Unix time, for the day that it is.
        """
        policy = policy or Policy()
        self.breakers = Breakers(line, policy=policy.breaker, now_us=now_us)
        self._scripts = scripts(policy)
        self._line = line
        self._holder = holder
        self._lease_us = round(lease_s * SECOND_US)
        self._now_us = now_us
        self._largest = LargestCalls(clock)
        self._purse = Purse(line, self._scripts.seed, spending, wall_clock)
        self._made = 0
        self._held: dict[LimitGroup, dict[str, Held]] = {}
        """By the id of the reservation."""
        self._untold: deque[Command] = deque(maxlen=MOST_UNTOLD)
        """Settlements, the next one first."""
        self._renewal: asyncio.TimerHandle | None = None
        self._closed = False
        self._fellows = Fellows(lease_s, clock)

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
        drawn = buckets(group.limits, need, self._largest.with_this(group, need))
        horizon_us = round(BOOKED_AHEAD_S[lane] * SECOND_US) if may_wait else 0
        self._made += 1
        reservation_id = str(self._made)
        held = self._held.setdefault(group, {})
        day = self._purse.today(group)
        money = None if day is None or need.cost_usd is None else Money(day.key, micro_usd(need.cost_usd))
        held[reservation_id] = Held(lane, money)
        self._renew_later()
        asked = partial(self._asked, group, reservation_id, lane, horizon_us, drawn, money, retry=retry)
        try:
            reply = await asked()
            if day is not None and reply[3] == UNSEEDED.encode():
                await self._purse.begin(group, day, self._now())
                reply = await asked()
        except BaseException:
            # It may be reserved without our knowing: the reply was lost, or came too late.
            self._end(group, reservation_id, drawn, None, money, retry=retry)
            raise
        admitted, what, now, in_the_way, stands, *admission = reply
        standing = read_standing(stands)
        self.breakers.hear(group.owner, standing)
        if not admitted:
            del held[reservation_id]
            raise as_error(group, in_the_way.decode(), what, horizon_us, standing, day)
        epoch, admitted_us, probe, processes = admission
        self._fellows.heard(processes)
        held[reservation_id] = Held(lane, money, what)
        wait_s = (what - now) / SECOND_US
        return Reservation(
            reservation_id, group, drawn, what, wait_s, int(epoch), bool(probe), admitted_us, money, retry
        )

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
        admitted = (health.value, reservation.epoch, reservation.admitted_us)
        one = reservation
        self._end(one.group, one.id, one.buckets, used, one.money, admitted, retry=one.retry)

    def tighten(self, reservation: Reservation, told: ToldLimits | None, error: GatewayError | None = None) -> None:
        """Take over what the provider said with an answer, or with a refusal. Never waits, never fails."""
        news = tightening(reservation.group, reservation.buckets, told, error)
        if news is None:
            return
        arguments: tuple[str | int, ...] = (self._now(), "" if news.at_us is None else news.at_us, news.closed_us)
        for kind, lacking in news.lacking.items():
            arguments += (kind.value, lacking.inflow_us, lacking.until_us)
        self._post(self._scripts.tighten.whole(_keys(reservation.group, "buckets"), arguments))

    async def state(self, group: LimitGroup) -> GroupState:
        """Look at what is reserved, by whomever; nothing changes.

        Raises:
            RedisAway: nobody knows.
        """
        keys = [*_keys(group, "buckets", "slots", "alive", "ceiling"), group.owner.key("breaker")]
        day = self._purse.today(group)
        keys += [] if day is None else [day.key]
        reply = await self._scripts.state.run(self._line, keys, (self._now(),))
        state = group_state(group, reply, day)
        self.breakers.hear(group.owner, state.breaker)
        return state

    def close(self) -> None:
        """Stop renewing, for good."""
        self._closed = True
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

    async def _asked(
        self,
        group: LimitGroup,
        reservation_id: str,
        lane: Lane,
        horizon_us: int,
        drawn: Sequence[Bucket],
        money: Money | None = None,
        *,
        retry: bool = False,
    ) -> list[Any]:
        keys = _keys(group, "buckets", "slots", "alive", f"held:{self._holder}", "ahead", "ceiling")
        keys += [group.owner.key("breaker"), group.owner.key("retries")]
        budget, worst = ("", 0) if money is None else (group.budget or 0, money.worst)
        keys += [] if money is None else [money.day_key]
        arguments: tuple[str | int, ...] = (
            reservation_id, self._holder, lane.value, horizon_us, self._lease_us,
            group.most_open, int(retry), self._now(), budget, worst,
        )  # fmt: skip
        for bucket in drawn:
            arguments += tuple(bucket.arguments())
        reply: list[Any] = await self._scripts.reserve.run(self._line, keys, arguments)
        return reply

    def _end(
        self,
        group: LimitGroup,
        reservation_id: str,
        drawn: Sequence[Bucket],
        used: Need | None,
        money: Money | None,
        admitted: tuple[str | int, ...] = (Health.SILENT.value, "", ""),
        *,
        retry: bool,
    ) -> None:
        """End a reservation. `admitted`: what its outcome says, epoch and time; what nobody knows of says nothing."""
        self._held.get(group, {}).pop(reservation_id, None)
        keys = _keys(group, "buckets", "slots", "alive", f"held:{self._holder}", "ceiling")
        owner = group.owner
        keys += [owner.key("breaker"), owner.key("retries"), *([] if money is None else [money.day_key])]
        cost = 0 if money is None else money.cost(used)
        arguments: tuple[str | int, ...] = (
            reservation_id, self._holder, self._now(), *admitted, cost, int(retry), int(used is not None),
        )  # fmt: skip
        for bucket in drawn:
            arguments += (bucket.kind.value, bucket.difference_us(used))
        self._untold.append(self._scripts.settle.whole(keys, arguments))
        self._tell()

    def _tell(self) -> None:
        """Tell how calls have ended, in that order, as long as Redis hears it."""
        while self._untold:
            if not self._post(self._untold[0]):
                self._renew_later()
                return
            self._untold.popleft()

    def _renew_later(self) -> None:
        if self._renewal is None and not self._closed:
            pause_s = self._lease_us / SECOND_US / RENEWALS
            self._renewal = asyncio.get_running_loop().call_later(pause_s, self._renew)

    def _renew(self) -> None:
        """Say what this process holds; once more where it holds nothing now, for a settlement may have been lost."""
        self._renewal = None
        self._tell()  # first: to a renewal, what is no longer held and was not settled is lost
        if not self._line.away:
            for group, held in self._held.items():
                self._post(self._renewed(group, held))
            self._held = {group: held for group, held in self._held.items() if held}
        if self._held:
            self._renew_later()

    def _renewed(self, group: LimitGroup, held: Mapping[str, Held]) -> Command:
        keys = [*_keys(group, "slots", "alive", f"held:{self._holder}"), group.owner.key("breaker")]
        days = days_held(held, self._purse.today(group))
        said = renewal(held, {day: place for place, day in enumerate(days, len(keys) + 1)})
        arguments = (self._holder, self._lease_us, self._now(), self._made, *said)
        return self._scripts.renew.whole([*keys, *days], arguments)

    def _now(self) -> int | str:
        return "" if self._now_us is None else self._now_us()

    def _post(self, command: Command) -> bool:
        """Return whether it is on its way. Where it is not, the line's log has said why."""
        try:
            self._line.post(command)
        except RedisAway:
            return False
        return True


def _keys(group: LimitGroup, *names: str) -> list[str]:
    prefix = group.key("")
    return [prefix + name for name in names]
