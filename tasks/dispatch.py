"""The dispatcher: the only one who moves a job into `queued` and publishes messages.

It releases what is due as far as the queues and the providers' limits have room, publishes again what nobody claimed,
rescues the jobs of dead workers, lets expire what nobody wants any more, and makes the new jobs of replays. Any number
of dispatchers may run: each release transaction holds its provider's advisory lock, every other statement skips locked
rows. Always in this order: commit `queued`, then publish. A message that is lost in between is published again.

Publishing is a port: Celery lives in `workers`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from tasks.announce import Announcer
from tasks.dispatch_policy import Policy
from tasks.headroom import Headroom
from tasks.listen import listen
from tasks.outbox import Outbox, Publisher
from tasks.patience import away
from tasks.poison import Suspicion
from tasks.promotion import Promotions
from tasks.release import LANES, Releases
from tasks.replay.copy import copy
from tasks.rescue import Answers, Rescuer
from tasks.sql import statement
from tasks.whereabouts import whereabouts

log = logging.getLogger(__name__)


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
        weights: Mapping[str, int] | None = None,
        announcer: Announcer | None = None,
        suspicion: Suspicion | None = None,
        answers: Answers | None = None,
        passed: Callable[[str], object] = lambda work: None,
    ) -> None:
        """Take what it works with.

        Args:
            engine: `create_engine(…, durable=False)`.
            publisher: sends messages.
            providers: whose jobs it releases.
            policy: figures.
            headroom: what the limits have room for; None: whatever the slots bear.
            weights: of tenants whose turns are not single.
            announcer: tells those who wait of what the dispatcher ends; None: nobody.
            suspicion: when a job is taken for poison.
            answers: where those lie that were not stored.
            passed: called with the name of each piece of work that went well, see `Policy.periods_s`.
        """
        self._engine = engine
        self._providers = tuple(providers)
        self._policy = policy or Policy()
        self._outbox = Outbox(engine, publisher, republish_after_s=self._policy.republish_after_s, announcer=announcer)
        self._releases = Releases(
            engine, self._outbox, self._policy, headroom=headroom, weights=weights, on_out=self._on_out
        )
        self._promotions = Promotions(engine, self._policy)
        self._rescuer = Rescuer(engine, self._policy, suspicion, answers)
        self._passed = passed
        self._woken: dict[str, tuple[str, ...]] = {}
        self._wake = asyncio.Event()
        self._poll_due = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Survives the absence of Postgres and of the broker."""
        jobs = [
            self._release_for_ever(),
            self._promote_for_ever(),
            *(self._repeat(name, chore) for name, chore in self._chores().items()),
        ]
        if self._policy.listen:
            jobs.append(listen(self._engine, "assayline_due", self._on_due))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def release(self, provider: str, lanes: Sequence[str] = LANES) -> int:
        """Release and publish what is due for one provider. Returns how many, or -1 where another has the lock."""
        return await self._releases.release(provider, lanes)

    async def promote(self) -> float:
        """Have the jobs whose time has come looked for; returns in how many seconds the next one's time comes."""
        queues, next_in_s = await self._promotions.promote()
        self._on_due(*queues)
        return next_in_s

    async def republish(self) -> int:
        """Publish again what nobody claimed in time."""
        policy = self._policy
        rows = await self._write("republish", republish_after_s=policy.republish_after_s, most=policy.most_per_pass)
        if rows:
            log.warning("%d messages were not claimed in time and go out again", len(rows))
        await self._outbox.publish(rows)
        return len(rows)

    async def rescue(self) -> int:
        """Put the jobs of dead workers and of stuck attempts back to wait; returns how many."""
        rows = await self._rescuer.rescue()
        for row in rows:
            log.warning(
                "job %s of a lost worker or stuck attempt is %s now (%s)", row["id"], row["state"], row["reason"]
            )
        self._on_due(*{row["provider"] for row in rows})
        await self._outbox.tell_ended(rows)
        return len(rows)

    async def expire(self) -> int:
        """End the jobs whose `expires_at` or `deadline_at` passed while they waited."""
        rows = await self._write("expire", most=10 * self._policy.most_per_pass)
        await self._outbox.tell_ended(rows)
        return len(rows)

    async def replay(self) -> int:
        """Make the new jobs of replays, as their rates allow; returns how many portions there were."""
        return await copy(self._engine, self._policy.replay_portion)

    def _chores(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """What is done at its times, by name."""
        chores = {"republish": self.republish, "expire": self.expire, "replay": self.replay, "rescue": self.rescue}
        return {name: chore for name, chore in chores.items() if name in self._policy.chores_s}

    async def _release_for_ever(self) -> None:
        while True:
            for provider, lanes in self._take_woken().items():
                await self._tried(f"release {provider}", partial(self.release, provider, lanes))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()

    async def _promote_for_ever(self) -> None:
        while True:
            next_in_s = self._policy.poll_s

            async def promote() -> None:
                nonlocal next_in_s
                next_in_s = await self.promote()

            await self._tried("promote", promote)
            await asyncio.sleep(min(self._policy.poll_s, next_in_s))

    def _pause_s(self) -> float:
        """Seconds until the next pass, unless something becomes due."""
        if self._releases.full:
            return self._policy.busy_poll_s
        opens_in_s = min(self._releases.opens_at.values(), default=math.inf) - asyncio.get_running_loop().time()
        return max(self._policy.busy_poll_s, min(self._policy.poll_s, opens_in_s))

    def _take_woken(self) -> dict[str, tuple[str, ...]]:
        """The lanes of each provider to look at: those woken for; all of them at a poll, or where room may be new."""
        now = asyncio.get_running_loop().time()
        woken, self._woken = self._woken, {}
        self._wake.clear()
        if now < self._poll_due:
            opened = [queue for queue, at in self._releases.opens_at.items() if at <= now]
            return {
                **woken,
                **dict.fromkeys((queue.partition(".")[0] for queue in (*opened, *self._releases.full)), LANES),
            }
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

    def _on_out(self, provider: str, lane: str) -> None:
        """Have those look that are well: they may take over. Two that are not would wake each other for ever."""
        self._on_due(*(f"{other}.{lane}" for other in self._providers if not self._releases.is_out(other)))

    async def _repeat(self, name: str, chore: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._tried(name, chore)
            await asyncio.sleep(self._policy.chores_s[name])

    async def _tried(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Run one piece of work. Whatever goes wrong, the other work goes on, and this is tried again at its turn."""
        try:
            await work()
            self._passed(name)
        except Exception as error:
            if away(error):
                log.warning("%s: %s, trying again", name, type(error).__name__)
            else:
                log.error("%s: a fault of ours, trying again: %s", name, whereabouts(error))
            await asyncio.sleep(self._policy.poll_s)

    async def _write(self, name: str, **parameters: Any) -> Sequence[RowMapping]:
        async with self._engine.connect() as connection:
            return (await connection.execute(statement(name), parameters)).mappings().all()
