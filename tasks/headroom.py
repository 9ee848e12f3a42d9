"""What a provider's limit groups have room for, so that no job is released that could not be called.

The limiter refuses what does not fit; a dispatcher that knows no more than the workers' slots would release such jobs
again and again. So it looks first, and keeps what is queued or running of a group to the calls that are open and those
that could be booked now.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.catalog_entries import Lane
from gateway.errors import GatewayError
from gateway.limits.alone import AGAIN_S, LONGEST_S, SHARE_TAKEN
from gateway.limits.group_state import GroupState
from gateway.limits.groups import LimitGroups, Shared
from gateway.limits.limiter import Limiter
from gateway.limits.refusals import breaker_open, day_budget_spent
from gateway.redis_line import RedisAway

WAITING_SHARE = 0.15
"""Of a provider's slots as many calls may wait for their date. Each worker lets a quarter of its own wait; less here,
for messages do not fall evenly."""
MOST_BOOKED = 10_000
"""No more are released in one pass anyway."""
IN_THE_DARK = 4
"""Jobs of a group that may be out, at the least, while nobody knows what it has left."""


@dataclass(frozen=True, slots=True)
class GroupRoom:
    """How many jobs of some models may be queued or running at once: `most`, None for as many as the slots bear.

    models: None stands for all that no other group names. next_in_s: when there may be room for one more.
    out: why no account makes any call at all, None where one does. more: as many may be released, however few jobs are
    out; None: `most` says it all. A job may end between the look at the limits and the count of jobs: its call is still
    in `most`.
    """

    models: tuple[str, ...] | None
    most: int | None
    next_in_s: float
    out: GatewayError | None = None
    more: int | None = None


class Headroom(Protocol):
    """Where a dispatcher asks."""

    async def rooms(self, provider: str, lane: str, slots: int) -> Sequence[GroupRoom]:
        """Return the rooms of a provider's groups. `slots`: of all its workers."""
        ...


class NoLimits:
    """A headroom without limits: what is released depends on slots alone."""

    async def rooms(self, provider: str, lane: str, slots: int) -> Sequence[GroupRoom]:
        """See `Headroom.rooms`."""
        return ()


class LimitHeadroom:
    """The headroom that the limiter knows.

    While Redis is away workers go on with half of their shares, for a while (`gateway.limits.alone`). So half of what
    there was room for, when it was last heard, may be out for as long.
    """

    def __init__(self, limiter: Limiter, groups: LimitGroups, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limiter = limiter
        self._groups = groups
        self._clock = clock
        self._heard: dict[tuple[Shared, Lane], int] = {}
        """Calls open, and calls that could be booked, of accounts without a budget; when Redis was last there."""
        self._away_since: float | None = None

    async def rooms(self, provider: str, lane: str, slots: int) -> Sequence[GroupRoom]:
        """See `Headroom.rooms`."""
        return await asyncio.gather(*(self._room(one, Lane(lane), slots) for one in self._groups.at(provider)))

    async def _room(self, shared: Shared, lane: Lane, slots: int) -> GroupRoom:
        """The room of all accounts together."""
        try:
            states = await asyncio.gather(*(self._limiter.state(group) for group in shared.groups))
        except RedisAway:
            return self._in_the_dark(shared, lane)
        self._away_since = None
        if not all(state.held_back for state in states):
            return GroupRoom(shared.models, None, 0.0)
        may_wait = max(1, int(slots * WAITING_SHARE))
        bookable = [state.admits(lane, MOST_BOOKED, may_wait=may_wait) for state in states]
        opens_in_s = [
            state.opens_in_s(lane, calls, may_wait=may_wait) for state, calls in zip(states, bookable, strict=True)
        ]
        self._heard[shared, lane] = sum(
            state.open + calls for state, calls in zip(states, bookable, strict=True) if state.group.budget is None
        )
        more = sum(bookable)
        most = sum(state.open for state in states) + more
        return GroupRoom(shared.models, most, min(opens_in_s), _outage(states), more)

    def _in_the_dark(self, shared: Shared, lane: Lane) -> GroupRoom:
        """What goes while nobody knows what is left: none where money is limited."""
        groups = [group for group in shared.groups if group.budget is None]
        if not groups:
            return GroupRoom(shared.models, 0, AGAIN_S)
        if any(group.unlimited for group in groups):
            return GroupRoom(shared.models, None, AGAIN_S)
        now = self._clock()
        self._away_since = now if self._away_since is None else self._away_since
        heard = self._heard.get((shared, lane), 0) if now - self._away_since < LONGEST_S else 0
        return GroupRoom(shared.models, max(IN_THE_DARK, int(heard * SHARE_TAKEN)), AGAIN_S)


def _outage(states: Sequence[GroupState]) -> GatewayError | None:
    """Why no account makes a call, None where one does."""
    reasons = [_reason(state) for state in states]
    out = [reason for reason in reasons if reason is not None]
    return min(out, key=lambda reason: reason.retry_after_s or 0.0) if len(out) == len(reasons) else None


def _reason(state: GroupState) -> GatewayError | None:
    if state.out:
        return breaker_open(state.group.owner, state.breaker)
    money = state.money
    if money is None or money.spent is None or not money.spent_up:
        return None
    return day_budget_spent(state.group, money.spent - money.open, money.left_s)
