"""What a process holds, and that it lives: it says so again and again, and tells how calls have ended, in their order.

A renewal says what is held by name, so a flush, a lost settlement or a false death mends itself. What ends while Redis
is away is kept, the latest of it, and told once Redis is back: before the next reservation or renewal, in portions.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from gateway.breaker.policy import SECOND_US
from gateway.limits import commands
from gateway.redis_line import RedisAway

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.limits.commands import Holder, Time
    from gateway.limits.group import LimitGroup
    from gateway.limits.money import Purse
    from gateway.limits.reservation import Reservation
    from gateway.redis_line import Command, RedisLine
    from gateway.redis_script import Script

RENEWALS = 4
"""In a lease's time: three may be lost."""
MOST_UNTOLD = 4_096
"""Ends of calls that are kept while Redis is away, the latest: more than a process has calls open when it goes."""


PORTION, PORTION_EVERY_S = 64, 0.05
"""So many kept ends are told at a time: a whole script each, they must fit the bound of one write."""


class Renewals:
    """One process's. Lives on one event loop."""

    def __init__(self, line: RedisLine, script: Script, holder: Holder, purse: Purse, now: Callable[[], Time]) -> None:
        """Make them; nothing is said before something is held.

        Args:
            line: the process's line to Redis.
            script: `renew.lua`.
            holder: who holds it.
            purse: for the day that it is.
            now: the time as scripts take it.
        """
        self._line = line
        self._script = script
        self._holder = holder
        self._purse = purse
        self._now = now
        self._latest_id = 0
        self._held: dict[LimitGroup, dict[str, Reservation]] = {}
        """By the id of the reservation."""
        self._untold: deque[Command] = deque(maxlen=MOST_UNTOLD)
        """Settlements, the next one first."""
        self._timer: asyncio.TimerHandle | None = None
        self._next_portion: asyncio.TimerHandle | None = None
        self._closed = False

    def next_id(self) -> str:
        """Return the id of a reservation that is to be made: a number, higher than any before it."""
        self._latest_id += 1
        return str(self._latest_id)

    def hold(self, one: Reservation) -> None:
        """Say of a reservation that it is held, from now on; said again, it is held as it is now."""
        self._held.setdefault(one.group, {})[one.id] = one
        self._renew_later()

    def drop(self, one: Reservation) -> None:
        """Say no more of a reservation."""
        self._held.get(one.group, {}).pop(one.id, None)

    def tell(self, settlement: Command) -> None:
        """Tell how a call has ended: now, or when Redis is back."""
        self._untold.append(settlement)
        self.tell_kept()

    def tell_kept(self) -> None:
        """Tell what was kept, the next portion now and the others after it."""
        if self._next_portion is not None:
            return
        for _ in range(min(PORTION, len(self._untold))):
            if not self._post(self._untold[0]):
                return
            self._untold.popleft()
        if self._untold and not self._closed:
            self._next_portion = asyncio.get_running_loop().call_later(PORTION_EVERY_S, self._tell_on)

    def renew(self) -> None:
        """Say what is held; once more where nothing is held now, for a settlement may have been lost."""
        self._timer = None
        self.tell_kept()
        # To a renewal what is no longer held and was not settled is lost: it comes after all that is to be told.
        if not (self._line.away or self._untold):
            for group in self._held:
                self._post(self.renewal(group))
            self._held = {group: held for group, held in self._held.items() if held}
        if self._held:
            self._renew_later()

    def renewal(self, group: LimitGroup) -> Command:
        """Return what is said of a group."""
        held, today = self._held.get(group, {}), self._purse.today(group)
        said = commands.renew(group, held.values(), today, self._latest_id, self._holder, self._now())
        return self._script.whole(*said)

    def close(self) -> None:
        """Stop renewing, for good."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._next_portion is not None:
            self._next_portion.cancel()
            self._next_portion = None

    def _renew_later(self) -> None:
        if self._timer is None and not self._closed:
            pause_s = self._holder.lease_us / SECOND_US / RENEWALS
            self._timer = asyncio.get_running_loop().call_later(pause_s, self.renew)

    def _tell_on(self) -> None:
        self._next_portion = None
        self.tell_kept()

    def _post(self, command: Command) -> bool:
        """Return whether it is on its way. Where it is not, the line's log has said why."""
        try:
            self._line.post(command)
        except RedisAway:
            return False
        return True
