"""Hearing of jobs that end, for all requests that wait in this process: one subscription, however many wait.

An event only ends a pause; whether a job has ended is read from Postgres. So a Redis that is away costs some looks at
Postgres, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from tasks.producer.watch import channel, says_ended

ALL_CHANNELS = "assayline:events:*"
QUIET_S = 5.0
"""After so many seconds without a word the server is asked for one; without an answer in as many more it is away."""

RECONNECT_S = 1.0

log = logging.getLogger(__name__)


class Ends:
    """The process's ear. `hearing`: whether the subscription stands; `stopping`: whether the process is ending."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._told_away = False
        self.heard = asyncio.Event()
        """Set once the subscription stands, cleared when it falls."""
        self.stopping = False

    @property
    def hearing(self) -> bool:
        """Whether events are heard now."""
        return self.heard.is_set()

    @property
    def waiting(self) -> int:
        """How many jobs are waited for."""
        return len(self._waiting)

    @contextmanager
    def of(self, job_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set when this job is said to have ended, when hearing fails, or when the process stops."""
        event, name = asyncio.Event(), channel(job_id)
        self._waiting.setdefault(name, set()).add(event)
        try:
            yield event
        finally:
            left = self._waiting[name]
            left.discard(event)
            if not left:
                del self._waiting[name]

    def stop(self) -> None:
        """Let everybody who waits answer now."""
        self.stopping = True
        self._wake_all()

    async def listen(self) -> None:
        """Hear events for ever; reconnects by itself."""
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.psubscribe(ALL_CHANNELS)
                    await self._hear(pubsub)
            except Exception as error:
                # Whatever it is, nothing is lost but speed: those who wait look at Postgres.
                self._go_deaf(error)
            await asyncio.sleep(RECONNECT_S)

    async def _hear(self, pubsub: PubSub) -> None:
        asked = False
        while True:
            message: dict[str, Any] | None = await pubsub.get_message(timeout=QUIET_S)
            if message is not None:
                asked = False
                self._take(message)
            elif asked:
                raise ConnectionError(f"no word in {2 * QUIET_S:g} s")
            else:
                asked = True
                await pubsub.ping()

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "psubscribe":
            self.heard.set()
            self._told_away = False
        elif message["type"] == "pmessage" and says_ended({**message, "type": "message"}):
            for event in self._waiting.get(message["channel"].decode("utf-8", "replace"), ()):
                event.set()

    def _go_deaf(self, error: Exception) -> None:
        self.heard.clear()
        self._wake_all()
        if not self._told_away:
            log.warning("Redis is away (%s): those who wait are served from Postgres", type(error).__name__)
        self._told_away = True

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()
