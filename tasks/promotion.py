"""From a time in the future to due: what waits for its `not_before` is found by it, and by nothing else."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from tasks.dispatch_policy import Policy
from tasks.sql import statement

LOOK_AT_ALL_S = 10.0
"""So often a look begins with the earliest time of all: a transaction that stayed open may bring one long past."""
LONGEST_S = 5.0
"""For which it goes on in one go; then it is the dispatcher's turn to say that it lives."""
EVER = datetime.min.replace(tzinfo=UTC)


class Promotions:
    """One dispatcher's promotions. Any number may do it: rows that another one holds are passed by."""

    def __init__(self, engine: AsyncEngine, policy: Policy) -> None:
        self._engine = engine
        self._policy = policy
        self._after = EVER
        self._looked_at_all = -math.inf

    async def promote(self) -> tuple[set[str], float]:
        """Make due all whose time has come, or as many as `LONGEST_S` allows.

        Returns the queues that they wait for, and in how many seconds the next job's time comes (inf: there is none).
        """
        queues: set[str] = set()
        clock = asyncio.get_running_loop().time
        ends = clock() + LONGEST_S
        while clock() < ends:
            told = await self._portion()
            queues.update(told["queues"])
            if told["jobs"] < self._policy.most_promoted:
                next_in_s = told["next_in_s"]
                return queues, math.inf if next_in_s is None else max(0.0, next_in_s)
        return queues, 0.0

    async def _portion(self) -> Mapping[str, Any]:
        now = asyncio.get_running_loop().time()
        if now - self._looked_at_all >= LOOK_AT_ALL_S:
            self._after, self._looked_at_all = EVER, now
        async with self._engine.connect() as connection:
            parameters = {"after": self._after, "most": self._policy.most_promoted}
            told = (await connection.execute(statement("promote"), parameters)).mappings().one()
        self._after = told["last"] or self._after
        return dict(told)
