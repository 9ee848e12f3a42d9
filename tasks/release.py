"""Releasing: due jobs move to `queued` as far as slots and limits have room, and go out as messages.

What was left behind, and why, is kept for whoever decides when to look again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tasks.dispatch_policy import Policy
from tasks.diversion import Diversion, Spare
from tasks.headroom import GroupRoom, Headroom, NoLimits
from tasks.outbox import Outbox
from tasks.sql import statement

log = logging.getLogger(__name__)

LANES = ("interactive", "bulk")
"""In the order in which they are served."""
REST = GroupRoom(None, None, 0.0)
"""The models that no limit group names: slots alone bound them."""
COUNT_ALL_S = 60.0
"""So often all that is queued or running is counted; between, what was queued since the first of them, and a margin."""
MARGIN = timedelta(seconds=30)
"""A job's `queued_at` may lie so far before the commit that shows it: a dispatcher that froze is cut after ten seconds,
and what could not be published is dated back by fifteen (`publish_again.sql`)."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a release has moved, and room for how many more there is: `left` in all, `spare` of them by group."""

    rows: Sequence[RowMapping]
    left: int
    spare: Sequence[Spare]


@dataclass(slots=True)
class Remembered:
    """What one dispatcher knows of a provider from its last look.

    slots: live ones. turns: by lane and group, which tenant was served last, and how many jobs it had in its turn.
    oldest: when the first job was queued that is not done; None: nobody knows. counted_at: when all were counted, by
    the loop's clock.
    """

    slots: int = 0
    turns: dict[tuple[str, tuple[str, ...] | None], Mapping[str, object]] = field(default_factory=dict)
    oldest: datetime | None = None
    counted_at: float = -COUNT_ALL_S


