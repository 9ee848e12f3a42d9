"""From provider to provider: each hop's cause is kept, the seeds' lines are written, and nothing is masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jobworld import TIMED_OUT, JobWorld, answers, job_world, raises, start

from gateway.errors import AuthRejected, ContentRefused, GatewayError, InvalidRequest, QuotaExhausted, Timeout
from tasks.run import Ending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from jobworld import Analysis

    from gateway.ledger import CallLedger
    from gateway.messages import AnalysisResult
    from tasks.job import Claim


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as world:
        yield world


async def hop_by_hop(world: JobWorld, *scripts: Analysis, **options: Any) -> tuple[UUID, list[Ending]]:
    """One job, run with one script after the other, each by the worker of the provider that it stands at."""
    job, incarnation = world.enqueue(**options), await world.worker()
    endings = []
    for script in scripts:
        provider = world.job(job)["provider"]
        await world.dispatcher().release(provider)
        [message] = world.broker.take()
        endings.append(await world.runner(incarnation, script).run(message.id, message.release, provider))
    return job, endings


async def test_all_failing_is_told_with_every_cause(world: JobWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "tasks.run")
    quota, late = raises(QuotaExhausted("no money left")), raises(Timeout("no answer within 20 s"))
    job, endings = await hop_by_hop(world, quota, late, max_attempts=2)
    row = world.job(job)
    assert endings == [Ending.RESCHEDULED, Ending.FAILED]
    assert (row["state"], row["reason"]) == ("failed", "all_providers_failed")
    told = [(cause["provider"], cause["move"], cause["error"], cause["message"]) for cause in row["causes"]]
    assert told == [
        ("one", "fallback", "quota_exhausted", "no money left"),
        ("two", "fail", "timeout", "no answer within 20 s"),
    ]
    assert caplog.messages == [
        "one: quota exhausted, switching to two",
        "All LLM providers failed: [one: quota_exhausted, two: timeout]",
    ]


async def test_the_next_provider_answers(world: JobWorld, caplog: pytest.LogCaptureFixture) -> None:
    job, endings = await hop_by_hop(world, raises(QuotaExhausted("no money left")), answers)
    assert endings == [Ending.RESCHEDULED, Ending.SUCCEEDED]
    assert [cause["error"] for cause in world.job(job)["causes"]] == ["quota_exhausted"]
    assert "All LLM providers failed" not in caplog.text


@pytest.mark.parametrize("error", [InvalidRequest("no such field"), ContentRefused("declined")])
async def test_what_no_other_provider_may_answer_is_no_failing_of_all(world: JobWorld, error: GatewayError) -> None:
    job, endings = await hop_by_hop(world, raises(QuotaExhausted("no money left")), raises(error))
    assert endings[-1] is Ending.FAILED
    assert world.job(job)["reason"] == error.name


async def test_a_job_without_fallback_stays_where_it_is(world: JobWorld, caplog: pytest.LogCaptureFixture) -> None:
    job, endings = await hop_by_hop(world, raises(QuotaExhausted("no money left")), use_fallback=False)
    assert endings == [Ending.FAILED]
    assert (world.job(job)["provider"], world.job(job)["reason"]) == ("one", "quota_exhausted")
    assert "switching" not in caplog.text


async def test_a_call_that_fails_at_a_provider_known_to_be_out_of_order_is_not_tried_there_again(
    world: JobWorld,
) -> None:
    world.analyst.out = {"one"}
    job, endings = await hop_by_hop(world, raises(Timeout("no answer within 20 s")), answers)
    assert endings == [Ending.RESCHEDULED, Ending.SUCCEEDED]
    assert [(call["provider"], call["outcome"]) for call in world.calls(job)] == [
        ("one", "failed"),
        ("two", "succeeded"),
    ]


async def test_where_an_account_is_rejected_the_spare_one_is_asked_at_the_same_hop(world: JobWorld) -> None:
    """At once, and not as a retry. Which account was charged is what the ledger says."""
    world.analyst.spared = {"one/second"}
    claims = []

    async def charged_to_the_second(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        claims.append(claim)
        call_no = await ledger.open(start(claim))
        await ledger.charge(call_no, "second")
        await ledger.close(call_no, TIMED_OUT)
        raise AuthRejected("no such key")

    async def noted(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        claims.append(claim)
        return await answers(claim, ledger)

    job, endings = await hop_by_hop(world, charged_to_the_second, noted)
    assert endings == [Ending.RESCHEDULED, Ending.SUCCEEDED]
    assert [(str(claim.model), claim.is_retry, claim.fallen) for claim in claims] == [("one/small", False, ())] * 2
    assert [(cause["move"], cause["error"]) for cause in world.job(job)["causes"]] == [
        ("next_account", "auth_rejected")
    ]


async def test_without_a_spare_account_the_next_provider_is_asked(world: JobWorld) -> None:
    world.analyst.spared = {"one/second"}
    job, endings = await hop_by_hop(world, raises(AuthRejected("no such key")), answers)
    assert endings == [Ending.RESCHEDULED, Ending.SUCCEEDED]
    assert world.job(job)["provider"] == "two"
