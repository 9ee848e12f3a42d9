"""The journal through runs on a real database: what a claim finds is in the ledger, and what is stored is forgotten."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from dictline import DictLine
from jobworld import COST, USAGE, answer, job_world, start

from gateway.calls.answered import Answered
from gateway.calls.end import success
from gateway.errors import InvalidOutput, RepairDeferred
from gateway.journal.journal import PREFIX, Journal
from gateway.ledger import CallKind
from gateway.messages import Completion, FinishReason
from tasks.ledger import JobLedger
from tasks.run import Ending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from jobworld import Analysis, JobWorld

    from gateway.ledger import CallLedger
    from gateway.messages import AnalysisResult
    from tasks.job import Claim

QUESTION = "a" * 64
CAME = Answered(Completion("fine", FinishReason.STOP, USAGE, "m", "req-1"), COST, 0.5)


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as found:
        yield found


@pytest.fixture
def line() -> DictLine:
    return DictLine()


async def answered(claim: Claim, ledger: CallLedger, then: Exception | None = None) -> AnalysisResult:
    """What the gateway does with a question: look, call, keep."""
    assert ledger.journal is not None
    if found := await ledger.journal.open(QUESTION):
        await ledger.recovered(found)
    else:
        call_no = await ledger.open(start(claim))
        ledger.journal.keep(call_no, CAME)
        await ledger.close(call_no, success(CAME))
    if then is not None:
        raise then
    return answer(claim)


def but_then(error: Exception) -> Analysis:
    return lambda claim, ledger: answered(claim, ledger, error)


async def run(world: JobWorld, line: DictLine, script: Analysis = answered, **options: Any) -> tuple[UUID, Ending]:
    job, incarnation, message = await world.released(**options)
    runner = world.runner(incarnation, script)
    runner.journal = Journal(line, pause_s=0)  # type: ignore[arg-type]
    return job, await runner.run(job, message.release, "one")


async def died(world: JobWorld, line: DictLine, *, repairing: bool = False, **options: Any) -> Claim:
    """A job whose worker died with the answer in hand, or while its repair was being asked for; rescued, released."""
    incarnation, claim = await world.claimed(**options)
    ledger = JobLedger(world.store, claim, Journal(line, pause_s=0).of(str(claim.id), 1))  # type: ignore[arg-type]
    await answered(claim, ledger)
    if repairing:
        assert await ledger.open(start(claim, CallKind.REPAIR)) == 2
    world.kill(incarnation)
    assert await world.rescuer().rescue() == 1
    await world.worker()
    assert await world.dispatcher().release("one") == 1
    return claim


async def goes_on(world: JobWorld, line: DictLine, script: Analysis = answered) -> Ending:
    [message] = world.broker.take()
    runner = world.runner(await world.worker(), script)
    runner.journal = Journal(line, pause_s=0)  # type: ignore[arg-type]
    return await runner.run(message.id, message.release, "one")


async def test_the_end_is_written_before_the_answer_is_forgotten(world: JobWorld, line: DictLine) -> None:
    job, ending = await run(world, line)
    assert ending is Ending.SUCCEEDED
    assert list(line.kept) == [f"{PREFIX}{job}"], "the announcement takes it away, and here nobody hears it"
    assert world.heard.others == [("DEL", f"{PREFIX}{job}")]


async def test_what_is_stored_in_time_never_went_to_redis(world: JobWorld, line: DictLine) -> None:
    job, incarnation, message = await world.released()
    runner = world.runner(incarnation, answered)
    runner.journal = Journal(line, pause_s=3_600)  # type: ignore[arg-type]
    assert await runner.run(job, message.release, "one") is Ending.SUCCEEDED
    assert (line.said, world.heard.others) == ([], [])


async def test_a_dead_letter_keeps_its_text_in_postgres_and_not_in_the_journal(world: JobWorld, line: DictLine) -> None:
    job, ending = await run(world, line, but_then(InvalidOutput("broken", raw_text="fine")), chain=["one/small"])
    assert ending is Ending.FAILED
    assert world.heard.others == [("DEL", f"{PREFIX}{job}")]


async def test_a_job_that_goes_on_without_its_answer_has_none_in_the_journal(world: JobWorld, line: DictLine) -> None:
    """It goes to another model. With the same one it may go on from the answer it has."""
    _, ending = await run(world, line, but_then(InvalidOutput("broken", raw_text="fine")))
    assert ending is Ending.RESCHEDULED
    assert line.kept == {}


async def test_a_job_that_stays_with_its_model_goes_on_from_the_answer_it_has(world: JobWorld, line: DictLine) -> None:
    job, ending = await run(world, line, but_then(RepairDeferred("no field x", raw_text="fine")))
    assert ending is Ending.RESCHEDULED
    world.sql("UPDATE assayline.jobs SET not_before = now() WHERE id = %s", job)
    assert await world.dispatcher().release("one") == 1

    assert await goes_on(world, line) is Ending.SUCCEEDED

    assert world.outcomes(job) == [(1, 1, "succeeded"), (2, 1, "not_called")]
    row = world.job(job)
    assert (row["attempts_used"], [why["error"] for why in row["causes"]]) == (1, ["repair_deferred"])


async def test_an_end_that_is_refused_leaves_the_answer_to_whom_it_belongs(world: JobWorld, line: DictLine) -> None:
    async def lost(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        result = await answered(claim, ledger)
        world.sql("UPDATE assayline.jobs SET claim_no = claim_no + 1 WHERE id = %s", claim.id)
        return result

    _, ending = await run(world, line, lost)
    assert ending is Ending.FENCED
    assert len(line.kept) == 1


async def test_an_answer_that_needed_no_call_leaves_nothing_to_forget(world: JobWorld, line: DictLine) -> None:
    async def elsewhere(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        return answer(claim)

    _, ending = await run(world, line, elsewhere)
    assert (ending, world.heard.others, line.said) == (Ending.SUCCEEDED, [], [])


async def test_the_next_claim_finds_it_and_the_ledger_has_its_price(world: JobWorld, line: DictLine) -> None:
    first = await died(world, line)
    assert world.outcomes(first.id) == [(1, 1, "unknown")]
    assert await goes_on(world, line) is Ending.SUCCEEDED

    paid, own = world.calls(first.id)
    assert (paid["outcome"], paid["cost_usd"], paid["latency_s"]) == ("succeeded", COST, 0.5)
    assert (paid["input_tokens"], paid["output_tokens"], paid["cached_tokens"]) == (10, 5, 2)
    assert (paid["finish_reason"], paid["provider_request_id"]) == ("stop", "req-1")
    assert paid["finished_at"] >= paid["started_at"]
    assert (own["outcome"], own["cost_usd"], own["error"]) == ("not_called", Decimal(0), None)
    assert own["error_message"] == "the answer of claim 1, call 1 was in the journal"
    row = world.job(first.id)
    assert (row["state"], row["attempts_used"], row["claim_no"]) == ("succeeded", 1, 2)
    assert world.heard.others == [("DEL", f"{PREFIX}{first.id}")]


async def test_a_repair_goes_on_from_the_answer_as_the_claims_own_call(world: JobWorld, line: DictLine) -> None:
    """With three attempts: the first answer, the repair that was lost, and the one that is asked for now."""
    first = await died(world, line, repairing=True, max_attempts=3)
    assert world.outcomes(first.id) == [(1, 1, "succeeded"), (1, 2, "unknown")]

    async def repairs(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        assert ledger.journal is not None
        await ledger.recovered(await ledger.journal.open(QUESTION))
        call_no = await ledger.open(start(claim, CallKind.REPAIR))
        ledger.journal.keep(call_no, CAME)
        await ledger.close(call_no, success(CAME))
        return answer(claim)

    assert await goes_on(world, line, repairs) is Ending.SUCCEEDED
    assert world.outcomes(first.id) == [(1, 1, "succeeded"), (1, 2, "unknown"), (2, 1, "succeeded")]
    assert [call["kind"] for call in world.calls(first.id)] == ["answer", "repair", "repair"]
    assert world.job(first.id)["attempts_used"] == 3


async def test_a_zombie_that_has_closed_its_call_meanwhile_is_not_contradicted(world: JobWorld, line: DictLine) -> None:
    first = await died(world, line)
    world.sql("UPDATE assayline.calls SET outcome = 'failed', cost_usd = 9 WHERE job_id = %s", first.id)
    assert await goes_on(world, line) is Ending.SUCCEEDED
    paid, _ = world.calls(first.id)
    assert (paid["outcome"], paid["cost_usd"]) == ("failed", 9)


async def test_no_claim_closes_its_own_or_a_later_call_as_lost(world: JobWorld) -> None:
    _, claim = await world.claimed()
    assert await world.store.close_lost_calls(claim, {(1, 1): success(CAME), (2, 1): success(CAME)}) == set()
    assert world.outcomes(claim.id) == [(1, 1, "unknown")]


async def test_with_nothing_in_the_journal_the_call_is_made_again(world: JobWorld, line: DictLine) -> None:
    first = await died(world, line)
    line.kept.clear()
    assert await goes_on(world, line) is Ending.SUCCEEDED
    assert world.outcomes(first.id) == [(1, 1, "unknown"), (2, 1, "succeeded")]
    assert world.job(first.id)["attempts_used"] == 2
