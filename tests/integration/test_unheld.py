"""Claims whose replies were lost: the worker that has them and does not know gives them back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy.exc
from jobworld import JobWorld, answers, job_world

from tasks.run import Ending
from tasks.store import UNHELD_AFTER_S, JobStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.ledger import CallLedger
    from gateway.messages import AnalysisResult
    from tasks.job import Claim

GONE = sqlalchemy.exc.OperationalError("SELECT", {}, Exception("the connection broke"))


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as found:
        yield found


def reply_lost(monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """A statement is done, and its reply never comes, once."""
    done = JobStore._all
    names: list[str] = []

    async def lost(store: JobStore, name: str, **parameters: Any) -> Any:
        rows = await done(store, name, **parameters)
        names.append(name)
        if name == statement and names.count(name) == 1:
            raise GONE
        return rows

    monkeypatch.setattr(JobStore, "_all", lost)


def age(world: JobWorld) -> None:
    """Let the claims be as old as one whose reply is waited for no more."""
    world.sql("UPDATE assayline.jobs SET started_at = started_at - make_interval(secs => %s)", UNHELD_AFTER_S)


async def test_the_job_goes_back_to_wait_and_no_attempt_is_used(
    world: JobWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, incarnation, message = await world.released()
    runner = world.runner(incarnation, answers)
    with monkeypatch.context() as broken:
        reply_lost(broken, "claim")
        assert await runner.run(job, message.release, "one") is Ending.STALE, "the second try finds it taken"
    await runner.give_back_unheld()
    assert world.job(job)["state"] == "running", "its reply may be on its way"
    age(world)

    await runner.give_back_unheld()

    row = world.job(job)
    assert (row["state"], row["reason"], row["attempts_used"]) == ("scheduled", "hand_back", 0)
    assert world.outcomes(job) == [(1, 1, "not_called")]
    assert await world.dispatcher().release("one") == 1
    [again] = world.broker.take()
    assert await runner.run(job, again.release, "one") is Ending.SUCCEEDED


async def test_a_message_is_held_while_postgres_is_away(world: JobWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up, it would be missed for fifteen seconds, and with it its place in the queue."""
    job, incarnation, message = await world.released()
    done = JobStore._all
    tries: list[str] = []

    async def away(store: JobStore, name: str, **parameters: Any) -> Any:
        tries.append(name)
        if tries.count("claim") <= 2 and name == "claim":
            raise GONE
        return await done(store, name, **parameters)

    monkeypatch.setattr(JobStore, "_all", away)
    monkeypatch.setattr("tasks.patience.FIRST_PAUSE_S", 0.001)
    assert await world.runner(incarnation, answers).run(job, message.release, "one") is Ending.SUCCEEDED
    assert world.job(job)["release"] == message.release


async def test_a_message_of_a_job_that_somebody_has_locked_is_not_held(
    world: JobWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web app's open transaction that cancels a thousand jobs must not fill the slots for two minutes."""
    job, incarnation, message = await world.released()

    class LockNotAvailable(Exception):
        sqlstate = "55P03"

    async def locked(*_: object, **__: object) -> None:
        raise sqlalchemy.exc.OperationalError("UPDATE", {}, LockNotAvailable())

    monkeypatch.setattr(JobStore, "_all", locked)
    async with asyncio.timeout(5.0):
        with pytest.raises(sqlalchemy.exc.OperationalError):
            await world.runner(incarnation, answers).run(job, message.release, "one")


async def test_what_is_in_hand_stays_there_to_the_end(world: JobWorld) -> None:
    """While its calls are made, while its end is written, and until all is handed back at the worker's stop."""
    job, incarnation, message = await world.released()

    async def beats(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        age(world)
        await runner.give_back_unheld()
        return await answers(claim, ledger)

    runner = world.runner(incarnation, beats)
    assert await runner.run(job, message.release, "one") is Ending.SUCCEEDED
    assert runner.attempts.held() == []

    job, incarnation, message = await world.released()
    runner = world.runner(incarnation)
    runner.stopping = True
    assert await runner.run(job, message.release, "one") is Ending.HANDED_BACK
    age(world)
    await runner.give_back_unheld()
    assert world.job(job)["state"] == "running"
    assert await runner.hand_back() == 1


async def test_a_claim_whose_end_could_not_be_written_is_not_said_to_have_made_no_call(
    world: JobWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did, and paid for it. The lease ends it, and the journal has its answer."""
    job, incarnation, message = await world.released()
    runner = world.runner(incarnation, answers)
    with monkeypatch.context() as broken:

        async def never(*_: object, **__: object) -> bool:
            raise GONE

        broken.setattr(JobStore, "succeed", never)
        with pytest.raises(sqlalchemy.exc.OperationalError):
            await runner.run(job, message.release, "one")
    age(world)
    await runner.give_back_unheld()
    assert (world.job(job)["state"], world.outcomes(job)) == ("running", [(1, 1, "unknown")])

    world.sql("UPDATE assayline.jobs SET lease_until = now() - interval '1 s'")
    await world.dispatcher().rescue()
    await runner.beat()
    assert runner.attempts.held() == []


async def test_a_reply_that_comes_during_the_look_is_not_lost(world: JobWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    incarnation, claim = await world.claimed()
    runner = world.runner(incarnation)
    age(world)
    look = JobStore.unheld

    async def meanwhile(store: JobStore, *args: Any) -> Any:
        found = await look(store, *args)
        runner.attempts.take(claim.id, claim.claim_no)
        return found

    monkeypatch.setattr(JobStore, "unheld", meanwhile)
    await runner.give_back_unheld()
    assert world.job(claim.id)["state"] == "running"


async def test_another_workers_jobs_are_none_of_its_business(world: JobWorld) -> None:
    _, claim = await world.claimed()
    age(world)
    await world.runner(await world.worker()).beat()
    assert world.job(claim.id)["state"] == "running"
