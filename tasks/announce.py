"""Tells those who wait that a job has ended: the result in Redis for a while, and an event.

A courtesy, never the truth: Postgres has it already, and whoever waits falls back to it. So a Redis that is away
costs one log line (the line's) and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from redis.exceptions import ResponseError

from gateway.journal.journal import removal
from gateway.redis_line import RedisAway, RedisLine
from tasks.states import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.redis_line import Command

RESULT_TTL_S = 3600
"""How long a result stays in Redis; in Postgres it stays."""
AT_ONCE = 100
"""Ends told in one write."""
LONGEST_S = 5.0
"""How long the telling of many ends may take; the rest is found in Postgres, as if Redis were away."""

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
        try:
            await self._line.ask(*_told(job_id, state, data), *others)
        except (RedisAway, ResponseError):
            return

    async def all_ended(self, ends: Sequence[tuple[UUID, str]]) -> None:
        """Publish that jobs ended without a result, `AT_ONCE` to a write, for `LONGEST_S` seconds at most.

        Nothing is kept: a million keys for jobs that nobody waits for would fill the server. Their answers in the
        journal, of which nothing can come any more, are removed.

        Args:
            ends: id and state of each.
        """
        try:
            async with asyncio.timeout(LONGEST_S):
                for first in range(0, len(ends), AT_ONCE):
                    await self._line.ask(*_all_told(ends[first : first + AT_ONCE]))
        except (RedisAway, ResponseError, TimeoutError):
            return

    def pass_on(self, told: str) -> None:
        """The same for what Postgres tells of on `tasks.listen.ENDED`: `<state> <job id> …`. Never waits."""
        state, *ids = told.split(" ")
        try:
            ends = [(UUID(job_id), state) for job_id in ids]
        except ValueError:
            ends = []
        if state not in TERMINAL or not ends:
            log.warning("what was told of ended jobs is not understood: %.100r", told)
            return
        with suppress(RedisAway):
            self._line.post(*_all_told(ends))


def _all_told(ends: Sequence[tuple[UUID, str]]) -> list[Command]:
    return [command for job, state in ends for command in (_event(job, state), removal(str(job)))]


def _told(job_id: UUID, state: str, data: dict[str, Any] | None) -> tuple[Command, Command]:
    """The commands by which one end is told."""
    result = json.dumps({"id": str(job_id), "state": state, "data": data})
    return ("SET", result_key(job_id), result, "EX", RESULT_TTL_S), _event(job_id, state)


def _event(job: UUID, state: str) -> Command:
    return ("PUBLISH", events_channel(job), json.dumps({"id": str(job), "state": state}))
