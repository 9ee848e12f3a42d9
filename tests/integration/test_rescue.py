"""Whom the rescuer believes dead, and what it buries: on a real Postgres, with what lies in the journal."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from dictline import DictLine
from jobworld import COST, PROVIDERS, USAGE, JobWorld, answer, job_world, start

from gateway.calls.answered import Answered
from gateway.calls.end import success
from gateway.journal.journal import PREFIX, Journal
from gateway.messages import Completion, FinishReason
from tasks.dispatch import Dispatcher
from tasks.dispatch_policy import Policy
from tasks.ledger import JobLedger
from tasks.rescue import LONGEST_GAP_S, Rescuer
from tasks.run import Ending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.ledger import CallLedger
    from gateway.messages import AnalysisResult
    from tasks.job import Claim

QUESTION = "a" * 64
CAME = Answered(Completion("fine", FinishReason.STOP, USAGE, "m", "req-1"), COST, 0.5)
SOON_DEAD = Policy(dead_after_s=1.0)
"""The tests' server is seldom up for the usual 20 s."""


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as found:
        found.rescuer()  # waits until the server is old enough
        yield found


async def lost(world: JobWorld) -> Claim:
    incarnation, claim = await world.claimed()
    world.kill(incarnation)
    return claim


# Who is believed dead ---------------------------------------------------------------------------------------------


def unseen(world: JobWorld, *, since_s: float, looked_s: float) -> None:
    """Dispatchers have had the server in sight for so long, and one looked last so long ago."""
    world.sql(
        "UPDATE assayline.sight"
        " SET since = now() - make_interval(secs => %s), looked_at = now() - make_interval(secs => %s)",
        since_s,
        looked_s,
    )


async def test_after_a_gap_nobody_is_taken_for_dead_for_as_long_as_a_dead_workers_silence_lasts(
    world: JobWorld,
) -> None:
    """A failover silences the living as well; so a dispatcher that starts after it takes nobody for dead either."""
    await lost(world)
    unseen(world, since_s=3_600, looked_s=LONGEST_GAP_S + 0.1)
    assert await Rescuer(world.engine, SOON_DEAD).rescue() == ()
    assert await Rescuer(world.engine, SOON_DEAD).rescue() == ()
    unseen(world, since_s=SOON_DEAD.dead_after_s, looked_s=2.0)
    assert len(await Rescuer(world.engine, SOON_DEAD).rescue()) == 1


async def test_whoever_looked_the_others_need_not_wait(world: JobWorld) -> None:
    """A dispatcher's death costs no time while another looks; nor do broken connections between two looks."""
    await lost(world)
    unseen(world, since_s=3_600, looked_s=LONGEST_GAP_S - 1.0)
    assert len(await Rescuer(world.engine, SOON_DEAD).rescue()) == 1


async def test_an_overdue_attempt_waits_as_well(world: JobWorld) -> None:
    """Its worker may have been kept from writing its end."""
    _, claim = await world.claimed()
    world.sql("UPDATE assayline.jobs SET lease_until = now() - interval '1 s' WHERE id = %s", claim.id)
    unseen(world, since_s=0.5, looked_s=0.1)
    assert await Rescuer(world.engine, SOON_DEAD).rescue() == ()


async def test_a_statement_that_waited_for_a_server_that_stood_still_rescues_nobody(world: JobWorld) -> None:
    """It was sent before the stop and is done after it, when every heartbeat is old."""
    await lost(world)
    rescuer = Rescuer(world.engine, SOON_DEAD)
    done = rescuer._rows

    async def late(name: str, parameters: dict[str, Any]) -> Any:
        if name == "rescue":
            parameters |= {"looked_at": parameters["looked_at"] - timedelta(seconds=LONGEST_GAP_S + 0.1)}
        return await done(name, parameters)

    with pytest.MonkeyPatch.context() as slow:
        slow.setattr(rescuer, "_rows", late)
        assert await rescuer.rescue() == []
    assert len(await rescuer.rescue()) == 1


# What is buried ---------------------------------------------------------------------------------------------------


async def asked(claim: Claim, ledger: CallLedger) -> AnalysisResult:
    """What the gateway does with a question: look, call, keep."""
    assert ledger.journal is not None
    if found := await ledger.journal.open(QUESTION):
        await ledger.recovered(found)
        return answer(claim)
    call_no = await ledger.open(start(claim))
    ledger.journal.keep(call_no, CAME)
    await ledger.close(call_no, success(CAME))
    return answer(claim)


async def died_on_its_last_attempt(world: JobWorld, line: DictLine) -> Claim:
    """A job of one attempt whose worker died with the answer in hand."""
    incarnation, claim = await world.claimed(max_attempts=1)
    await asked(claim, JobLedger(world.store, claim, Journal(line, pause_s=0).of(str(claim.id), 1)))  # type: ignore[arg-type]
    world.kill(incarnation)
    return claim


def rescuer(world: JobWorld, line: DictLine) -> Dispatcher:
    return Dispatcher(world.engine, world.broker, PROVIDERS, SOON_DEAD, answers=Journal(line))  # type: ignore[arg-type]


async def claimed_again(world: JobWorld, line: DictLine) -> Ending:
    incarnation = await world.worker()
    assert await world.dispatcher().release("one") == 1
    [message] = world.broker.take()
    runner = world.runner(incarnation, asked)
    runner.journal = Journal(line, pause_s=0)  # type: ignore[arg-type]
    return await runner.run(message.id, message.release, "one")


async def test_one_whose_answer_lies_in_the_journal_is_not_buried(world: JobWorld) -> None:
    line = DictLine()
    claim = await died_on_its_last_attempt(world, line)

    assert await rescuer(world, line).rescue() == 1
    assert await claimed_again(world, line) is Ending.SUCCEEDED

    assert world.outcomes(claim.id) == [(1, 1, "succeeded"), (2, 1, "not_called")]
    assert world.job(claim.id)["attempts_used"] == 1


async def test_one_without_an_answer_is_buried(world: JobWorld) -> None:
    line = DictLine()
    claim = await died_on_its_last_attempt(world, line)
    line.kept.clear()
    assert await rescuer(world, line).rescue() == 1
    row = world.job(claim.id)
    assert (row["state"], row["reason"]) == ("failed", "bury")


async def test_an_answer_that_is_of_no_use_costs_no_call_beyond_the_last(world: JobWorld) -> None:
    line = DictLine()
    claim = await died_on_its_last_attempt(world, line)
    line.kept[f"{PREFIX}{claim.id}"] = b"J0 of another version"

    assert await rescuer(world, line).rescue() == 1
    assert await claimed_again(world, line) is Ending.FAILED

    assert world.outcomes(claim.id) == [(1, 1, "unknown"), (2, 1, "not_called")]
    row = world.job(claim.id)
    assert (row["state"], row["reason"], row["attempts_used"]) == ("failed", "budget_spent", 1)


async def test_while_redis_is_away_nobody_is_buried_for_an_answer_that_may_be_there(world: JobWorld) -> None:
    line = DictLine()
    await died_on_its_last_attempt(world, line)
    line.away = True
    assert await rescuer(world, line).rescue() == 1
    line.away = False
    assert await claimed_again(world, line) is Ending.SUCCEEDED
