"""A job's life in any order: workers alive, dead and undead, messages old and new, on a real Postgres.

Each rule is one thing that can happen; after each, every job has made a legal move or none, and nothing is lost,
doubled or brought back from the dead.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

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
from jobworld import ANSWERED, TIMED_OUT, JobWorld, answer, job_world, start

from gateway.errors import (
    AuthRejected,
    BudgetSpent,
    ClaimLost,
    ContentRefused,
    InvalidOutput,
    LimitReached,
    PromptError,
    Timeout,
)
from gateway.ledger import CallKind
from tasks.ends import LastCall
from tasks.ledger import JobLedger
from tasks.states import LEGAL, TERMINAL
from tasks.verdict import Rules, Snooze, Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

    from gateway.errors import GatewayError
    from tasks.job import Claim, Released
    from tasks.store import Incarnation

Row = dict[str, Any]
PICK = st.integers(0, 1_000)
"""Which of several, modulo their number."""
ERRORS = st.sampled_from([None, Timeout, AuthRejected, InvalidOutput, ContentRefused, PromptError])
MOST_JOBS = 8
RULES = Rules(window_tokens=lambda hop: 1000)


@dataclass(slots=True)
class Held:
    """A claim in some worker's hands, whether or not the store still thinks so."""

    worker: Incarnation
    claim: Claim
    ledger: JobLedger


