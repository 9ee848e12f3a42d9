"""A process's side of the limits: it reserves before each call, settles after it, and says that it is alive.

The scripts decide, by Redis's clock; what comes back is how long to wait, so no worker's clock has a say. A process
that dies leaves its slots to lapse within `LEASE_S`, and what it had reserved of a rate flows off at that rate: no
capacity is ever lost.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from gateway.errors import LimitReached
from gateway.limits.group import BOOKED_AHEAD_S, SECOND_US, GroupState, LimitGroup, group_state
from gateway.limits.rates import buckets, check_fits
from gateway.limits.sizes import LargestCalls
from gateway.redis_line import RedisAway
from gateway.redis_script import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.catalog_entries import Lane
    from gateway.limits.rates import Bucket, Need
    from gateway.redis_line import Command, RedisLine

LEASE_S = 20.0
"""So long a dead process's slots stay taken: as long as it takes until its jobs are run again."""
RENEWALS = 4
"""In a lease's time: three may be lost."""
SLOT_RETRY_S = 1.0
"""When to ask again where every slot is taken: when one is given back, nobody can know."""

SLOTS = "concurrent_calls"
"""The script's word for what stands in the way where it is no rate."""

RESERVE, SETTLE, RENEW, STATE = (
    Script.read("limits", name) for name in ("reserve.lua", "settle.lua", "renew.lua", "state.lua")
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room for one call, from `wait_s` seconds after the reply on. `wait_s` is 0 for most."""

    id: str
    group: LimitGroup
    buckets: tuple[Bucket, ...]
    date_us: int
    wait_s: float


class Limiter:
    """One process's. Lives on one event loop. `holder` names this life of the process and none after it."""

    def __init__(
        self,
        line: RedisLine,
        holder: str,
        *,
        lease_s: float = LEASE_S,
        now_us: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a limiter.

        Args:
            line: the process's line to Redis.
            holder: letters, digits and -; in keys and in members of sets.
            lease_s: how long slots count without a renewal.
            now_us: the time, for tests; None: Redis's own.
            clock: for how long ago a large call was; nothing else goes by it.
        """
        self._line = line
        self._holder = holder
        self._lease_us = round(lease_s * SECOND_US)
        self._now_us = now_us
        self._largest = LargestCalls(clock)
        self._made = 0
        self._held: dict[LimitGroup, dict[str, tuple[Lane, int | None]]] = {}
        """Lane and date of each reservation by its id; no date while the reply is on its way."""
        self._renewal: asyncio.TimerHandle | None = None
        self._closed = False

    async def reserve(self, group: LimitGroup, need: Need, lane: Lane, *, may_wait: bool = True) -> Reservation:
        """Reserve all that a call needs. The caller waits `wait_s`, makes the call, and settles.

        Args:
            group: whose limits.
            need: of the call.
            lane: of the call.
            may_wait: whether a date ahead of now will do.

        Raises:
            ExceedsLimit: it needs more than a minute holds.
            LimitReached: no date within `BOOKED_AHEAD_S` is free, or none now; nothing is reserved.
            RedisAway: nobody knows what is free.
        """
        check_fits(group.limits, need)  # before it is counted: what never goes must not slow down the others
        drawn = buckets(group.limits, need, self._largest.with_this(group, need))
        horizon_us = round(BOOKED_AHEAD_S[lane] * SECOND_US) if may_wait else 0
        self._made += 1
        reservation_id = str(self._made)
        held = self._held.setdefault(group, {})
        held[reservation_id] = (lane, None)
        self._renew_later()
        try:
            admitted, date, now, in_the_way = await self._asked(group, reservation_id, lane, horizon_us, drawn)
        except BaseException as error:
            # It may be reserved without our knowing: the reply was lost, or came too late.
            self._end(group, reservation_id, drawn, None)
            if isinstance(error, ResponseError):
                raise RedisAway("Redis refuses the limiter's script") from error
            raise
        if not admitted:
            del held[reservation_id]
            raise _reached(group, in_the_way.decode(), (date - now - horizon_us) / SECOND_US)
        held[reservation_id] = (lane, date)
        return Reservation(reservation_id, group, drawn, date, (date - now) / SECOND_US)

    def settle(self, reservation: Reservation, used: Need | None) -> None:
        """End a reservation, once the call has ended. Never waits, never fails: what is lost is made good by a renewal.

        Args:
            reservation: from `reserve`; a second time does nothing.
            used: what the provider counted; None: nothing, for no call was made. More than was reserved is a debt that
                the next calls wait for. A request is spent either way: its date cannot be given to another call.
        """
        self._end(reservation.group, reservation.id, reservation.buckets, used)

    async def state(self, group: LimitGroup) -> GroupState:
        """Look at what is reserved, by whomever; nothing changes.

        Raises:
            RedisAway: nobody knows.
        """
        keys = [group.key(what) for what in ("buckets", "slots", "alive")]
        try:
            now, open_calls, open_bulk, *pairs = await STATE.run(self._line, keys, (self._now(),))
        except ResponseError as error:
            raise RedisAway("Redis refuses the limiter's script") from error
        kept = dict(zip((field.decode() for field in pairs[::2]), pairs[1::2], strict=True))
        return group_state(group, now, open_calls, open_bulk, kept)

    def close(self) -> None:
        """Stop renewing, for good."""
        self._closed = True
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

    async def _asked(
        self, group: LimitGroup, reservation_id: str, lane: Lane, horizon_us: int, drawn: Sequence[Bucket]
    ) -> tuple[int, int, int, bytes]:
        keys = [group.key(what) for what in ("buckets", "slots", "alive", f"held:{self._holder}", "ahead")]
        arguments: tuple[str | int, ...] = (
            reservation_id, self._holder, lane.value, horizon_us, self._lease_us,
            group.most_open, group.most_open_bulk, self._now(),
        )  # fmt: skip
        for bucket in drawn:
            arguments += tuple(bucket.arguments())
        admitted, date, now, in_the_way = await RESERVE.run(self._line, keys, arguments)
        return admitted, date, now, in_the_way

    def _end(self, group: LimitGroup, reservation_id: str, drawn: Sequence[Bucket], used: Need | None) -> None:
        self._held.get(group, {}).pop(reservation_id, None)
        keys = [group.key(what) for what in ("buckets", "slots", f"held:{self._holder}")]
        arguments: tuple[str | int, ...] = (reservation_id, self._holder)
        for bucket in drawn:
            arguments += (bucket.kind.value, bucket.difference_us(used))
        self._post(SETTLE.whole(keys, arguments))

    def _renew_later(self) -> None:
        if self._renewal is None and not self._closed:
            pause_s = self._lease_us / SECOND_US / RENEWALS
            self._renewal = asyncio.get_running_loop().call_later(pause_s, self._renew)

    def _renew(self) -> None:
        """Say what this process holds; once more where it holds nothing now, for a settlement may have been lost."""
        self._renewal = None
        for group, held in self._held.items():
            self._post(self._renewed(group, held))
        self._held = {group: held for group, held in self._held.items() if held}
        if self._held:
            self._renew_later()

    def _renewed(self, group: LimitGroup, held: Mapping[str, tuple[Lane, int | None]]) -> Command:
        keys = [group.key(what) for what in ("slots", "alive", f"held:{self._holder}")]
        arguments: tuple[str | int, ...] = (self._holder, self._lease_us, self._now())
        for reservation_id, (lane, date) in held.items():
            arguments += (reservation_id, lane.value, "" if date is None else date)
        return RENEW.whole(keys, arguments)

    def _now(self) -> int | str:
        return "" if self._now_us is None else self._now_us()

    def _post(self, command: Command) -> None:
        try:
            self._line.post(command)
        except RedisAway:
            # The line has told. The next renewal says what is held, and a rate forgets by itself.
            return


def _reached(group: LimitGroup, in_the_way: str, wait_s: float) -> LimitReached:
    if in_the_way == SLOTS:
        message = f"{group} may have {group.most_open} calls open, {group.most_open_bulk} of them in bulk: none is free"
        return LimitReached(message, retry_after_s=SLOT_RETRY_S)
    return LimitReached(f"{group} has no {in_the_way} to book for {wait_s:.1f} s", retry_after_s=wait_s)
