"""Each move of the state machine on a real Postgres, and what its fence refuses."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest
from jobworld import (
    ANSWERED,
    CAUSE,
    COST,
    LEGAL_BY_NAME,
    MAX_ATTEMPTS,
    TIMED_OUT,
    TOTALS,
    JobWorld,
    answer,
    answers,
    job_world,
    raises,
    start,
)
from sqlalchemy.exc import OperationalError

import tasks
from gateway.errors import (
    AuthRejected,
    BudgetSpent,
    ClaimLost,
    InvalidOutput,
    OutputTruncated,
    PromptError,
    Timeout,
    Unreachable,
)
from gateway.ledger import NOT_CALLED, CallEnd, CallKind, CallOutcome
from gateway.messages import Message, ModelRef, Usage
from tasks.clock.runs import Runs
from tasks.clock.schedule import Schedule
from tasks.clock.window import Window
from tasks.diversion import Diversion, Spare
from tasks.ends import LastCall
from tasks.headroom import GroupRoom
from tasks.job import Claim
from tasks.ledger import JobLedger
from tasks.pauses import PauseKind
from tasks.run import Ending
from tasks.states import MOVES, State
from tasks.store import Incarnation, JobStore
from tasks.upkeep import upkeep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from uuid import UUID

    from gateway.ledger import CallLedger
    from gateway.messages import AnalysisResult

NUMBERS = ("release", "claim_no", "attempts_used", "copies")
SQL = {Path(f.name).stem: f.read_text() for f in files("tasks.sql").iterdir() if f.name.endswith(".sql")}


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as world:
        yield world


@contextmanager
def moving(world: JobWorld, job: UUID, name: str, *, reason: str | None = None, **rises: int) -> Iterator[None]:
    """Check that the body makes the move, and that of the four numbers exactly these rise by so much."""
    move, before = LEGAL_BY_NAME[name], world.job(job)
    assert before["state"] == move.source
    yield
    after = world.job(job)
    assert (after["state"], after["reason"]) == (move.target, name if reason is None else reason)
    assert {n: after[n] - before[n] for n in NUMBERS if after[n] != before[n]} == rises
    assert (after["finished_at"] is not None) == (not any(m.source == move.target for m in MOVES))
    if move.source is State.RUNNING and move.target is State.SCHEDULED:
        assert after["lease_until"] is None


def ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).isoformat()


async def reschedule(world: JobWorld, claim: Claim, reason: str, end: CallEnd = TIMED_OUT, **changes: Any) -> bool:
    how: dict[str, Any] = {"delay_s": 0.0, "hop": claim.hop, "refund": 0, "cause": CAUSE} | changes
    return await world.store.reschedule(claim, 1, end, reason=reason, **how)


async def fail(world: JobWorld, claim: Claim, reason: str = "timeout") -> bool:
    return await world.store.fail(claim, 1, TIMED_OUT, reason=reason, cause=CAUSE, totals=TOTALS)


def age_expiry(world: JobWorld) -> None:
    world.sql("UPDATE assayline.jobs SET expires_at = now() - interval '1 s'")


def cut_connections(world: JobWorld) -> None:
    world.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'assayline'"
    )


# One test for each move -------------------------------------------------------------------------------------------


async def test_move_release(world: JobWorld) -> None:
    job = world.enqueue()
    await world.worker()
    with moving(world, job, "release", release=1, copies=1):
        assert await world.dispatcher().release("one") == 1
    assert [(m.id, m.release, m.queue) for m in world.broker.take()] == [(job, 1, "one.interactive")]


async def test_move_republish(world: JobWorld) -> None:
    job, _, _ = await world.released()
    world.sql("UPDATE assayline.jobs SET queued_at = queued_at - interval '16 s'")
    with moving(world, job, "republish", release=1, copies=1):
        assert await world.dispatcher().republish() == 1
    assert [(m.id, m.release) for m in world.broker.take()] == [(job, 2)]


async def test_move_claim(world: JobWorld) -> None:
    job, incarnation, message = await world.released()
    with moving(world, job, "claim", claim_no=1, attempts_used=1):
        claim = await world.claim(incarnation, message)
    assert claim is not None
    assert (claim.id, claim.claim_no, claim.attempts_used, claim.model) == (job, 1, 1, ModelRef("one", "small"))
    [call] = world.calls(job)
    assert (call["outcome"], call["account"], call["incarnation"]) == ("unknown", "main", incarnation.id)
    row = world.job(job)
    assert row["incarnation"] == incarnation.id
    assert row["lease_until"] - row["started_at"] == pytest.approx(timedelta(seconds=300), abs=timedelta(seconds=1))


async def test_move_succeed(world: JobWorld) -> None:
    _, claim = await world.claimed()
    with moving(world, claim.id, "succeed"):
        assert await world.store.succeed(claim, 1, ANSWERED, answer(claim))
    [call], [result] = world.calls(claim.id), world.results(claim.id)
    assert (call["outcome"], call["input_tokens"], call["cached_tokens"], call["output_tokens"]) == (
        "succeeded",
        10,
        2,
        5,
    )
    assert (call["cost_usd"], call["finish_reason"], call["provider_request_id"]) == (COST, "stop", "req-1")
    assert (result["data"], result["calls"], result["cost_usd"], result["raw_text"]) == (
        {"verdict": "fine"},
        1,
        COST,
        None,
    )


async def test_move_fail(world: JobWorld) -> None:
    _, claim = await world.claimed()
    with moving(world, claim.id, "fail", reason="timeout"):
        assert await fail(world, claim)
    [call] = world.calls(claim.id)
    assert (call["outcome"], call["error"], call["error_message"]) == ("failed", "timeout", "no answer")
    assert world.job(claim.id)["causes"] == [CAUSE]
    assert world.results(claim.id) == []


async def test_move_retry(world: JobWorld) -> None:
    _, claim = await world.claimed()
    with moving(world, claim.id, "retry", copies=-1):
        assert await reschedule(world, claim, "retry", delay_s=60.0)
    row = world.job(claim.id)
    assert (row["hop"], row["provider"], row["model"], row["causes"]) == (0, "one", "small", [CAUSE])
    assert timedelta(seconds=50) < row["not_before"] - datetime.now(UTC) <= timedelta(seconds=60)
    assert world.outcomes(claim.id) == [(1, 1, "failed")]


async def test_move_next_account(world: JobWorld) -> None:
    _, claim = await world.claimed()
    with moving(world, claim.id, "next_account", copies=-1):
        assert await reschedule(world, claim, "next_account")


async def test_move_fallback(world: JobWorld) -> None:
    _, claim = await world.claimed()
    with moving(world, claim.id, "fallback", copies=-1):
        assert await reschedule(world, claim, "fallback", hop=1)
    row = world.job(claim.id)
    assert (row["hop"], row["provider"], row["model"]) == (1, "two", "large")
    assert await world.dispatcher().release("one") == 0
    assert await world.dispatcher().release("two") == 1
    [message] = world.broker.take()
    claim_again = await world.claim(await world.worker(), message)
    assert claim_again is not None
    assert (claim_again.claim_no, claim_again.hop, claim_again.model) == (2, 1, ModelRef("two", "large"))


async def test_move_snooze(world: JobWorld) -> None:
    """A snooze costs no attempt, and its ledger row says that no call was made."""
    _, claim = await world.claimed()
    with moving(world, claim.id, "snooze", reason="snooze: limit", copies=-1, attempts_used=-1):
        assert await reschedule(world, claim, "snooze: limit", NOT_CALLED, refund=1, cause=None)
    assert world.job(claim.id)["causes"] == []
    assert world.outcomes(claim.id) == [(1, 1, "not_called")]


async def test_move_hand_back(world: JobWorld) -> None:
    incarnation, claim = await world.claimed()
    cut = CallEnd(CallOutcome.ABANDONED, 3.0, Usage(40, 0), Decimal("0.1"), error="CancelledError", estimated=True)
    with moving(world, claim.id, "hand_back", copies=-1, attempts_used=-1):
        assert await world.store.hand_back(incarnation, [LastCall(claim.id, claim.claim_no, 1, cut)]) == 1
    [call] = world.calls(claim.id)
    assert (call["outcome"], call["estimated"], call["cost_usd"], call["error"]) == (
        "abandoned", True, Decimal("0.1"), "CancelledError",
    )  # fmt: skip
    assert world.job(claim.id)["not_before"] <= datetime.now(UTC)


async def test_move_rescue(world: JobWorld) -> None:
    incarnation, claim = await world.claimed()
    world.kill(incarnation)
    with moving(world, claim.id, "rescue", copies=-1):
        assert await world.rescuer().rescue() == 1
    [why] = world.job(claim.id)["causes"]
    assert (why["error"], why["move"], why["incarnation"]) == ("worker_lost", "rescue", str(incarnation.id))
    assert why["message"] == f"worker {incarnation.id} on host, process 1"
    assert world.outcomes(claim.id) == [(1, 1, "unknown")]


async def test_move_bury(world: JobWorld) -> None:
    incarnation, claim = await world.claimed(max_attempts=1)
    world.kill(incarnation)
    with moving(world, claim.id, "bury", copies=-1):
        assert await world.rescuer().rescue() == 1
    assert [why["error"] for why in world.job(claim.id)["causes"]] == ["worker_lost"]


async def test_move_poison(world: JobWorld) -> None:
    """A job on its third worker, after two have died with it; attempts are left."""
    incarnation, claim = await lost_for_the_third_time(world)
    with moving(world, claim.id, "poison", copies=-1):
        assert await world.rescuer().rescue() == 1
    row = world.job(claim.id)
    assert row["attempts_used"] < row["max_attempts"]
    assert [why["error"] for why in row["causes"]] == ["worker_lost", "worker_lost", "poison"]
    assert row["causes"][-1]["incarnation"] == str(incarnation.id)
    assert world.outcomes(claim.id) == [(1, 1, "unknown"), (2, 1, "unknown"), (3, 1, "unknown")]


async def lost_for_the_third_time(world: JobWorld) -> tuple[Incarnation, Claim]:
    incarnation, claim = await world.claimed()
    for _ in range(2):
        world.kill(incarnation)
        assert await world.rescuer().rescue() == 1
        incarnation = await world.worker()
        await world.dispatcher().release("one")
        found = await world.claim(incarnation, *world.broker.take())
        assert found is not None
        claim = found
    world.kill(incarnation)
    return incarnation, claim


async def test_move_cancel_scheduled(world: JobWorld) -> None:
    job = world.enqueue()
    with moving(world, job, "cancel_scheduled", reason="cancel_scheduled"):
        assert world.cancel(job) == "cancelled"
    await world.worker()
    assert await world.dispatcher().release("one") == 0


async def test_move_cancel_queued(world: JobWorld) -> None:
    job, incarnation, message = await world.released()
    with moving(world, job, "cancel_queued", reason="cancel_queued"):
        assert world.cancel(job) == "cancelled"
    assert await world.claim(incarnation, message) is None


async def test_move_cancel_running(world: JobWorld) -> None:
    """The answer is refused, what it cost is recorded, and nobody is told of a success."""
    job, incarnation, message = await world.released()

    async def cancelled_meanwhile(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        with moving(world, job, "cancel_running", reason="cancel_running"):
            assert world.cancel(job) == "cancelled"
        return await answers(claim, ledger)

    assert await world.runner(incarnation, cancelled_meanwhile).run(job, message.release, "one") is Ending.FENCED
    [call] = world.calls(job)
    assert (call["outcome"], call["cost_usd"]) == ("succeeded", COST)
    assert world.job(job)["state"] == "cancelled"
    assert (world.results(job), world.heard.ends) == ([], [])


async def test_move_expire_scheduled(world: JobWorld) -> None:
    job = world.enqueue(expires_at=ago(seconds=-60))
    age_expiry(world)
    with moving(world, job, "expire_scheduled"):
        assert await world.dispatcher().expire() == 1


async def test_move_expire_queued(world: JobWorld) -> None:
    job, _, _ = await world.released(expires_at=ago(seconds=-60))
    age_expiry(world)
    with moving(world, job, "expire_queued"):
        assert await world.dispatcher().expire() == 1


async def test_move_defer(world: JobWorld) -> None:
    job = world.enqueue("slow", source="schedule:nightly")
    schedule = Schedule("nightly", "slow", Path(), Window(time(22), time(6), ZoneInfo("UTC")), "default")
    opens_at = datetime.now(UTC) + timedelta(hours=9)
    with moving(world, job, "defer"):
        assert await Runs(world.engine).defer(schedule, opens_at) == 1
    assert world.job(job)["not_before"] == opens_at


async def test_move_pause(world: JobWorld) -> None:
    job, _, message = await world.released(tenant="acme")
    with moving(world, job, "pause", copies=-1):
        assert await world.pause(PauseKind.TENANT, "acme") == 1
    row = world.job(job)
    assert (row["release"], row["copies"], row["claim_no"]) == (message.release, 0, 0)


async def test_move_divert(world: JobWorld) -> None:
    """Its provider is out of order, the next of its chain has room: nothing is called."""
    job = world.enqueue()
    diversion = Diversion(logging.getLogger("tasks.test"))
    diversion.note("one", [GroupRoom(None, 0, 5.0, Unreachable("nobody is there"))])
    with moving(world, job, "divert"):
        async with world.engine.connect() as connection:
            assert await diversion.take_over(connection, "two", "interactive", 5, [Spare(None, 5)]) == 1
    row = world.job(job)
    assert (row["state"], row["reason"], row["provider"], row["hop"]) == ("scheduled", "divert", "two", 1)
    assert (row["claim_no"], row["attempts_used"], world.calls(job)) == (0, 0, [])


def test_every_move_has_its_test() -> None:
    tested = {name.removeprefix("test_move_") for name in globals() if name.startswith("test_move_")}
    assert tested == {move.name for move in MOVES}


# The fence --------------------------------------------------------------------------------------------------------


async def test_a_stale_number_claims_nothing(world: JobWorld) -> None:
    job, incarnation, message = await world.released()
    for stale in (message.release - 1, message.release + 1):
        assert await world.claim(incarnation, replace(message, release=stale)) is None
    assert await world.claim(incarnation, replace(message, id=uuid4())) is None
    assert world.calls(job) == []


async def test_a_message_that_comes_five_times_is_one_claim(world: JobWorld) -> None:
    job, incarnation, message = await world.released()
    claims = [await world.claim(incarnation, message) for _ in range(5)]
    assert [claim is not None for claim in claims] == [True, False, False, False, False]
    assert (world.job(job)["claim_no"], len(world.calls(job))) == (1, 1)


async def test_a_worker_claims_only_for_providers_it_serves(world: JobWorld) -> None:
    job, _, message = await world.released()
    assert await world.claim(await world.worker(providers=("two",)), message) is None
    assert world.job(job)["state"] == "queued"


async def test_a_job_that_expired_in_its_queue_is_not_claimed(world: JobWorld) -> None:
    job, incarnation, message = await world.released(expires_at=ago(seconds=-60))
    age_expiry(world)
    assert await world.runner(incarnation).run(job, message.release, "one") is Ending.STALE
    assert world.calls(job) == []


async def test_a_zombie_that_ends_late_is_refused_and_its_call_is_paid(world: JobWorld) -> None:
    """Rescued and running elsewhere: the first claim's end changes neither job nor result."""
    zombie, first = await world.claimed()
    world.kill(zombie)
    await world.rescuer().rescue()
    living = await world.worker()
    await world.dispatcher().release("one")
    second = await world.claim(living, *world.broker.take())
    assert second is not None

    before = world.job(first.id)
    assert not await world.store.succeed(first, 1, ANSWERED, answer(first))
    assert not await fail(world, first)
    assert not await reschedule(world, first, "retry")
    assert world.job(first.id) == before
    assert world.results(first.id) == []

    assert await world.store.succeed(second, 1, ANSWERED, answer(second, data={"by": "second"}))
    assert not await world.store.succeed(first, 1, ANSWERED, answer(first, data={"by": "zombie"}))
    assert [row["data"] for row in world.results(first.id)] == [{"by": "second"}]
    assert world.outcomes(first.id) == [(1, 1, "succeeded"), (2, 1, "succeeded")]
    assert [call["cost_usd"] for call in world.calls(first.id)] == [COST, COST]


