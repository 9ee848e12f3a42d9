"""Remembered answers through the queue: real worker processes, one Redis, one endpoint that counts."""

from __future__ import annotations

from decimal import Decimal
from io import StringIO
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import redis
from jobworld import job_world
from nodes.waiting import eventually
from nodes.wire import ANSWER, INPUT_TOKENS, LABELS
from rich.console import Console

from gateway.cache.shared import PREFIX
from gateway.errors import AnswerAwaited
from ops.cli.view import job_view
from tasks.producer import Client
from tasks.run import Ending

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from nodes.cluster import AssaylineSetup

    from gateway.ledger import CallLedger
    from gateway.messages import AnalysisResult
    from tasks.job import Claim

MANY = 100
SPENT = (Decimal(0), 0, 0, 0)
"""What a remembered answer costs and uses."""


class Equal:
    """Jobs that are equal but for their options."""

    def __init__(self, setup: AssaylineSetup, *, held: bool = False) -> None:
        self.setup = setup
        self.marker = uuid4().hex
        if held:
            setup.wire.hold(self.marker)

    def enqueue(self, **options: Any) -> UUID:
        options = {"context": {"labels": list(LABELS)}, "lane": "interactive", **options}
        return self.setup.store.enqueue("text_classification", f"marker-{self.marker} the letter", options)

    def run(self, **options: Any) -> UUID:
        """Enqueue one and wait until it has succeeded."""
        job = self.enqueue(**options)
        self.setup.ended(job)
        return job

    @property
    def calls(self) -> int:
        return self.setup.wire.calls(self.marker)

    def running(self, n: int) -> None:
        eventually(lambda: self.setup.store.states().get("running") == n)


def ledger(setup: AssaylineSetup, jobs: Sequence[UUID]) -> list[str]:
    """The outcomes of all calls of these jobs, sorted."""
    return sorted(outcome for job in jobs for _, _, outcome in setup.store.calls(job))


def assert_remembered(setup: AssaylineSetup, job: UUID) -> None:
    """The job has its answer, and its row, its ledger and its result say that no call was made for it."""
    assert setup.store.job(job)["attempts_used"] == 0
    [result] = setup.store.results(job)
    assert (result["data"], result["cached"], result["repaired"]) == (ANSWER, True, False)
    assert (result["model"], result["prompt_version"]) == ("gpt-test", "v1")
    assert (result["cost_usd"], result["input_tokens"], result["output_tokens"], result["calls"]) == SPENT
    call = setup.store.rows("SELECT * FROM assayline.calls WHERE job_id = %s ORDER BY claim_no DESC LIMIT 1", job)[0]
    assert call["outcome"] == "cached"
    assert (call["cost_usd"], call["input_tokens"], call["output_tokens"], call["cached_tokens"]) == SPENT
    assert call["finished_at"] >= call["started_at"]


def assert_called(setup: AssaylineSetup, job: UUID) -> None:
    assert setup.store.job(job)["attempts_used"] == 1
    [result] = setup.store.results(job)
    assert (result["data"], result["cached"], result["calls"]) == (ANSWER, False, 1)
    assert (result["input_tokens"], result["cost_usd"] > 0) == (INPUT_TOKENS, True)


