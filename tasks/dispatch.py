"""The dispatcher: the only one who moves a job into `queued` and publishes messages.

It releases what is due as far as the queues and the providers' limits have room, publishes again what nobody claimed,
rescues the jobs of dead workers, and lets expire what nobody wants any more. Any number of dispatchers may run: each
release transaction holds its provider's advisory lock, every other statement skips locked rows. Always in this order:
commit `queued`, then publish. A message that is lost in between is published again.

Publishing is a port: Celery lives in `workers`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from sqlalchemy import RowMapping
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tasks.diversion import Diversion
from tasks.headroom import Headroom, NoLimits
from tasks.job import Released
from tasks.listen import listen
from tasks.patience import away
from tasks.sql import statement
from tasks.whereabouts import whereabouts

log = logging.getLogger(__name__)

LANES = ("interactive", "bulk")
"""In the order in which they are served."""

LONGEST_GAP_S = 10.0
"""A pause between two looks for dead workers beyond which the dispatcher no longer trusts what it sees."""


class Publisher(Protocol):
    """Puts messages into queues."""

    async def publish(self, messages: Sequence[Released]) -> None:
        """Publish all, in order.

        Raises:
            OSError: the broker is away. What was not published is published again later.
        """
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """The dispatcher's figures. Seconds unless the name says otherwise.

    `listen` and `rescue` exist so that benches can show what they are worth.
    """

    poll_s: float = 1.0
    busy_poll_s: float = 0.05
    """Pause after a pass that left something due behind: finished calls free slots long before the next second."""
    most_per_pass: int = 500
    backlog_share: float = 0.25
    least_backlog: int = 4
    """Messages allowed to lie in a queue beyond the live slots: a share of them, but at least so many."""
    bulk_share: float = 0.8
    """Bulk's part of a provider's live slots, so that an interactive job always finds one."""
    dead_after_s: float = 20.0
    republish_after_s: float = 15.0
    rescue_every_s: float = 2.0
    republish_every_s: float = 2.0
    expire_every_s: float = 30.0
    listen: bool = True
    rescue: bool = True


class Dispatcher:
    """One dispatcher process's work."""

    def __init__(
        self,
        engine: AsyncEngine,
        publisher: Publisher,
        providers: Sequence[str],
        policy: Policy | None = None,
        *,
        headroom: Headroom | None = None,
    ) -> None:
        self._headroom = headroom or NoLimits()
        self._engine = engine
        self._publisher = publisher
        self._providers = tuple(providers)
        self._policy = policy or Policy()
        self._releasing = engine.execution_options(isolation_level="READ COMMITTED")
        self._woken: dict[str, tuple[str, ...]] = {}
        self._wake = asyncio.Event()
        self._poll_due = 0.0
        self._looked_at: float | None = None
        self._blind_until = 0.0
        self._full: set[str] = set()
        """Queues for which slots were too few when they were last looked at: something due was left behind."""
        self._opens_at: dict[str, float] = {}
        """When a limit group has room again for what was left behind in a queue, by the loop's clock. By queue, as in
        `_full`: a look at one lane says nothing of the other."""
        self._slots: dict[str, int] = {}
        """Live slots of each provider, as the last pass has seen them."""
        self._diversion = Diversion(log)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Survives the absence of Postgres and of the broker."""
        jobs = [self._release_for_ever(), *(self._repeat(every, chore) for every, chore in self._chores())]
        if self._policy.listen:
            jobs.append(listen(self._engine, "assayline_due", self._on_due))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def release(self, provider: str, lanes: Sequence[str] = LANES) -> int:
        """Release and publish what is due for one provider. Returns how many, or -1 where another has the lock."""
        for lane in lanes:
            self._full.discard(f"{provider}.{lane}")
            self._opens_at.pop(f"{provider}.{lane}", None)
        async with self._releasing.begin() as connection:
            locked = await connection.execute(statement("lock_provider"), {"provider": provider})
            if not locked.scalar_one():
                return -1
            rows = [row for lane in lanes for row in await self._fill_lane(connection, provider, lane)]
        await self._publish(rows)
        return len(rows)

    async def republish(self) -> int:
        """Publish again what nobody claimed in time."""
        policy = self._policy
        rows = await self._write("republish", republish_after_s=policy.republish_after_s, most=policy.most_per_pass)
        if rows:
            log.warning("%d messages were not claimed in time and go out again", len(rows))
        await self._publish(rows)
        return len(rows)

    async def rescue(self) -> int:
        """Put the jobs of dead workers and of stuck attempts back to wait; returns how many."""
        if not self._watching():
            return 0
        rows = await self._write("rescue", dead_after_s=self._policy.dead_after_s, most=self._policy.most_per_pass)
        for row in rows:
            log.warning("job %s of a lost worker or stuck attempt is %s now", row["id"], row["state"])
        self._on_due(*{row["provider"] for row in rows})
        return len(rows)

    def _watching(self) -> bool:
        """Whether this dispatcher has seen Postgres without a gap for as long as a dead worker's silence lasts.

        After a failover or a stall of its own the living have had no chance to be heard.
        """
        now = asyncio.get_running_loop().time()
        if self._looked_at is not None and now - self._looked_at > LONGEST_GAP_S + self._policy.rescue_every_s:
            self._blind_until = now + self._policy.dead_after_s
        self._looked_at = now
        return now >= self._blind_until

    async def expire(self) -> int:
        """End the jobs whose `expires_at` passed while they waited."""
        return len(await self._write("expire", most=10 * self._policy.most_per_pass))

    def _chores(self) -> tuple[tuple[float, Callable[[], Awaitable[object]]], ...]:
        policy = self._policy
        chores: tuple[tuple[float, Callable[[], Awaitable[object]]], ...] = (
            (policy.republish_every_s, self.republish),
            (policy.expire_every_s, self.expire),
        )
        return (*chores, (policy.rescue_every_s, self.rescue)) if policy.rescue else chores

    async def _release_for_ever(self) -> None:
        while True:
            for provider, lanes in self._take_woken().items():
                await self._tried(partial(self.release, provider, lanes))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()

    def _pause_s(self) -> float:
        """Seconds until the next pass, unless something becomes due."""
        if self._full:
            return self._policy.busy_poll_s
        opens_in_s = min(self._opens_at.values(), default=math.inf) - asyncio.get_running_loop().time()
        return max(self._policy.busy_poll_s, min(self._policy.poll_s, opens_in_s))

    def _take_woken(self) -> dict[str, tuple[str, ...]]:
        """The lanes of each provider to look at: those woken for; all of them at a poll, or where room may be new."""
        now = asyncio.get_running_loop().time()
        woken, self._woken = self._woken, {}
        self._wake.clear()
        if now < self._poll_due:
            opened = [queue for queue, at in self._opens_at.items() if at <= now]
            return {**woken, **dict.fromkeys((queue.partition(".")[0] for queue in (*opened, *self._full)), LANES)}
        self._poll_due = now + self._policy.poll_s
        return dict.fromkeys(self._providers, LANES)

    def _on_due(self, *queues: str) -> None:
        """Note that something is due in `provider.lane`, or, for a bare provider, in any of its lanes."""
        for queue in queues:
            provider, _, lane = queue.partition(".")
            if provider in self._providers:
                lanes = {*self._woken.get(provider, ()), *((lane,) if lane in LANES else LANES)}
                self._woken[provider] = tuple(known for known in LANES if known in lanes)
                self._wake.set()

    async def _repeat(self, every_s: float, chore: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._tried(chore)
            await asyncio.sleep(every_s)

    async def _tried(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run one piece of work. Whatever goes wrong, the other work goes on, and this is tried again at its turn."""
        try:
            await work()
        except Exception as error:
            if away(error):
                log.warning("%s: trying again", type(error).__name__)
            else:
                log.error("a fault of ours, trying again: %s", whereabouts(error))
            if isinstance(error, SQLAlchemyError):
                self._blind_until = asyncio.get_running_loop().time() + self._policy.dead_after_s
            await asyncio.sleep(self._policy.poll_s)

    async def _fill_lane(self, connection: AsyncConnection, provider: str, lane: str) -> Sequence[RowMapping]:
        """Release what is due; where there is room left, take over from groups that are out."""
        moved, spare = await self._release_lane(connection, provider, lane)
        if spare and await self._diversion.take_over(connection, provider, lane, spare):
            moved = [*moved, *(await self._release_lane(connection, provider, lane))[0]]
        return moved

    async def _release_lane(
        self, connection: AsyncConnection, provider: str, lane: str
    ) -> tuple[Sequence[RowMapping], int]:
        """Release what is due; returns what has moved, and how many more there is room for, 0 where any is left."""
        policy = self._policy
        rooms = await self._headroom.rooms(provider, lane, self._slots.get(provider, 0))
        self._diversion.note(provider, rooms)
        parameters = {
            "groups": json.dumps([{"models": r.models, "most": r.most, "more": r.more} for r in rooms]),
            "provider": provider,
            "lane": lane,
            "most": policy.most_per_pass,
            "backlog_share": policy.backlog_share,
            "least_backlog": policy.least_backlog,
            "bulk_share": policy.bulk_share,
            "dead_after_s": policy.dead_after_s,
        }
        rows = (await connection.execute(statement("release"), parameters)).mappings().all()
        moved = [row for row in rows if row["id"] is not None]
        self._slots[provider] = rows[0]["slots"]
        if rows[0]["short"]:
            self._full.add(f"{provider}.{lane}")
        if closed := rows[0]["closed"]:
            opens_in_s = min(rooms[at - 1].next_in_s for at in closed)
            self._opens_at[f"{provider}.{lane}"] = asyncio.get_running_loop().time() + opens_in_s
            if self._diversion.is_out(provider):
                # One that is well may take over. Two that are not would wake each other for ever.
                well = (other for other in self._providers if not self._diversion.is_out(other))
                self._on_due(*(f"{other}.{lane}" for other in well))
        # What a group that is out leaves behind is no reason to take nothing over: it may be what is taken.
        left_behind = rows[0]["short"] or any(rooms[at - 1].out is None for at in closed)
        return moved, 0 if left_behind else rows[0]["room"] - len(moved)

    async def _write(self, name: str, **parameters: Any) -> Sequence[RowMapping]:
        async with self._engine.connect() as connection:
            return (await connection.execute(statement(name), parameters)).mappings().all()

    async def _publish(self, rows: Sequence[RowMapping]) -> None:
        messages = [Released(r["id"], r["release"], r["provider"], r["lane"]) for r in rows if r["state"] == "queued"]
        if not messages:
            return
        try:
            await self._publisher.publish(messages)
        except BaseException:
            # Without this their wait would double with each try, and go on as long again after the broker is back.
            ids = [message.id for message in messages]
            async with self._engine.connect() as connection:
                parameters = {"ids": ids, "republish_after_s": self._policy.republish_after_s}
                await connection.execute(statement("publish_again"), parameters)
            raise
