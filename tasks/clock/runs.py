"""The clock's memory in Postgres: which night of which schedule has been run, by whom, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from tasks.clock.inputs import Problem
from tasks.clock.schedule import Schedule
from tasks.clock.window import Night
from tasks.patience import patiently
from tasks.sql import statement
from tasks.storable import storable

LEASE_S = 90.0
"""After so long without a word a run's worker counts as dead; it reports after each chunk, every second or so."""

MAX_PROBLEMS = 100
"""Most problems kept with a run; all are counted."""

MAX_PROBLEM_CHARS = 500
"""Longest place (its end) and longest problem (its beginning) that are kept."""

DEFER_AT_ONCE = 10_000
"""Most jobs put off by one statement: a tenth of a second's work."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run has done so far."""

    jobs: int = 0
    repeats: int = 0
    refused: int = 0
    problems: tuple[Problem, ...] = field(default=())

    def refusing(self, problems: Sequence[Problem]) -> Progress:
        """Return the progress with further inputs that are no jobs."""
        kept = (*self.problems, *problems)[:MAX_PROBLEMS]
        return replace(self, refused=self.refused + len(problems), problems=kept)


class NightTaken(Exception):
    """Another worker has taken the run: this one was too slow."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A night this worker runs; `attempts` is the fence of its later writes, `jobs` what earlier ones enqueued."""

    schedule: Schedule
    night: Night
    attempts: int
    jobs: int


class Runs:
    """The table `schedule_runs`."""

    def __init__(self, engine: AsyncEngine, *, lease_s: float = LEASE_S) -> None:
        self._engine = engine
        self._lease_s = lease_s

    async def knows(self, analysis: str) -> bool:
        """Say whether jobs of an analysis can be enqueued: not before a dispatcher has mirrored its catalog."""
        return bool(await self._all("knows_analysis", analysis=analysis))

    async def take(self, schedule: Schedule, night: Night) -> Claimed | None:
        """Take a night, None where it is done or another worker is at it."""
        rows = await self._all("take_run", **_key(schedule, night), **_ends(night), lease_s=self._lease_s)
        return Claimed(schedule, night, rows[0]["attempts"], rows[0]["jobs"]) if rows else None

    async def report(self, claimed: Claimed, progress: Progress, state: str = "running") -> None:
        """Write how far the run has come; tried again while Postgres is away.

        Raises:
            NightTaken: another worker has it now.
        """
        problems = [
            {"place": p.place[-MAX_PROBLEM_CHARS:], "problem": p.problem[:MAX_PROBLEM_CHARS]} for p in progress.problems
        ]
        rows = await patiently(
            lambda: self._all(
                "report_run",
                **_key(claimed.schedule, claimed.night),
                attempts=claimed.attempts,
                state=state,
                lease_s=self._lease_s,
                jobs=progress.jobs,
                repeats=max(0, progress.repeats),
                refused=progress.refused,
                problems=json.dumps(storable(problems)),
            )
        )
        if not rows:
            raise NightTaken(f"{claimed.schedule.name}, {claimed.night.local_date}: another worker runs it")

    async def miss(self, schedule: Schedule, night: Night) -> bool:
        """Put a night that is over on record as missed, unless it is there already or the schedule is newer."""
        return bool(await self._all("miss_run", **_key(schedule, night), **_ends(night)))

    async def give_up(self, schedule: Schedule, now: datetime) -> int:
        """End the runs that their window closed over; return how many."""
        return len(await self._all("give_up_runs", schedule=schedule.name, now=now))

    async def defer(self, schedule: Schedule, opens_at: datetime) -> int:
        """Put the schedule's waiting jobs off to the next opening; return how many."""
        deferred = 0
        whose = {"source": schedule.source, "tenant": schedule.tenant}
        while rows := await self._all("defer", **whose, opens_at=opens_at, most=DEFER_AT_ONCE):
            deferred += len(rows)
        return deferred

    async def _all(self, name: str, **parameters: Any) -> Sequence[RowMapping]:
        async with self._engine.connect() as connection:
            return (await connection.execute(statement(name), parameters)).mappings().all()


def _key(schedule: Schedule, night: Night) -> dict[str, Any]:
    return {"schedule": schedule.name, "local_date": night.local_date, "fold": night.fold}


def _ends(night: Night) -> dict[str, Any]:
    return {"opens_at": night.opens_at, "closes_at": night.closes_at}
