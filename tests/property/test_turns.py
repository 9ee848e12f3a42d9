"""Whose turn it is: a release takes what deficit round robin would, one job at a time, in a model of ten lines."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jobworld import ANALYSES, MODELS, job_world
from psycopg.types.json import Jsonb

from tasks.dispatch import Dispatcher
from tasks.dispatch_policy import Policy
from tasks.mirror import mirror

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

TENANTS = ("ada", "bob", "cy", "dee")
WEIGHTS = {"bob": 3, "dee": 2}
JOB = st.tuples(
    st.sampled_from(TENANTS),
    st.sampled_from(["quick", "slow"]),
    st.sampled_from(["one/small", "one/wide"]),
    st.integers(0, 2),
)
FEW = 8
"""Where so few wait and there is room for all, it is nobody's turn."""
Job = tuple[str, str, str, int]


@dataclass(slots=True)
class Model:
    """Waiting jobs of one limit group, and whose turn it is."""

    waiting: list[tuple[str, int, UUID]] = field(default_factory=list)
    tenant: str = ""
    taken: int = 0
    paused: frozenset[str] = frozenset()

    def next(self) -> UUID | None:
        """Take one job: of the tenant whose turn it is, as long as it has any and has not had its weight of them."""
        there = sorted({tenant for tenant, _, _ in self.waiting} - self.paused)
        if not there:
            return None
        if self.tenant not in there or self.taken >= WEIGHTS.get(self.tenant, 1):
            self.tenant, self.taken = next((name for name in there if name > self.tenant), there[0]), 0
        self.taken += 1
        found = min((job for job in self.waiting if job[0] == self.tenant), key=lambda job: job[1:])
        self.waiting.remove(found)
        return found[2]

    def some(self, most: int) -> list[UUID]:
        if not self.paused and len(self.waiting) <= min(FEW, most):
            all_of_them = sorted(self.waiting, key=lambda job: job[1:])
            self.waiting = []
            return [job for _, _, job in all_of_them]
        return [job for job in (self.next() for _ in range(most)) if job is not None]


@given(
    steps=st.lists(st.tuples(st.lists(JOB, max_size=12), st.integers(0, 9)), min_size=1, max_size=6),
    paused=st.frozensets(st.sampled_from(TENANTS), max_size=2),
)
@example(
    steps=[([("ada", "slow", "one/small", 1)] * 6 + [("bob", "quick", "one/wide", 0)], 3), ([], 5)], paused=frozenset()
)
@example(  # the one's many and the other's one: more than the rounds that were reckoned with
    steps=[([("ada", "slow", "one/small", 1)] * 12, 0), ([("bob", "quick", "one/small", 0)], 6), ([], 9)],
    paused=frozenset({"dee"}),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_release_takes_what_deficit_round_robin_would(
    database_url: str, steps: Sequence[tuple[list[Job], int]], paused: frozenset[str]
) -> None:
    asyncio.run(_compared(database_url, steps, paused))


async def _compared(database_url: str, steps: Sequence[tuple[list[Job], int]], paused: frozenset[str]) -> None:
    async with AsyncExitStack() as open_until_the_end:
        world = await open_until_the_end.enter_async_context(job_world(database_url))
        await mirror(world.engine, ANALYSES, [*MODELS, "one/wide"])
        for table in ("jobs", "pauses", "workers"):
            world.sql(f"DELETE FROM assayline.{table}")
        for tenant in paused:
            world.sql("SELECT assayline.pause('tenant', %s)", tenant)
        await world.worker(slots=1_000)
        model = Model(paused=paused)
        memory: Any = None
        for jobs, room in steps:
            for tenant, analysis, hop, priority in jobs:
                options = {"tenant": tenant, "model": hop, "priority": priority, "lane": "bulk"}
                [row] = world.sql("SELECT job_id FROM assayline_enqueue(%s, 'x', %s)", analysis, Jsonb(options))
                model.waiting.append((tenant, priority, row["job_id"]))
            if room == 0:
                continue
            policy = Policy(most_per_pass=room)
            one = Dispatcher(world.engine, world.broker, ["one"], policy, weights=WEIGHTS)
            if memory is not None:
                one._releases._remembered = memory
            released = await one.release("one", ["bulk"])
            memory = one._releases._remembered
            got = [message.id for message in world.broker.take()]
            assert len(got) == released
            assert got == model.some(room)
        [left] = world.sql(
            "SELECT count(*) AS n FROM assayline.due d"
            " FULL JOIN (SELECT id FROM assayline.jobs WHERE state = 'scheduled') j ON j.id = d.job_id"
            " WHERE d.job_id IS NULL OR j.id IS NULL"
        )
        assert left == {"n": 0}
