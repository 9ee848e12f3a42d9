"""From a committed move to those who wait for it: a message in a queue, or word that a job has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from tasks.announce import Announcer
from tasks.job import Released
from tasks.sql import statement
from tasks.states import TERMINAL


class Publisher(Protocol):
    """Puts messages into queues."""

    async def publish(self, messages: Sequence[Released]) -> None:
        """Publish all, in order.

        Raises:
            OSError: the broker is away. What was not published is published again later.
        """
        ...


class Outbox:
    """Publishes what a statement has moved to `queued`, and tells what it has ended. Always: commit first."""

    def __init__(
        self,
        engine: AsyncEngine,
        publisher: Publisher,
        *,
        republish_after_s: float,
        announcer: Announcer | None = None,
    ) -> None:
        self._engine = engine
        self._publisher = publisher
        self._republish_after_s = republish_after_s
        self._announcer = announcer

    async def publish(self, rows: Sequence[RowMapping]) -> None:
        """Publish the rows that are `queued`, and tell those that have ended: a release finds some that expired.

        Raises:
            OSError: the broker is away.
        """
        messages = [Released(r["id"], r["release"], r["provider"], r["lane"]) for r in rows if r["state"] == "queued"]
        if messages:
            await self._send(messages)
        await self.tell_ended(rows)

    async def _send(self, messages: Sequence[Released]) -> None:
        try:
            await self._publisher.publish(messages)
        except BaseException:
            # Without this their wait would double with each try, and go on as long again after the broker is back.
            ids = [message.id for message in messages]
            async with self._engine.connect() as connection:
                parameters = {"ids": ids, "republish_after_s": self._republish_after_s}
                await connection.execute(statement("publish_again"), parameters)
            raise

    async def tell_ended(self, rows: Sequence[RowMapping]) -> None:
        """Tell those who wait of the rows whose state is an end. A courtesy: nothing depends on it (`Announcer`)."""
        ends = [(row["id"], row["state"]) for row in rows if row["state"] in TERMINAL]
        if ends and self._announcer is not None:
            await self._announcer.all_ended(ends)