class Releases:
    """One dispatcher's releasing. Any number of dispatchers may do it: the statement holds its provider's lock."""

    def __init__(
        self,
        engine: AsyncEngine,
        outbox: Outbox,
        policy: Policy,
        *,
        headroom: Headroom | None = None,
        weights: Mapping[str, int] | None = None,
        on_out: Callable[[str, str], object] = lambda provider, lane: None,
    ) -> None:
        """Make one.

        Args:
            engine: each statement a transaction of its own.
            outbox: where released jobs go.
            policy: figures.
            headroom: what the limits have room for; None: there are none.
            weights: of tenants, how many jobs each may have in its turn; 1 where none is named.
            on_out: called with provider and lane where a group that is out has left jobs behind: another may take over.
        """
        self._engine = engine
        self._locking = engine.execution_options(isolation_level="READ COMMITTED")
        self._outbox = outbox
        self._policy = policy
        self._headroom = headroom or NoLimits()
        self._on_out = on_out
        self._diversion = Diversion(log)
        self._weights = json.dumps(dict(weights or {}))
        self._remembered: dict[str, Remembered] = {}
        self.full: set[str] = set()
        """Queues for which slots were too few when they were last looked at: something due was left behind."""
        self.opens_at: dict[str, float] = {}
        """When a limit group has room again for what was left behind in a queue, by the loop's clock. By queue, as in
        `full`: a look at one lane says nothing of the other."""

    def is_out(self, provider: str) -> bool:
        """Whether any group of a provider is out, as the last pass has seen it."""
        return self._diversion.is_out(provider)

    async def release(self, provider: str, lanes: Sequence[str] = LANES) -> int:
        """Release and publish what is due for one provider. Returns how many, or -1 where another has the lock."""
        for lane in lanes:
            self.full.discard(f"{provider}.{lane}")
            self.opens_at.pop(f"{provider}.{lane}", None)
        released = 0
        async with self._engine.connect() as connection:
            for lane in lanes:
                moved = await self._fill_lane(connection, provider, lane)
                if moved is None:
                    return released or -1
                released += moved
        return released

    async def _fill_lane(self, connection: AsyncConnection, provider: str, lane: str) -> int | None:
        """Release what is due; where there is room left, take over from groups that are out.

        Returns how many have gone, None where another dispatcher releases for the provider.
        """
        rooms = await self._rooms(provider, lane)
        self._diversion.note(provider, rooms)
        moved = await self._moved(connection, provider, lane, rooms)
        if moved is None:
            return None
        await self._outbox.publish(moved.rows)
        more = await self._take_over(provider, lane) if self._diversion.may_take_over(moved.left, moved.spare) else 0
        return len(moved.rows) + more

    async def _take_over(self, provider: str, lane: str) -> int:
        """Move what others leave behind, as far as there is room, and release it, under one lock."""
        rooms = await self._rooms(provider, lane)
        rows: list[RowMapping] = []
        async with self._locking.begin() as connection:
            moved = await self._moved(connection, provider, lane, rooms)
            while moved is not None:
                rows += moved.rows
                if not await self._diversion.take_over(connection, provider, lane, moved.left, moved.spare):
                    break
                moved = await self._moved(connection, provider, lane, rooms)
                if moved is not None and not moved.rows:
                    break  # what was taken does not go: no more of it
        await self._outbox.publish(rows)
        return len(rows)

    async def _rooms(self, provider: str, lane: str) -> Sequence[GroupRoom]:
        return await self._headroom.rooms(provider, lane, self._of(provider).slots)

    def _of(self, provider: str) -> Remembered:
        return self._remembered.setdefault(provider, Remembered())

    def _active_since(self, provider: str) -> datetime | None:
        """From when on what is queued or running is counted; None: all of it."""
        known, now = self._of(provider), asyncio.get_running_loop().time()
        if known.oldest is None or now - known.counted_at >= COUNT_ALL_S:
            known.counted_at = now
            return None
        return known.oldest - MARGIN

    async def _moved(
        self, connection: AsyncConnection, provider: str, lane: str, rooms: Sequence[GroupRoom]
    ) -> Moved | None:
        """Move what is due to `queued`, as far as there is room; None where another dispatcher has the lock."""
        policy, turns = self._policy, self._of(provider).turns
        named = [*rooms, *(() if any(room.models is None for room in rooms) else (REST,))]
        parameters = {
            "groups": json.dumps(
                [{"models": r.models, "most": r.most, "more": r.more, **turns.get((lane, r.models), {})} for r in named]
            ),
            "weights": self._weights,
            "active_since": self._active_since(provider),
            "provider": provider,
            "lane": lane,
            "most": policy.most_per_pass,
            "backlog_share": policy.backlog_share,
            "least_backlog": policy.least_backlog,
            "bulk_share": policy.bulk_share,
            "dead_after_s": policy.dead_after_s,
        }
        rows = (await connection.execute(statement("release"), parameters)).mappings().all()
        if not rows:
            return None
        self._note(provider, lane, named, rows[0])
        return _moved([row for row in rows if row["id"] is not None], named, rows[0])

    def _note(self, provider: str, lane: str, rooms: Sequence[GroupRoom], told: RowMapping) -> None:
        """Remember whose turn it was, what was left behind, and why."""
        known = self._of(provider)
        known.slots, known.oldest = told["slots"], told["oldest"]
        known.turns |= {(lane, room.models): turn for room, turn in zip(rooms, told["turns"], strict=True)}
        if told["short"]:
            self.full.add(f"{provider}.{lane}")
        if told["closed"]:
            opens_in_s = min(rooms[at - 1].next_in_s for at in told["closed"])
            self.opens_at[f"{provider}.{lane}"] = asyncio.get_running_loop().time() + opens_in_s
            if self.is_out(provider):
                self._on_out(provider, lane)


def _moved(moved: Sequence[RowMapping], rooms: Sequence[GroupRoom], told: RowMapping) -> Moved:
    """Read what there is room for beside what has moved: none where the queue is full, or in a group that is out.

    What a group that is out leaves behind is no reason to take nothing over: it may be what is taken.
    """
    left = 0 if told["short"] else max(0, told["room"] - len(moved))
    of_groups = zip(rooms, told["spare"], strict=True)
    return Moved(moved, left, [Spare(room.models, more) for room, more in of_groups if room.out is None])
