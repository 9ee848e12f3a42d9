"""The rescuer: jobs of dead workers, and attempts that are stuck, go back to wait or are buried.

Who is dead is judged by Postgres's clock alone, and only by a rescuer that has had Postgres in sight: after a failover,
a stall or a stop of its own the living have had no chance to be heard.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from tasks.dispatch_policy import Policy
from tasks.poison import Suspicion
from tasks.sql import statement

LONGEST_GAP_S = 8.0
"""Between two looks of dispatchers at Postgres, beyond which nobody is taken for dead for as long as a dead worker's
silence lasts. A shorter one explains no silence of twenty seconds: the last beat is five seconds older than the gap at
most, and the next one comes within six of its end (a try that hangs for five, and a second until the next)."""


class Answers(Protocol):
    """Where answers lie that were not stored: the journal."""

    async def holding(self, jobs: Sequence[str]) -> Collection[str]:
        """Return which of the jobs may have an answer there: all of them where nobody can tell."""
        ...


class Rescuer:
    """One dispatcher's. Lives on one event loop."""

    def __init__(
        self, engine: AsyncEngine, policy: Policy, suspicion: Suspicion | None = None, answers: Answers | None = None
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._suspicion = suspicion or Suspicion()
        self._answers = answers

    async def rescue(self) -> Sequence[RowMapping]:
        """Move the jobs of dead workers and of stuck attempts: back to wait, or to their end as dead letters.

        One whose attempts are used up goes back to wait all the same where its answer may lie in the journal: its next
        claim makes no call.

        Returns:
            Of each moved job: id, state, provider, lane, reason.
        """
        policy = self._policy
        judged_by = {"dead_after_s": policy.dead_after_s, "longest_gap_s": LONGEST_GAP_S}
        [look] = await self._rows("look_for_lost", judged_by)
        if not look["sees"]:
            return ()
        seen = {"looked_at": look["looked_at"], "answerless": await self._answerless(look["spent"])}
        return await self._rows("rescue", judged_by | seen | {"most": policy.most_per_pass} | asdict(self._suspicion))

    async def _answerless(self, spent: Sequence[UUID]) -> list[UUID]:
        """Of the jobs without an attempt left those that have no answer anywhere."""
        if not spent or self._answers is None:
            return list(spent)
        holding = await self._answers.holding([str(job) for job in spent])
        return [job for job in spent if str(job) not in holding]

    async def _rows(self, name: str, parameters: dict[str, Any]) -> Sequence[RowMapping]:
        async with self._engine.connect() as connection:
            return (await connection.execute(statement(name), parameters)).mappings().all()
