"""From a committed `queued` to a message in a queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from tasks.job import Released
from tasks.sql import statement


class Publisher(Protocol):
    """Puts messages into queues."""

    async def publish(self, messages: Sequence[Released]) -> None:
        """Publish all, in order.

        Raises:
            OSError: the broker is away. What was not published is published again later.
        """
        ...


class Outbox:
    """Publishes what a statement has moved to `queued`. Always in this order: commit, then publish."""

    def __init__(self, engine: AsyncEngine, publisher: Publisher, *, republish_after_s: float) -> None:
        self._engine = engine
        self._publisher = publisher
        self._republish_after_s = republish_after_s

    async def publish(self, rows: Sequence[RowMapping]) -> None:
        """Publish the rows that are `queued`.

        Raises:
            OSError: the broker is away.
        """
        messages = [Released(r["id"], r["release"], r["provider"], r["lane"]) for r in rows if r["state"] == "queued"]
        if not messages:
            return
        try:
            await self._publisher.publish(messages)
        except BaseException:
            # Without this their wait would double with each try, and go on as long again after the broker is back.
            ids = [message.id for message in messages]
            async with self._engine.connect() as connection:
                parameters = {"ids": ids, "republish_after_s": self._republish_after_s}
                await connection.execute(statement("publish_again"), parameters)
            raise