class JobMachine(RuleBasedStateMachine):
    """`database_url` is set by the test."""

    database_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.open = AsyncExitStack()
        self.world: JobWorld = self.do(self.open.enter_async_context(job_world(self.database_url)))
        self.world.sql("DELETE FROM assayline.jobs")
        for table in ("job_contents", "calls", "results", "workers"):
            self.world.sql(f"DELETE FROM assayline.{table}")
        self.workers: list[Incarnation] = []
        self.messages: list[Released] = []
        self.held: list[Held] = []
        self.claims: set[tuple[UUID, int]] = set()
        self.made: set[tuple[UUID, int, int]] = set()
        self.given_back: dict[UUID, int] = {}
        self.before: dict[UUID, Row] = {}
        self.cost_of_ended: dict[tuple[UUID, int, int], Any] = {}

    def teardown(self) -> None:
        self.do(self.open.aclose())
        self.loop.close()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work)

    # What can happen ----------------------------------------------------------------------------------------------

    @initialize(attempts=st.lists(st.integers(1, 4), min_size=3, max_size=3))
    def two_workers_and_three_jobs(self, attempts: list[int]) -> None:
        self.workers = [self.do(self.world.worker(slots=50)) for _ in range(2)]
        for most in attempts:
            self.world.enqueue(max_attempts=most)

    @precondition(lambda self: self.going_on())
    @rule(which=PICK, worker=PICK, well=st.booleans(), error=ERRORS, calls=st.integers(0, 2))
    def go_on(self, which: int, worker: int, well: bool, error: type[GatewayError] | None, calls: int) -> None:
        """A job goes the way it should: released, claimed by its newest message, called for, ended."""
        waiting = self.going_on()
        row = waiting[which % len(waiting)]
        if row["state"] == "scheduled":
            self.release()
        elif row["state"] == "queued":
            for place in [n for n, message in enumerate(self.messages) if message.id == row["id"]][-1:]:
                self.claim(newest=False, which=place, worker=worker)
        for place in [
            n for n, held in enumerate(self.held) if held.claim.id == row["id"] and row["state"] == "running"
        ]:
            for _ in range(calls if self.owns(self.held[place]) else 0):
                self.call(place, well)
                self.every_job_stands_where_it_may()
            self.end(place, error, which)
            return

    @precondition(lambda self: self.going_on())
    @rule(which=PICK, worker=PICK, error=ERRORS)
    def go_on_with_a_call(self, which: int, worker: int, error: type[GatewayError] | None) -> None:
        """As above, in the commonest way: one call."""
        self.go_on(which, worker, error is None, error, 1)

    @precondition(lambda self: len(self.before) < MOST_JOBS)
    @rule(attempts=st.integers(1, 4), analysis=st.sampled_from(["quick", "slow"]), fallback=st.booleans())
    def enqueue(self, attempts: int, analysis: str, fallback: bool) -> None:
        self.world.enqueue(analysis, max_attempts=attempts, use_fallback=fallback)

    @rule()
    def release(self) -> None:
        self.world.sql("UPDATE assayline.jobs SET not_before = now() WHERE state = 'scheduled'")
        for provider in ("one", "two"):
            self.do(self.world.dispatcher().release(provider))
        self.messages += sorted(self.world.broker.take(), key=lambda message: message.id)

    @rule()
    def republish(self) -> None:
        self.world.sql("UPDATE assayline.jobs SET queued_at = now() - interval '2 h' WHERE state = 'queued'")
        self.do(self.world.dispatcher().republish())
        self.messages += sorted(self.world.broker.take(), key=lambda message: message.id)

    @precondition(lambda self: self.messages)
    @rule(newest=st.booleans(), which=PICK, worker=PICK)
    def claim(self, newest: bool, which: int, worker: int) -> None:
        """Any message there ever was, at any worker: five times delivered, or an old number."""
        message = self.messages[-1 - which % min(3, len(self.messages)) if newest else which % len(self.messages)]
        incarnation = self.workers[worker % len(self.workers)]
        stands = self.world.job(message.id)
        fresh = (stands["state"], stands["release"]) == ("queued", message.release)
        claim = self.do(self.world.claim(incarnation, message))
        assert (claim is not None) == fresh
        if claim is not None:
            assert (claim.id, claim.claim_no) not in self.claims
            self.claims.add((claim.id, claim.claim_no))
            self.held.append(Held(incarnation, claim, JobLedger(self.world.store, claim)))

    @precondition(lambda self: self.held)
    @rule(which=PICK, well=st.booleans())
    def call(self, which: int, well: bool) -> None:
        """Any holder makes a call, or learns that it may not."""
        held = self.held[which % len(self.held)]
        try:
            call_no = self.do(held.ledger.open(start(held.claim, CallKind.ANSWER)))
        except BudgetSpent:
            assert self.world.job(held.claim.id)["attempts_used"] >= held.claim.max_attempts
        except ClaimLost:
            assert not self.owns(held)
            self.held.remove(held)
        else:
            self.made.add((held.claim.id, held.claim.claim_no, call_no))
            self.do(held.ledger.close(call_no, ANSWERED if well else TIMED_OUT))

    @precondition(lambda self: self.held)
    @rule(which=PICK, error=ERRORS, seed=PICK)
    def end(self, which: int, error: type[GatewayError] | None, seed: int) -> None:
        """Any holder's attempt ends, as the verdict has it; a zombie's is refused and its call closed."""
        held = self.held.pop(which % len(self.held))
        outcome = answer(held.claim) if error is None else error("what happened", raw_text="raw")
        counted = held.claim.with_attempts(held.ledger.attempts_used)
        self.apply(held, verdict(outcome, counted, RULES, Random(seed)))

    @precondition(lambda self: any(held.ledger.unmade for held in self.held))
    @rule(which=PICK)
    def snooze(self, which: int) -> None:
        uncalled = [held for held in self.held if held.ledger.unmade]
        held = uncalled[which % len(uncalled)]
        self.held.remove(held)
        self.apply(held, Snooze(0.0, LimitReached("")))

    @rule(which=PICK, told=st.booleans())
    def hand_back(self, which: int, told: bool) -> None:
        """A worker stops; untold, its attempts run on as zombies."""
        worker = self.workers[which % len(self.workers)]
        its = [held for held in self.held if held.worker is worker] if told else []
        ends = [LastCall(held.claim.id, held.claim.claim_no, *held.ledger.last) for held in its]
        self.do(self.world.store.hand_back(worker, ends))
        self.held = [held for held in self.held if held not in its]

    @rule(which=PICK, comes_back=st.booleans())
    def worker_dies(self, which: int, comes_back: bool) -> None:
        """Or seems to: its attempts may still end, late."""
        worker = self.workers[which % len(self.workers)]
        self.world.sql("UPDATE assayline.workers SET heartbeat_at = clock_timestamp()")
        self.world.kill(worker)
        self.do(self.world.rescuer().rescue())
        if comes_back:
            self.do(self.world.store.heartbeat(worker))
        else:
            self.workers.remove(worker)
            self.workers.append(self.do(self.world.worker(slots=50)))

    @rule()
    def leases_run_out(self) -> None:
        self.world.sql("UPDATE assayline.jobs SET lease_until = now() - interval '1 s' WHERE state = 'running'")
        self.do(self.world.dispatcher().rescue())

    @precondition(lambda self: self.before)
    @rule(which=PICK, asked=st.booleans())
    def nobody_wants_it(self, which: int, asked: bool) -> None:
        """Cancelled by its caller, or expired; seldom, or nothing would ever be done."""
        job = sorted(self.before)[which % len(self.before)]
        if which % 2:
            return
        if asked and which % 4:
            self.world.cancel_jobs({"all": True}, most=1)
            return
        if asked:
            self.world.cancel(job)
            return
        self.world.sql(
            "UPDATE assayline.jobs SET expires_at = now() - interval '1 s'"
            " WHERE id = %s AND state IN ('scheduled', 'queued')",
            job,
        )
        self.do(self.world.dispatcher().expire())

    @precondition(lambda self: self.held)
    @rule(worker=PICK)
    def look(self, worker: int) -> None:
        """A heartbeat says of each claim whether it is still its holder's, zombies included."""
        claims = [(held.claim.id, held.claim.claim_no) for held in self.held]
        beat = self.do(self.world.store.heartbeat(self.workers[worker % len(self.workers)], held=claims))
        assert list(beat.lost) == [claim for claim, held in zip(claims, self.held, strict=True) if not self.owns(held)]

    @rule(which=PICK)
    def lose_replies(self, which: int) -> None:
        """A worker's claims whose replies it never had are given back, with their attempts, and theirs alone."""
        worker = self.workers[which % len(self.workers)]
        its = [(held.claim.id, held.claim.claim_no) for held in self.held if held.worker is worker and self.owns(held)]
        self.world.sql("UPDATE assayline.jobs SET started_at = started_at - interval '20 s' WHERE state = 'running'")
        known = its[::2]
        unheld = self.do(self.world.store.unheld(worker, known))
        running = self.world.sql(
            "SELECT id, claim_no FROM assayline.jobs WHERE state = 'running' AND incarnation = %s", worker.id
        )
        assert set(unheld) == {(row["id"], row["claim_no"]) for row in running} - set(known)

    # What must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def every_job_stands_where_it_may(self) -> None:
        jobs = {row["id"]: row for row in self.world.sql("SELECT * FROM assayline.jobs")}
        calls: dict[UUID, list[Row]] = {job: [] for job in jobs}
        for call in self.world.sql("SELECT * FROM assayline.calls ORDER BY claim_no, call_no"):
            calls[call["job_id"]].append(call)
        assert self.before.keys() <= jobs.keys()
        for job, before in self.before.items():
            self.moved_legally(before, jobs[job], calls[job])
        for job, row in jobs.items():
            self.adds_up(row, calls[job])
        self.every_made_call_is_in_the_ledger([call for each in calls.values() for call in each])
        self.results_are_those_of_the_ended(jobs)
        self.before = jobs

    def moved_legally(self, before: Row, after: Row, calls: list[Row]) -> None:
        if before["state"] in TERMINAL:
            assert after == before
            return
        assert before["state"] == after["state"] or (before["state"], after["state"]) in LEGAL
        for number in ("release", "claim_no", "hop"):
            assert after[number] >= before[number]
        claimed = (before["state"], after["state"]) == ("queued", "running")
        assert (after["claim_no"] > before["claim_no"]) == claimed
        given_back = before["attempts_used"] - after["attempts_used"]
        if given_back > 0:
            assert given_back == 1
            assert after["reason"] == "hand_back" or calls[-1]["outcome"] == "not_called"
            self.given_back[after["id"]] = self.given_back.get(after["id"], 0) + 1

    def adds_up(self, row: Row, calls: list[Row]) -> None:
        assert row["attempts_used"] == len(calls) - self.given_back.get(row["id"], 0)
        assert 0 <= row["attempts_used"] <= row["max_attempts"]
        assert (row["finished_at"] is not None) == (row["state"] in TERMINAL)
        assert (row["lease_until"] is not None) == (row["state"] == "running") or row["state"] == "cancelled"
        assert f"{row['provider']}/{row['model']}" == row["chain"][row["hop"]]
        assert row["claim_no"] == max([call["claim_no"] for call in calls], default=0)

    def every_made_call_is_in_the_ledger(self, calls: list[Row]) -> None:
        rows = {(call["job_id"], call["claim_no"], call["call_no"]): call for call in calls}
        assert self.made <= rows.keys()
        assert {rows[key]["outcome"] for key in rows.keys() - self.made} <= {"unknown", "not_called"}
        for key, cost in self.cost_of_ended.items():
            assert rows[key]["cost_usd"] == cost

    def results_are_those_of_the_ended(self, jobs: dict[UUID, Row]) -> None:
        results = {row["job_id"]: row for row in self.world.sql("SELECT * FROM assayline.results")}
        well = {job for job, row in jobs.items() if row["state"] == "succeeded"}
        assert {job for job, row in results.items() if row["data"] is not None} == well
        for job in results.keys() - well:
            assert (jobs[job]["state"], results[job]["raw_text"]) == ("failed", "raw")

    # The rest -----------------------------------------------------------------------------------------------------

    def going_on(self) -> list[Row]:
        return [row for _, row in sorted(self.before.items()) if row["state"] not in TERMINAL]

    def owns(self, held: Held) -> bool:
        row = self.world.job(held.claim.id)
        return (row["state"], row["claim_no"]) == ("running", held.claim.claim_no)

    def apply(self, held: Held, decided: Verdict) -> None:
        owned = self.owns(held)
        written = self.do(self.world.runner(held.worker)._write(decided, held.claim, held.ledger))
        assert written == owned
        call_no, end = held.ledger.last
        self.cost_of_ended[held.claim.id, held.claim.claim_no, call_no] = end.cost_usd


def test_jobs_only_ever_move_as_the_table_says(database_url: str) -> None:
    machine = type("JobMachine", (JobMachine,), {"database_url": database_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=50,
            deadline=None,
            derandomize="CI" in os.environ,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
