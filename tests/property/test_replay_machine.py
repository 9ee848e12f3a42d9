"""Replays in any order: made over each other, copied by several at once, paused, stopped, their copiers dying.

Each copier has a connection of its own and may hold a portion open while anything else happens; one that dies rolls it
back. Whatever the order, each job that a replay means is copied exactly once, and no line of jobs is in two hands.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from jobworld import JobWorld, job_world
from replayworld import asked, copied, end

from tasks.replay import book

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

Row = dict[str, Any]
PICK = st.integers(0, 1_000)
"""Which of several, modulo their number."""
COPIERS = 2
MOST_JOBS, MOST_REPLAYS = 12, 6
ENDS = st.sampled_from(["failed", "failed", "succeeded", "cancelled", "expired"])
STATES = st.sampled_from([["failed"], ["failed", "cancelled", "expired"], ["succeeded"], ["succeeded", "failed"]])
CAME_TO_NOTHING = {"failed", "cancelled", "expired"}
ENDED = CAME_TO_NOTHING | {"succeeded"}


class ReplayMachine(RuleBasedStateMachine):
    """`database_url` is set by the test."""

    database_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.open = AsyncExitStack()
        self.world: JobWorld = self.do(self.open.enter_async_context(job_world(self.database_url)))
        for table in ("jobs", "job_contents", "replays", "replay_jobs"):
            self.world.sql(f"DELETE FROM assayline.{table}")
        # One that waits for another's lock waits for ever, for this test is one thread.
        self.copiers = [psycopg.connect(self.database_url, options="-c lock_timeout=2s") for _ in range(COPIERS)]
        self.holds: dict[int, UUID] = {}
        """The replay of which a copier has a portion open."""
        self.ended: dict[UUID, Row] = {}
        self.erased: set[UUID] = set()

    def teardown(self) -> None:
        for copier in self.copiers:
            copier.close()
        self.do(self.open.aclose())
        self.loop.close()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work)

    # What can happen ----------------------------------------------------------------------------------------------

    @initialize(states=st.lists(ENDS, min_size=3, max_size=6))
    def jobs_that_have_ended(self, states: list[str]) -> None:
        for state in states:
            self.job(state, "acme")

    @precondition(lambda self: len(self.ended) < MOST_JOBS)
    @rule(state=ENDS, tenant=st.sampled_from(["acme", "other"]))
    def job(self, state: str, tenant: str) -> None:
        self.finish(self.world.enqueue(tenant=tenant), state)

    @precondition(lambda self: self.waiting())
    @rule(which=PICK, state=ENDS)
    def a_new_job_ends(self, which: int, state: str) -> None:
        waiting = self.waiting()
        self.finish(waiting[which % len(waiting)]["id"], state)

    @rule(which=PICK)
    def content_is_erased(self, which: int) -> None:
        job = sorted(self.ended)[which % len(self.ended)]
        self.world.sql("DELETE FROM assayline.job_contents WHERE job_id = %s", job)
        self.erased.add(job)

    @precondition(lambda self: len(self.replays()) < MOST_REPLAYS)
    @rule(states=STATES, tenant=st.sampled_from([None, "acme"]), limit=st.sampled_from([None, 2]), fast=st.booleans())
    def make(self, states: list[str], tenant: str | None, limit: int | None, fast: bool) -> None:
        expected = self.expected(states, tenant)[:limit]
        given = {"filter": {"state": states, **({"tenant": tenant} if tenant else {})}, "all": tenant is None}
        rate = None if fast else 60
        plan, replay = self.do(asked(self.world, **given, limit=limit, rate_per_min=rate))
        assert plan.jobs == len(expected)
        assert (replay is None) == (not expected)
        if replay is not None:
            assert [item["job_id"] for item in self.items(replay.id)] == expected

    @rule(copier=st.integers(0, COPIERS - 1), most=st.integers(1, 4))
    def begin_a_portion(self, copier: int, most: int) -> None:
        self.commit(copier)
        found = self.copiers[copier].execute("SELECT id FROM assayline.replay_portion(%s)", (most,)).fetchone()
        if found is None:
            self.copiers[copier].rollback()
        else:
            assert found[0] not in self.holds.values()
            self.holds[copier] = found[0]

    @rule(most=st.integers(1, 2))
    def all_begin_a_portion(self, most: int) -> None:
        for copier in range(COPIERS):
            self.begin_a_portion(copier, most)

    @rule(copier=st.integers(0, COPIERS - 1))
    def commit(self, copier: int) -> None:
        self.copiers[copier].commit()
        self.holds.pop(copier, None)

    @rule(copier=st.integers(0, COPIERS - 1))
    def die(self, copier: int) -> None:
        self.copiers[copier].rollback()
        self.holds.pop(copier, None)

    @rule(copier=st.integers(0, COPIERS - 1), most=st.integers(1, 4), states=STATES)
    def go_on_and_ask_again(self, copier: int, most: int, states: list[str]) -> None:
        """The commonest way: a portion goes through, and somebody gives a command once more."""
        self.begin_a_portion(copier, most)
        self.commit(copier)
        if len(self.replays()) < MOST_REPLAYS:
            self.make(states, None, None, fast=True)

    @precondition(lambda self: self.free())
    @rule(which=PICK, what=st.sampled_from(["pause", "resume", "resume", "stop"]))
    def tell(self, which: int, what: str) -> None:
        free = self.free()
        self.order(free[which % len(free)]["id"], what)

    @precondition(lambda self: self.free())
    @rule(which=PICK)
    def a_second_passes(self, which: int) -> None:
        free = self.free()
        self.world.sql(
            "UPDATE assayline.replays SET next_at = next_at - interval '1 s' WHERE id = %s",
            free[which % len(free)]["id"],
        )

    # What must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def each_meant_job_is_copied_once_at_most_and_no_other(self) -> None:
        for replay in self.replays():
            items = {item["job_id"]: item for item in self.items(replay["id"])}
            copies = self.world.sql("SELECT id, replay_of FROM assayline.jobs WHERE replay_id = %s", replay["id"])
            assert {old: item["new_job_id"] for old, item in items.items() if item["new_job_id"]} == {
                copy["replay_of"]: copy["id"] for copy in copies
            }
            assert len(copies) == len({copy["replay_of"] for copy in copies}) == replay["made"]
            assert len([item for item in items.values() if item["problem"]]) == replay["skipped"]
            assert len(items) == replay["jobs"]

    @invariant()
    def no_line_is_in_two_hands(self) -> None:
        hands = Counter[Any]()
        roots = self.roots()
        for row in self.world.sql("SELECT id, state FROM assayline.jobs WHERE replay_of IS NOT NULL"):
            hands[roots[row["id"]]] += row["state"] not in CAME_TO_NOTHING
        for replay in self.replays():
            for item in self.items(replay["id"]) if replay["state"] in ("running", "paused") else ():
                hands[item["root_id"]] += item["new_job_id"] is None and item["problem"] is None
        assert all(count <= 1 for count in hands.values())

    @invariant()
    def a_job_that_has_ended_never_changes(self) -> None:
        assert {
            row["id"]: row for row in self.world.sql("SELECT * FROM assayline.jobs") if row["id"] in self.ended
        } == (self.ended)

    def drained(self) -> None:
        """At the end, with every copier's portion settled and all that paused resumed, nothing is left to make."""
        for copier in range(COPIERS):
            self.commit(copier)
        for replay in self.free():
            self.order(replay["id"], "resume")
        self.world.sql("UPDATE assayline.replays SET rate_per_min = NULL, next_at = clock_timestamp()")
        self.do(copied(self.world, 3))
        self.each_meant_job_is_copied_once_at_most_and_no_other()
        self.no_line_is_in_two_hands()
        for replay in self.replays():
            left = replay["jobs"] - replay["made"] - replay["skipped"]
            assert (replay["state"], left) == ("done", 0) or replay["state"] == "stopped"
            for item in self.items(replay["id"]):
                assert item["problem"] is None or item["job_id"] in self.erased

    # What there is ------------------------------------------------------------------------------------------------

    def finish(self, job: UUID, state: str) -> None:
        end(self.world, job, state)
        self.ended[job] = self.world.job(job)

    def order(self, replay: UUID, what: str) -> None:
        async def told() -> None:
            async with self.world.engine.connect() as connection:
                await book.order(connection, replay, what)

        self.do(told())

    def replays(self) -> list[Row]:
        return self.world.sql("SELECT * FROM assayline.replays ORDER BY id")

    def items(self, replay: UUID) -> list[Row]:
        return self.world.sql("SELECT * FROM assayline.replay_jobs WHERE replay_id = %s ORDER BY job_id", replay)

    def free(self) -> list[Row]:
        """Replays that take orders, and that no copier has a hand on."""
        return [
            row
            for row in self.replays()
            if row["state"] in ("running", "paused") and row["id"] not in self.holds.values()
        ]

    def waiting(self) -> list[Row]:
        return self.world.sql("SELECT id FROM assayline.jobs WHERE state = 'scheduled' ORDER BY id")

    def roots(self) -> dict[UUID, UUID]:
        """The first job of each job's line, found by walking up."""
        up = {row["id"]: row["replay_of"] for row in self.world.sql("SELECT id, replay_of FROM assayline.jobs")}
        found = {}
        for job in up:
            root = job
            while up[root] is not None:
                root = up[root]
            found[job] = root
        return found

    def expected(self, states: list[str], tenant: str | None) -> list[UUID]:
        """Which jobs a replay without changes ought to mean, in the words of the model; oldest first."""
        rows, roots = (
            self.world.sql("SELECT id, state, tenant, replay_of FROM assayline.jobs ORDER BY id"),
            self.roots(),
        )
        in_hand = {
            item["root_id"]
            for replay in self.replays() if replay["state"] in ("running", "paused")
            for item in self.items(replay["id"]) if item["new_job_id"] is None and item["problem"] is None
        }  # fmt: skip
        # All of the machine's replays have the same changes, none: one that did not fail settles its line.
        in_hand |= {roots[row["id"]] for row in rows if row["replay_of"] and row["state"] not in CAME_TO_NOTHING}
        latest = {
            roots[row["id"]]: row["id"]
            for row in rows
            if row["state"] in states and (tenant is None or row["tenant"] == tenant)
        }
        return sorted(job for root, job in latest.items() if root not in in_hand and job not in self.erased)


def test_in_any_order_each_job_is_copied_exactly_once(database_url: str) -> None:
    class Machine(ReplayMachine):
        def teardown(self) -> None:
            try:
                self.drained()
            finally:
                super().teardown()

    Machine.database_url = database_url
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            derandomize="CI" in os.environ,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
