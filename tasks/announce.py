"""Tells those who wait that a job has ended: the result in Redis for a while, and an event.

A courtesy, never the truth: Postgres has it already, and whoever waits falls back to it. So a Redis that is away
costs one log line (the line's) and nothing else.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from redis.exceptions import ResponseError

from gateway.redis_line import RedisAway, RedisLine
from tasks.states import TERMINAL

if TYPE_CHECKING:
    from gateway.redis_line import Command

RESULT_TTL_S = 3600
"""How long a result stays in Redis; in Postgres it stays."""

log = logging.getLogger(__name__)


def result_key(job_id: UUID) -> str:
    """Key of a job's result in Redis."""
    return f"assayline:result:{job_id}"


def events_channel(job_id: UUID) -> str:
    """Channel on which a job's end is told."""
    return f"assayline:events:{job_id}"


class Announcer:
    """Writes results and events of ended jobs, both at once. Whoever made the line closes it."""

    def __init__(self, line: RedisLine) -> None:
        self._line = line

    async def ended(self, job_id: UUID, state: str, data: dict[str, Any] | None, *others: Command) -> None:
        """Store `{"id", "state", "data"}` under the job's key and publish `{"id", "state"}`.

        `others`: what else is to be said in that write, now that the end is committed.
        """
        event = {"id": str(job_id), "state": state}
        try:
            await self._line.ask(
                ("SET", result_key(job_id), json.dumps({**event, "data": data}), "EX", RESULT_TTL_S),
                ("PUBLISH", events_channel(job_id), json.dumps(event)),
                *others,
            )
        except (RedisAway, ResponseError):
            return

    def pass_on(self, told: str) -> None:
        """Publish the ends that Postgres tells of on `tasks.listen.ENDED`: `<state> <job id> …`. Never waits.

        Events alone: there is no result, and a million keys for jobs that nobody waits for would fill the server.
        """
        state, *ids = told.split(" ")
        try:
            jobs = [UUID(job_id) for job_id in ids]
        except ValueError:
            jobs = []
        if state not in TERMINAL or not jobs:
            log.warning("what was told of ended jobs is not understood: %.100r", told)
            return
        with suppress(RedisAway):
            self._line.post(
                *(("PUBLISH", events_channel(job), json.dumps({"id": str(job), "state": state})) for job in jobs)
            )