async def test_an_end_written_twice_changes_nothing_the_second_time(world: JobWorld) -> None:
    """What `patiently` relies on: the first writing went through, only its reply was lost."""
    _, claim = await world.claimed()
    assert await world.store.succeed(claim, 1, ANSWERED, answer(claim))
    before = world.job(claim.id), world.results(claim.id)
    assert await world.store.succeed(claim, 1, ANSWERED, answer(claim)), "it is its own end"
    assert (world.job(claim.id), world.results(claim.id)) == before


async def test_a_bad_end_written_twice_is_its_own_and_another_ones_is_not(world: JobWorld) -> None:
    """A rescuer that buried the job has ended the same claim."""
    ends = {"cause": CAUSE, "totals": TOTALS}
    _, claim = await world.claimed()
    assert await world.store.fail(claim, 1, TIMED_OUT, reason="timeout", **ends)
    assert await world.store.fail(claim, 1, TIMED_OUT, reason="timeout", **ends)
    assert len(world.job(claim.id)["causes"]) == 1
    assert not await world.store.fail(claim, 1, TIMED_OUT, reason="another", **ends)


async def test_a_job_that_somebody_has_locked_keeps_no_other_from_being_handed_back(world: JobWorld) -> None:
    """A web app's open transaction that cancels one must not cost the others an attempt."""
    incarnation = await world.worker()
    world.enqueue()
    world.enqueue()
    assert await world.dispatcher().release("one") == 2
    claims = [await world.claim(incarnation, message) for message in world.broker.take()]
    assert all(claims)
    url = world.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as other:
        other.execute("SELECT assayline_cancel(%s)", [claims[0].id])  # type: ignore[union-attr]
        assert await world.store.hand_back(incarnation, []) == 1
    assert [world.job(claim.id)["state"] for claim in claims if claim] == ["cancelled", "scheduled"]


