"""What a limit group may spend in a day: the day, the counter's seed, and how much is left.

A day is a calendar day of the account's zone, by the wall clock of whoever asks: clocks that differ by seconds move a
day's edge by seconds, and each day is counted under its own key. The counter is Redis's; where it is missing (the day's
first call, a flush) it is begun with what the ledger has. A call counts at its worst until its cost is known; where
nobody ever learns it (its process died, no usage was told), it stays counted at that until the day is over. After a
flush the calls that are open come back with their renewals, within seconds; in between they are not counted. What a
call cost that ends before the day is begun again is added then, whether or not the ledger had it when it was asked.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol
from zoneinfo import ZoneInfo

from gateway.errors import ConfigurationError, LimitReached
from gateway.pricing import micro_usd

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.limits.group import LimitGroup
    from gateway.limits.rates import Need
    from gateway.redis_line import RedisLine
    from gateway.redis_script import Script

ASK_AGAIN_S = 5.0
"""When to ask again where the ledger did not say what is spent."""


class LedgerAway(Exception):
    """Nobody can say now what was spent."""


class Spending(Protocol):
    """Where a limiter asks what was spent. `tasks` implements it over the ledger."""

    async def spent_usd(self, group: LimitGroup, since: datetime) -> Decimal:
        """Return what the calls of a group cost that began at `since` or later, US dollars.

        Calls that are open are none of them. One whose cost is unknown does not count as free: it counts as a dear one
        of its group lately was, or as the worst that a call may cost.

        Raises:
            LedgerAway: nobody can say.
        """
        ...


@dataclass(frozen=True, slots=True)
class Money:
    """What one call may cost, in micro-dollars, and the day it counts in: the one it was reserved in."""

    day_key: str
    worst: int

    def cost(self, used: Need | None) -> int:
        """Return what it did cost: nothing where no call was made, its worst where nobody knows."""
        if used is None:
            return 0
        return self.worst if used.cost_usd is None else micro_usd(used.cost_usd)


@dataclass(frozen=True, slots=True)
class Day:
    """A day of a group's money: its key, when it began, and how many seconds are left of it."""

    key: str
    since: datetime
    left_s: float


def day_of(group: LimitGroup, now_s: float) -> Day:
    """Return the day that it is in the zone of a group's account at a Unix time. One may have 23 hours, or 25."""
    zone = ZoneInfo(group.zone)
    today = datetime.fromtimestamp(now_s, zone).date()
    since, ends = (datetime(day.year, day.month, day.day, tzinfo=zone) for day in (today, today + timedelta(days=1)))
    # By their Unix times: aware datetimes of one zone subtract as clocks on the wall do.
    return Day(group.key(f"spent:{today.isoformat()}"), since, ends.timestamp() - now_s)


@dataclass(frozen=True, slots=True)
class DayState:
    """What is spent of a day's budget, in micro-dollars.

    spent: open calls at their worst; None: not read from the ledger yet. open: of that, of open calls. cost: worst cost
    of a call as they lately are, None where nobody knows. left_s: seconds until the day is over.
    """

    budget: int
    spent: int | None
    open: int
    cost: int | None
    left_s: float

    @property
    def spent_up(self) -> bool:
        """Whether one more call would not fit if each open one cost nothing."""
        return self.spent is not None and self.spent - self.open + (self.cost or int(self.cost is None)) > self.budget

    def admits(self, at_most: int) -> int:
        """Return how many calls, as they lately are, fit beside those that are open.

        Where nobody knows how much they cost, or what is spent, one may go: it makes that known.
        """
        if self.spent is None or self.cost is None:
            return 0 if self.spent_up else min(1, at_most)
        left = self.budget - self.spent
        fit = left // self.cost if self.cost else (math.inf if left >= 0 else 0)
        return max(0, int(min(at_most, fit)))


def day_state(group: LimitGroup, day: Day | None, spent: int, open_calls: int, cost: int) -> DayState | None:
    """Read what `state.lua` returns of money, -1 for nothing; None for a group without a budget."""
    if group.budget is None or day is None:
        return None
    return DayState(
        group.budget, None if spent < 0 else spent, max(0, open_calls), None if cost < 0 else cost, day.left_s
    )


class Purse:
    """One process's way to the days of money. Lives on one event loop."""

    def __init__(
        self, line: RedisLine, seed: Script, spending: Spending | None, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """Make a purse.

        Args:
            line: the process's line to Redis.
            seed: the script that begins a day.
            spending: who knows what was spent; None in a process that makes no calls.
            wall_clock: Unix time, seconds.
        """
        self._line = line
        self._seed = seed
        self._spending = spending
        self._wall_clock = wall_clock
        self._seeding: dict[str, asyncio.Task[None]] = {}

    def today(self, group: LimitGroup) -> Day | None:
        """Return a group's day; None where it has no budget."""
        return None if group.budget is None else day_of(group, self._wall_clock())

    async def begin(self, group: LimitGroup, day: Day, now: int | str) -> None:
        """Begin a day with what the ledger has of it. Those who ask at once share one look.

        Raises:
            ConfigurationError: this process knows no ledger.
            LimitReached: the ledger is away.
            RedisAway: so is Redis.
        """
        if self._spending is None:
            raise ConfigurationError(f"{group} has a budget for the day, and this process cannot ask what is spent")
        seeding = self._seeding.get(day.key)
        if seeding is None:
            seeding = asyncio.create_task(self._begin(self._spending, group, day, now))
            self._seeding[day.key] = seeding
            seeding.add_done_callback(lambda done: self._begun(day.key, done))
        await asyncio.shield(seeding)

    def _begun(self, key: str, done: asyncio.Task[None]) -> None:
        del self._seeding[key]
        if not done.cancelled():
            done.exception()  # each who waited has it; where all of them were cancelled, nobody wants it

    async def _begin(self, spending: Spending, group: LimitGroup, day: Day, now: int | str) -> None:
        try:
            spent = micro_usd(await spending.spent_usd(group, day.since))
        except LedgerAway as away:
            message = f"what {group} has spent today is not known: the ledger is away"
            raise LimitReached(message, retry_after_s=ASK_AGAIN_S) from away
        await self._seed.run(self._line, [day.key], (now, spent))
