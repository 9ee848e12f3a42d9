"""Making the new jobs of replays, portion by portion. Every dispatcher does; a portion is one transaction."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy.ext.asyncio import AsyncEngine

from tasks.replay.book import Replay, ReplayState
from tasks.sql import statement

log = logging.getLogger(__name__)


async def portion(engine: AsyncEngine, most: int) -> Replay | None:
    """Make at most `most` new jobs of one replay; returns it as it then stands, None where nothing is to be done."""
    async with engine.connect() as connection:
        row = (await connection.execute(statement("replay_portion"), {"most": most})).mappings().first()
    return None if row is None else Replay.from_row(row)


LONGEST_S = 5.0
"""For which new jobs are made in one go; then it is the dispatcher's turn to say that it lives."""


async def copy(engine: AsyncEngine, most: int) -> int:
    """Make new jobs until no replay may go on now, or for `LONGEST_S`; returns how many portions of `most` that took.

    It rests after a portion for as long as that took: what waits to be released matters more to Postgres.
    """
    clock, portions = asyncio.get_running_loop().time, 0
    ends = clock() + LONGEST_S
    while (began := clock()) < ends:
        replay = await portion(engine, most)
        if replay is None:
            return portions
        portions += 1
        if replay.state is ReplayState.PAUSED:
            log.error("replay %s has paused: %s", replay.id, replay.problem)
        elif replay.state is ReplayState.DONE:
            log.info("replay %s is done: %d new jobs, %d skipped", replay.id, replay.made, replay.skipped)
        await asyncio.sleep(clock() - began)
    return portions