async def test_only_the_incarnations_own_running_jobs_are_handed_back(world: JobWorld) -> None:
    stopping, mine = await world.claimed()
    _, theirs = await world.claimed()
    waiting = world.enqueue()
    assert await world.store.hand_back(stopping, []) == 1
    assert [world.job(job)["state"] for job in (mine.id, theirs.id, waiting)] == ["scheduled", "running", "scheduled"]
    assert world.outcomes(mine.id) == [(1, 1, "unknown")]
    assert await world.store.hand_back(stopping, []) == 0


async def test_a_call_that_had_ended_is_handed_back_as_it_ended(world: JobWorld) -> None:
    """Cut between the answer and the re-ask: its tokens and its cost are the provider's, not an estimate."""
    incarnation, claim = await world.claimed()
    await world.store.hand_back(incarnation, [LastCall(claim.id, claim.claim_no, 1, ANSWERED)])
    [call] = world.calls(claim.id)
    assert (call["outcome"], call["output_tokens"], call["cached_tokens"]) == ("succeeded", 5, 2)
    assert (call["estimated"], call["cost_usd"], call["provider_request_id"]) == (False, COST, "req-1")


# The ledger -------------------------------------------------------------------------------------------------------


async def test_a_call_is_unknown_in_the_ledger_before_it_is_made(world: JobWorld) -> None:
    """Seen from another connection, while each call is on its way."""
    job, incarnation, message = await world.released()
    seen: list[list[tuple[int, int, str]]] = []

    async def two_calls(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        first = await ledger.open(start(claim))
        seen.append(world.outcomes(job))
        await ledger.close(first, ANSWERED)
        second = await ledger.open(start(claim, CallKind.REPAIR))
        seen.append(world.outcomes(job))
        await ledger.close(second, ANSWERED)
        return answer(claim)

    assert await world.runner(incarnation, two_calls).run(job, message.release, "one") is Ending.SUCCEEDED
    assert seen == [[(1, 1, "unknown")], [(1, 1, "succeeded"), (1, 2, "unknown")]]
    assert world.outcomes(job) == [(1, 1, "succeeded"), (1, 2, "succeeded")]
    assert [call["kind"] for call in world.calls(job)] == ["answer", "repair"]
    assert world.job(job)["attempts_used"] == 2


async def test_a_spent_budget_opens_no_further_call(world: JobWorld) -> None:
    _, claim = await world.claimed(max_attempts=2)
    ledger = JobLedger(world.store, claim)
    for _ in range(2):
        await ledger.close(await ledger.open(start(claim)), ANSWERED)
    with pytest.raises(BudgetSpent, match="all 2 calls"):
        await ledger.open(start(claim))
    assert world.outcomes(claim.id) == [(1, 1, "succeeded"), (1, 2, "succeeded")]
    assert world.job(claim.id)["attempts_used"] == 2


async def test_a_fallen_fence_opens_no_further_call_and_closes_the_last(world: JobWorld) -> None:
    _, claim = await world.claimed()
    ledger = JobLedger(world.store, claim)
    await ledger.close(await ledger.open(start(claim)), ANSWERED)
    world.cancel(claim.id)
    with pytest.raises(ClaimLost):
        await ledger.open(start(claim))
    assert world.outcomes(claim.id) == [(1, 1, "succeeded")]
    assert world.job(claim.id)["attempts_used"] == 1


async def test_another_account_pays_only_while_the_fence_holds(world: JobWorld) -> None:
    _, claim = await world.claimed()
    ledger = JobLedger(world.store, claim)
    number = await ledger.open(start(claim))
    await ledger.charge(number, "second")
    accounts = "SELECT account FROM assayline.calls WHERE job_id = %s"
    assert [row["account"] for row in world.sql(accounts, claim.id)] == ["second"]
    world.cancel(claim.id)
    with pytest.raises(ClaimLost):
        await ledger.charge(number, "third")
    assert [row["account"] for row in world.sql(accounts, claim.id)] == ["second"]


async def test_a_call_that_is_not_made_for_its_claim_is_lost_is_closed(world: JobWorld) -> None:
    """Cancelled between the claim and its call, and another account was to pay: else its line would stay `unknown`."""
    job, incarnation, message = await world.released()

    async def charged_too_late(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        number = await ledger.open(start(claim))
        world.cancel(job)
        try:
            await ledger.charge(number, "second")
        except ClaimLost:
            await ledger.close(number, NOT_CALLED)
            raise
        raise AssertionError("the fence stood")

    assert await world.runner(incarnation, charged_too_late).run(job, message.release, "one") is Ending.FENCED
    assert (world.outcomes(job), world.job(job)["state"]) == ([(1, 1, "not_called")], "cancelled")


async def test_a_call_opened_twice_is_one_call(world: JobWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first opening went through, and the connection broke before its reply came: it is tried again."""
    _, claim = await world.claimed(max_attempts=2)
    real, statements = JobStore._all, []

    async def reply_lost_once(store: JobStore, name: str, **parameters: Any) -> Any:
        rows = await real(store, name, **parameters)
        statements.append(name)
        if len(statements) == 1:
            raise OperationalError("", None, Exception("the connection broke"))
        return rows

    monkeypatch.setattr(JobStore, "_all", reply_lost_once)
    assert await world.store.open_call(claim, 1, ANSWERED, start(claim)) == (True, True)
    assert statements == ["open_call", "open_call"]
    assert world.outcomes(claim.id) == [(1, 1, "succeeded"), (1, 2, "unknown")]
    assert world.job(claim.id)["attempts_used"] == 2


async def test_postgres_gone_between_two_calls_costs_a_pause_and_not_the_job(world: JobWorld) -> None:
    job, incarnation, message = await world.released()

    async def loses_postgres(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        await ledger.close(await ledger.open(start(claim)), ANSWERED)
        cut_connections(world)
        await ledger.close(await ledger.open(start(claim, CallKind.REPAIR)), ANSWERED)
        cut_connections(world)
        return answer(claim)

    assert await world.runner(incarnation, loses_postgres).run(job, message.release, "one") is Ending.SUCCEEDED
    assert world.outcomes(job) == [(1, 1, "succeeded"), (1, 2, "succeeded")]


async def test_a_cost_limit_counts_what_earlier_claims_spent(world: JobWorld) -> None:
    _, first = await world.claimed(max_cost_usd=2)
    assert (first.max_cost_usd, first.spent_usd, first.unpriced_calls) == (Decimal(2), Decimal(0), 0)
    await reschedule(world, first, "retry", ANSWERED)
    await world.dispatcher().release("one")
    second = await world.claim(await world.worker(), *world.broker.take())
    assert second is not None
    assert (second.spent_usd, second.unpriced_calls) == (COST, 0)
    await reschedule(world, second, "retry", TIMED_OUT)
    await world.dispatcher().release("one")
    third = await world.claim(await world.worker(), *world.broker.take())
    assert third is not None
    assert (third.spent_usd, third.unpriced_calls) == (COST, 1)


# Runs: what an attempt's end makes of the job ---------------------------------------------------------------------


async def test_a_run_keeps_its_result_and_tells_of_it(world: JobWorld) -> None:
    job, incarnation, message = await world.released()
    assert await world.runner(incarnation).run(job, message.release, "one") is Ending.SUCCEEDED
    assert world.heard.ends == [(job, "succeeded", {"verdict": "fine"})]
    assert await world.runner(incarnation).run(job, message.release, "one") is Ending.STALE


async def test_a_passing_fault_waits_and_a_lasting_one_moves_on(world: JobWorld) -> None:
    job, incarnation, message = await world.released()
    assert await world.runner(incarnation, raises(Timeout("late"))).run(job, 1, "one") is Ending.RESCHEDULED
    assert world.job(job)["reason"] == "retry"
    world.sql("UPDATE assayline.jobs SET not_before = now()")
    await world.dispatcher().release("one")
    [message] = world.broker.take()
    runner = world.runner(incarnation, raises(AuthRejected("no")))
    assert await runner.run(job, message.release, "one") is Ending.RESCHEDULED
    row = world.job(job)
    assert (row["reason"], row["provider"], row["attempts_used"]) == ("fallback", "two", 2)
    assert [(why["error"], why["move"]) for why in row["causes"]] == [
        ("timeout", "retry"),
        ("auth_rejected", "fallback"),
    ]


async def test_a_dead_letter_keeps_the_text_that_was_paid_for(world: JobWorld) -> None:
    job, incarnation, message = await world.released(max_attempts=1)
    script = raises(InvalidOutput("no field x", raw_text="gibberish"), ANSWERED)
    assert await world.runner(incarnation, script).run(job, message.release, "one") is Ending.FAILED
    [result] = world.results(job)
    assert (result["data"], result["raw_text"], result["cost_usd"], result["calls"]) == (None, "gibberish", COST, 1)
    assert world.heard.ends == [(job, "failed", None)]


async def test_a_dead_letter_without_a_call_used_no_attempt(world: JobWorld) -> None:
    job, incarnation, message = await world.released()

    async def unusable(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        raise PromptError("no variable x")

    assert await world.runner(incarnation, unusable).run(job, message.release, "one") is Ending.FAILED
    assert world.outcomes(job) == [(1, 1, "not_called")]
    assert world.job(job)["attempts_used"] == 0


async def test_an_error_of_ours_is_a_dead_letter_with_its_cause(world: JobWorld) -> None:
    job, incarnation, message = await world.released()
    script = raises(KeyError("x"))
    assert await world.runner(incarnation, script).run(job, message.release, "one") is Ending.FAILED
    row = world.job(job)
    assert (row["reason"], row["causes"][0]["error"]) == ("internal_fault", "internal_fault")
    assert row["causes"][0]["message"].startswith("KeyError")


async def test_an_answer_that_json_cannot_hold_is_paid_for_once(world: JobWorld) -> None:
    """NaN passes Python's JSON and not Postgres's. Left `running`, the job would be rescued and paid for again."""
    job, incarnation, message = await world.released()

    async def not_a_number(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        return replace(await answers(claim, ledger), data={"score": float("nan")})

    assert await world.runner(incarnation, not_a_number).run(job, message.release, "one") is Ending.FAILED
    row = world.job(job)
    assert (row["reason"], world.outcomes(job)) == ("internal_fault", [(1, 1, "succeeded")])
    assert "NaN" not in str(row["causes"])


@pytest.mark.parametrize("character", [0x00, 0xD800, 0xDFFF], ids=["NUL", "high", "low"])
async def test_what_no_text_column_takes_is_replaced_and_the_rest_kept(world: JobWorld, character: int) -> None:
    said = f"a{chr(character)}b"
    (_, good), (_, bad) = [await world.claimed() for _ in range(2)]
    end = replace(ANSWERED, error_message=said, provider_request_id=said)
    result = answer(good, data={said: ["\\u0000", {"deep": said}]}, raw_text=said)
    assert await world.store.succeed(good, 1, end, result)
    [row], [call] = world.results(good.id), world.calls(good.id)
    assert row["data"] == {"a\ufffdb": ["\\u0000", {"deep": "a\ufffdb"}]}
    assert (row["raw_text"], call["error_message"], call["provider_request_id"]) == ("a\ufffdb",) * 3

    why = CAUSE | {"message": said}
    assert await world.store.fail(bad, 1, end, reason="x", cause=why, totals=TOTALS, raw_text=said)
    assert world.job(bad.id)["causes"][0]["message"] == "a\ufffdb"


async def test_an_error_does_not_repeat_prompts_and_answers(world: JobWorld) -> None:
    _, claim = await world.claimed()
    with pytest.raises(Exception, match="invalid input syntax") as caught:
        await world.store.succeed(claim, 1, ANSWERED, answer(claim, data={"score": float("nan")}, raw_text="secret"))
    assert "secret" not in str(caught.value)


async def test_an_attempt_after_the_stop_is_handed_back_uncalled(world: JobWorld) -> None:
    job, incarnation, message = await world.released()
    runner = world.runner(incarnation)
    runner.stopping = True
    assert await runner.run(job, message.release, "one") is Ending.HANDED_BACK
    assert await runner.hand_back() == 1
    assert (world.outcomes(job), world.job(job)["attempts_used"]) == ([(1, 1, "not_called")], 0)


async def test_a_cut_answer_is_a_dead_letter(world: JobWorld) -> None:
    job, incarnation, message = await world.released()
    script = raises(OutputTruncated("cut", raw_text="half"), ANSWERED)
    assert await world.runner(incarnation, script).run(job, message.release, "one") is Ending.FAILED
    assert [row["raw_text"] for row in world.results(job)] == ["half"]


# Heartbeats and upkeep --------------------------------------------------------------------------------------------


async def test_a_heartbeat_says_whether_its_row_was_new(world: JobWorld) -> None:
    incarnation = await world.worker()
    assert not (await world.store.heartbeat(incarnation)).fresh
    world.sql("DELETE FROM assayline.workers")
    assert (await world.store.heartbeat(incarnation)).fresh


async def test_a_stopping_worker_has_no_slots_and_a_retired_one_no_row(world: JobWorld) -> None:
    world.enqueue()
    incarnation = await world.worker()
    await world.store.heartbeat(incarnation, stopping=True)
    assert await world.dispatcher().release("one") == 0
    await world.store.retire(incarnation)
    assert world.sql("SELECT * FROM assayline.workers") == []


async def test_upkeep_forgets_the_long_dead_unless_a_job_names_them(world: JobWorld) -> None:
    needed, _ = await world.claimed()
    await world.worker()
    world.sql("UPDATE assayline.workers SET heartbeat_at = now() - interval '2 h'")
    fresh = await world.worker()
    await upkeep(world.engine)
    assert {row["incarnation"] for row in world.sql("SELECT * FROM assayline.workers")} == {needed.id, fresh.id}


# Round trip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    ["", "naïve ☃ \U0001d518 \U0001f9ea \u202e rtl \r\n\t\\ ' \" {{ x }} %s :name $1 \ufffd", "é" * 524_288],
    ids=["empty", "unicode", "1 MiB"],
)
async def test_content_comes_back_as_it_went(world: JobWorld, content: str) -> None:
    _, claim = await world.claimed(content=content)
    assert claim.content == content


async def test_every_field_reaches_the_worker(world: JobWorld) -> None:
    context = {"a": [1, 2.5, None, True, {"b": {"c": ["ü", {"d": {}}]}}], "empty": {}, "big": 2**60}
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "☃"}]
    deadline = datetime.now(UTC) + timedelta(seconds=90)
    _, claim = await world.claimed(
        context=context, messages=messages, schema={"type": "object"}, tenant="acme", lane="bulk", chain=["one/small"],
        prompt_version="2", output_format="markdown", max_tokens=77, temperature=0.7, max_cost_usd="0.000123",
        max_attempts=9, use_cache=False, use_fallback=False, deadline_at=deadline.isoformat(),
    )  # fmt: skip
    assert claim.context == context
    assert claim.messages == (Message("system", "be brief"), Message("user", "☃"))
    assert (claim.schema, claim.tenant, claim.lane, claim.chain) == ({"type": "object"}, "acme", "bulk", ("one/small",))
    assert (claim.prompt_version, claim.output_format, claim.max_tokens) == ("2", "markdown", 77)
    assert claim.temperature == pytest.approx(0.7, abs=1e-6)
    assert claim.max_cost_usd == Decimal("0.000123")
    assert (claim.max_attempts, claim.use_cache, claim.use_fallback) == (9, False, False)
    assert claim.deadline_in_s is not None
    assert 80 < claim.deadline_in_s < 90


async def test_fields_that_nobody_gave_have_their_defaults(world: JobWorld) -> None:
    _, claim = await world.claimed()
    assert (claim.max_attempts, claim.use_cache, claim.use_fallback, claim.lane) == (
        MAX_ATTEMPTS,
        True,
        True,
        "interactive",
    )
    assert (claim.deadline_in_s, claim.max_cost_usd, claim.schema, claim.messages, claim.context) == (
        None,
        None,
        None,
        (),
        {},
    )


# The statements ---------------------------------------------------------------------------------------------------


def test_every_statement_is_used_and_begins_with_its_sentence() -> None:
    source = "".join(path.read_text() for path in Path(tasks.__file__).parent.rglob("*.py"))
    assert {name for name in SQL if f'"{name}"' not in source} == set()
    assert {name for name, text in SQL.items() if not re.match(r"-- [A-Z].+", text)} == set()


ON_ONE_JOB = ("charge_call", "claim", "fail", "heartbeat", "open_call", "reschedule", "succeed")


@pytest.mark.parametrize("name", ON_ONE_JOB)
def test_a_statement_on_one_job_finds_it_by_its_key_whatever_is_known_of_the_tables(world: JobWorld, name: str) -> None:
    """Its plan is made once, perhaps before the first job: it must not go by how few there are."""
    [version] = world.sql("SELECT current_setting('server_version_num')::int AS number")
    if version["number"] < 160_000:
        pytest.skip("PostgreSQL before 16 does not show a plan without its parameters")
    names: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = re.sub(r"(?<!:):([a-z_]+)", numbered, re.sub(r"--.*", "", SQL[name]))
    plan = "\n".join(str(row["QUERY PLAN"]) for row in world.sql(f"EXPLAIN (GENERIC_PLAN) {text}"))
    assert "Seq Scan" not in plan
    assert set(re.findall(r"using (jobs_\w+|job_contents_\w+)", plan)) & {f"jobs_{datetime.now(UTC):%Y_%m}_pkey"}
    assert "queued_at_idx" not in plan


BY_PARAMETER = {"fail": {"fail"}, "reschedule": {"retry", "next_account", "fallback", "snooze"}}
"""Statements whose reason is more than their move's name, or one of several: `tasks.run` gives it."""


def test_every_write_of_a_state_names_its_move_and_no_move_is_without_a_write() -> None:
    named: set[str] = set()
    move_released = files("ops.migrations").joinpath("sql/0013_unhindered.up.sql").read_text()
    for name, text in {**SQL, "release": move_released}.items():
        body = re.sub(r"--.*", "", text)
        for written in re.findall(r"UPDATE assayline\.jobs.*?\bSET\b(.*?)\bWHERE\b", body, re.DOTALL):
            if "reason =" not in written:
                assert "state =" not in written, name
                continue
            literals = set(re.findall(r"'(\w+)'", written))
            moves = [LEGAL_BY_NAME[move] for move in BY_PARAMETER.get(name, literals & set(LEGAL_BY_NAME))]
            assert moves, name
            assert (":reason" in written) == (name in BY_PARAMETER), name
            if "state =" in written:
                targets = literals & set(State) if name != "expire" else {"expired"}
                assert targets == {move.target for move in moves}, name
            assert all(f"'{move.source}'" in body for move in moves), name
            named |= {move.name for move in moves}
    assert named == {move.name for move in MOVES if move.by != "store"}
