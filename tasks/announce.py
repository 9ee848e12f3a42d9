"""Tells those who wait that a job has ended: the result in Redis for a while, and an event.

A courtesy, never the truth: Postgres has it already, and whoever waits falls back to it. So a Redis that is away
costs one log line and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

RESULT_TTL_S = 3600
"""How long a result stays in Redis; in Postgres it stays."""

PAUSE_S = 1.0
"""After a failure nobody tries for so long: a Redis that hangs must not hold each job's slot for a timeout."""

log = logging.getLogger(__name__)


def result_key(job_id: UUID) -> str:
    """Key of a job's result in Redis."""
    return f"assayline:result:{job_id}"


def events_channel(job_id: UUID) -> str:
    """Channel on which a job's end is told."""
    return f"assayline:events:{job_id}"


class Announcer:
    """Writes results and events of ended jobs, one pipeline each."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._away = False
        self._next_try_at = 0.0

    async def ended(self, job_id: UUID, state: str, data: dict[str, Any] | None) -> None:
        """Store `{"id", "state", "data"}` under the job's key and publish `{"id", "state"}`."""
        now = asyncio.get_running_loop().time()
        if now < self._next_try_at:
            return
        event = {"id": str(job_id), "state": state}
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.set(result_key(job_id), json.dumps({**event, "data": data}), ex=RESULT_TTL_S)
                pipeline.publish(events_channel(job_id), json.dumps(event))
                await pipeline.execute()
        except (RedisError, OSError) as error:
            if not self._away:
                log.warning("Redis is away (%s): results are in Postgres, events are not told", type(error).__name__)
            self._away = True
            self._next_try_at = now + PAUSE_S
        else:
            self._away = False

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