def test_a_hundred_equal_jobs_over_two_processes_are_one_call(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    setup.start_dispatcher()
    for _ in range(2):
        setup.workers.start(slots=MANY * 3 // 4)
    equal = Equal(setup, held=True)
    jobs = [equal.enqueue() for _ in range(MANY)]
    equal.running(MANY)
    at_work = setup.store.rows("SELECT incarnation, count(*) AS n FROM assayline.jobs GROUP BY 1")
    assert len(at_work) == 2, "both processes have some of them"
    setup.wire.release(equal.marker)

    eventually(lambda: setup.store.states() == {"succeeded": MANY})
    assert equal.calls == 1
    assert ledger(setup, jobs) == ["cached"] * (MANY - 1) + ["succeeded"]
    [leader] = [job for job in jobs if setup.store.calls(job)[0][2] == "succeeded"]
    assert_called(setup, leader)
    for job in set(jobs) - {leader}:
        assert_remembered(setup, job)


def test_where_the_leader_is_killed_another_takes_over_and_nothing_is_lost(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    setup.start_dispatcher()
    first = setup.workers.start(slots=2)
    equal = Equal(setup, held=True)
    doomed = [equal.enqueue() for _ in range(2)]
    equal.running(2)
    eventually(lambda: equal.calls == 1)
    setup.workers.start(slots=8)
    others = [equal.enqueue() for _ in range(4)]
    equal.running(6)

    first.kill_and_wait()
    eventually(lambda: equal.calls == 2)
    setup.store.give_up(first.container.pid)
    setup.wire.release(equal.marker)

    for job in (*doomed, *others):
        setup.ended(job)
    assert equal.calls == 2
    assert ledger(setup, others) == ["cached"] * 3 + ["succeeded"]
    # Of the two whose worker died, nobody can say which one's call was made.
    assert [setup.store.calls(job) for job in doomed] == [[(1, 1, "unknown"), (2, 1, "cached")]] * 2
    assert [len(setup.store.results(job)) for job in (*doomed, *others)] == [1] * 6


def test_whose_who_and_whether(celery_setup: AssaylineSetup) -> None:
    """Tenants do not share; who wants a fresh answer gets one, which nobody else does; a restart forgets nothing."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start()
    equal = Equal(setup)

    assert_called(setup, equal.run(tenant="acme"))
    assert_called(setup, equal.run(tenant="other"))
    assert_called(setup, equal.run(tenant="acme", use_cache=False))
    assert_called(setup, equal.run(tenant="acme", use_cache=False))
    assert equal.calls == 4
    assert_called(setup, Equal(setup).run(tenant="fresh", use_cache=False))
    for tenant in ("acme", "other"):
        assert_remembered(setup, equal.run(tenant=tenant))

    worker.terminate()
    setup.workers.start()
    assert_remembered(setup, equal.run(tenant="acme"))
    assert equal.calls == 4
    with setup.redis as client:
        kept = [key.decode() for key in client.keys(f"{PREFIX}*") if b":alive:" not in key]
        assert len(kept) == 2, "what was wanted fresh was not written"
        assert all(0 < client.pttl(key) <= 3_600_000 for key in kept)
        assert not [key for key in kept if "acme" in key or "other" in key]


def test_a_remembered_answer_fits_any_budget_and_is_shown(celery_setup: AssaylineSetup, database_url: str) -> None:
    setup = celery_setup
    setup.start_dispatcher()
    setup.workers.start()
    equal = Equal(setup)
    equal.run()
    tiny = {"max_cost_usd": "0.000001", "max_attempts": 1, "use_fallback": False}
    job = equal.run(**tiny)
    assert_remembered(setup, job)
    refused = Equal(setup).enqueue(**tiny)
    assert setup.ended(refused, "failed")["causes"][0]["error"] == "cost_limit"

    with Client(database_url) as client:
        stored = client.get(job)
    assert stored.result is not None
    assert (stored.result.cached, stored.fields["result"]["cached"]) == (True, True)
    shown = StringIO()
    Console(file=shown, width=200).print(job_view(stored))
    assert "remembered" in shown.getvalue()
    assert "cached" in shown.getvalue()


def test_a_redis_flushed_in_mid_call_costs_an_answer_and_no_job(celery_setup: AssaylineSetup) -> None:
    """The lease is gone with everything else; jobs go on, in one process still behind one call."""
    setup = celery_setup
    setup.start_dispatcher()
    setup.workers.start(slots=8)
    equal = Equal(setup, held=True)
    jobs = [equal.enqueue() for _ in range(5)]
    equal.running(5)
    eventually(lambda: equal.calls == 1)
    with setup.redis as client:
        assert isinstance(client, redis.Redis)
        client.flushdb()
    setup.wire.release(equal.marker)

    for job in jobs:
        setup.ended(job)
    assert equal.calls == 1
    assert ledger(setup, jobs) == ["cached"] * 4 + ["succeeded"]


async def test_who_waited_in_vain_waits_again_and_has_lost_no_attempt(database_url: str) -> None:
    """Even with one attempt in all: nothing was tried. The next hop would have had to be paid for."""

    async def in_vain(claim: Claim, calls: CallLedger) -> AnalysisResult:
        raise AnswerAwaited("the same question is being asked, unanswered for 120 s")

    async with job_world(database_url) as world:
        job, incarnation, message = await world.released(max_attempts=1)
        assert await world.runner(incarnation, in_vain).run(job, message.release, "one") is Ending.RESCHEDULED
        row = world.job(job)
        assert (row["state"], row["attempts_used"], row["hop"]) == ("scheduled", 0, 0)
        assert row["causes"][0]["error"] == "answer_awaited"
        assert world.outcomes(job) == [(1, 1, "not_called")]
