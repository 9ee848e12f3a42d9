"""What an operator stops waits, at once and for all dispatchers, and nothing else does."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from jobworld import JobWorld, job_world

from ops.cli.main import app
from tasks.dispatch_policy import Policy
from tasks.pauses import PauseKind, pause, pauses, resume

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as world:
        yield world


def released(world: JobWorld) -> set[Any]:
    return {message.id for message in world.broker.take()}


PAUSES = [
    (PauseKind.PROVIDER, "one", {"provider": "one"}),
    (PauseKind.QUEUE, "one.bulk", {"provider": "one", "lane": "bulk"}),
    (PauseKind.ANALYSIS, "slow", {"analysis": "slow"}),
    (PauseKind.TENANT, "acme", {"tenant": "acme"}),
]


@pytest.mark.parametrize(("kind", "name", "what"), PAUSES, ids=[kind for kind, _, _ in PAUSES])
async def test_only_what_is_named_waits_and_goes_on_when_it_is_resumed(
    world: JobWorld, kind: PauseKind, name: str, what: dict[str, str]
) -> None:
    await world.worker(slots=100)
    jobs = [
        world.enqueue(
            analysis, content=f"{analysis} {tenant} {provider} {lane}", tenant=tenant, provider=provider, lane=lane
        )
        for analysis in ("quick", "slow")
        for tenant in ("acme", "zeta")
        for provider in ("one", "two")
        for lane in ("interactive", "bulk")
    ]
    rows = [world.job(job) for job in jobs]
    stopped = {row["id"] for row in rows if all(row[column] == value for column, value in what.items())}
    assert 0 < len(stopped) < len(jobs)
    dispatcher = world.dispatcher()
    pause(world.link, kind, name)
    for provider in ("one", "two"):
        await dispatcher.release(provider)
    assert released(world) == set(jobs) - stopped
    assert resume(world.link, kind, name)
    assert not resume(world.link, kind, name)
    for provider in ("one", "two"):
        await dispatcher.release(provider)
    assert released(world) == stopped


async def test_what_was_queued_waits_again_and_its_message_is_stale(world: JobWorld) -> None:
    job, incarnation, message = await world.released(tenant="acme")
    assert pause(world.link, PauseKind.TENANT, "acme", "their bill is being checked") == 1
    assert world.job(job)["state"] == "scheduled"
    assert await world.claim(incarnation, message) is None
    [one] = pauses(world.link)
    assert (one.kind, one.name, one.why) == (PauseKind.TENANT, "acme", "their bill is being checked")
    resume(world.link, PauseKind.TENANT, "acme")
    await world.dispatcher().release("one")
    [again] = world.broker.take()
    assert (again.id, again.release) == (job, message.release + 1)


async def test_what_runs_is_let_run(world: JobWorld) -> None:
    _, claim = await world.claimed(tenant="acme")
    assert pause(world.link, PauseKind.TENANT, "acme") == 0
    assert world.job(claim.id)["state"] == "running"


async def test_a_pause_waits_for_a_release_that_is_under_way(world: JobWorld, database_url: str) -> None:
    """Or what it releases would slip through."""
    world.enqueue(tenant="acme")
    await world.worker()
    with psycopg.connect(database_url) as releasing:
        releasing.execute("SELECT pg_advisory_xact_lock_shared(hashtextextended('assayline.pauses', 0))")
        waiting = asyncio.create_task(asyncio.to_thread(pause, world.link, PauseKind.TENANT, "acme"))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        assert await world.dispatcher().release("one") == -1, "none begins meanwhile"
        releasing.commit()
        await waiting
    assert await world.dispatcher().release("one") == 0


async def test_a_paused_provider_s_jobs_are_not_taken_over(world: JobWorld) -> None:
    from test_dispatch_limits import OneIsOut, passed

    job = world.enqueue()
    await world.worker()
    pause(world.link, PauseKind.PROVIDER, "one")
    assert await passed(world, OneIsOut()) == {"one": 0, "two": 0}
    resume(world.link, PauseKind.PROVIDER, "one")
    assert await passed(world, OneIsOut()) == {"one": 0, "two": 1}
    assert world.job(job)["provider"] == "two"


async def test_many_paused_tenants_hold_up_no_other(world: JobWorld) -> None:
    for n in range(40):
        world.enqueue(tenant=f"a{n:02}")
        pause(world.link, PauseKind.TENANT, f"a{n:02}")
    wanted = world.enqueue(tenant="z")
    await world.worker()
    dispatcher = world.dispatcher(Policy(most_per_pass=1))
    await dispatcher.release("one")
    assert released(world) == {wanted}


async def test_many_tenants_of_a_paused_analysis_hold_up_no_other(world: JobWorld) -> None:
    for n in range(60):
        world.enqueue("slow", tenant=f"a{n:02}", lane="interactive")
    wanted = world.enqueue("quick", tenant="z")
    pause(world.link, PauseKind.ANALYSIS, "slow")
    await world.worker()
    await world.dispatcher(Policy(most_per_pass=1)).release("one")
    assert released(world) == {wanted}


async def test_a_job_that_somebody_holds_holds_up_no_other(world: JobWorld, database_url: str) -> None:
    jobs = [world.enqueue(content=str(n)) for n in range(3)]
    await world.worker()
    with psycopg.connect(database_url) as web:
        web.execute("SELECT assayline_cancel(%s)", [jobs[0]])
        await world.dispatcher(Policy(most_per_pass=1)).release("one")
        assert released(world) == {jobs[1]}
        web.rollback()


# From a time to come to due ------------------------------------------------------------------------------------------


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def test_a_job_is_due_when_its_time_comes_and_not_before(world: JobWorld) -> None:
    await world.worker()
    dispatcher = world.dispatcher()
    hour, moment = world.enqueue(not_before=soon(3600)), world.enqueue(not_before=soon(0.4))
    next_in_s = await dispatcher.promote()
    assert 0 < next_in_s <= 0.4
    assert await dispatcher.release("one") == 0
    async with asyncio.timeout(10):
        while released(world) != {moment}:
            await asyncio.sleep(min(0.5, await dispatcher.promote()))
            await dispatcher.release("one")
    assert 3_000 < await dispatcher.promote() <= 3_600
    world.cancel(hour)
    assert await dispatcher.promote() == float("inf")
    assert world.sql("SELECT * FROM assayline.later") == world.sql("SELECT * FROM assayline.due") == []


def time_comes(world: JobWorld) -> None:
    """As if the time of each waiting job had just come: its row still lies where later ones do, put back to now."""
    world.sql("UPDATE assayline.jobs SET not_before = clock_timestamp() WHERE state = 'scheduled'")
    world.sql(
        "WITH due AS (DELETE FROM assayline.due RETURNING job_id)"
        " INSERT INTO assayline.later SELECT j.not_before, j.id FROM due JOIN assayline.jobs j ON j.id = due.job_id"
    )


async def test_any_number_become_due_in_portions(world: JobWorld) -> None:
    world.sql("SELECT (assayline_enqueue('slow', n::text, '{}')).job_id FROM generate_series(1, 25) n")
    time_comes(world)
    assert world.sql("SELECT count(*) AS n FROM assayline.later") == [{"n": 25}]
    await world.dispatcher(Policy(most_promoted=10)).promote()
    assert world.sql("SELECT count(*) AS n FROM assayline.due") == [{"n": 25}]


async def test_a_job_that_is_cancelled_while_it_becomes_due_is_in_neither_table(
    world: JobWorld, database_url: str
) -> None:
    job = world.enqueue(not_before=soon(3600))
    time_comes(world)
    assert world.sql("SELECT job_id FROM assayline.later") == [{"job_id": job}]
    with psycopg.connect(database_url) as web:
        web.execute("SELECT assayline_cancel(%s)", [job])
        await world.dispatcher().promote()
        web.commit()
    assert world.sql("SELECT job_id FROM assayline.due UNION ALL SELECT job_id FROM assayline.later") == []


async def test_a_retried_job_goes_before_what_came_after_it(world: JobWorld) -> None:
    """By birth, not by when it became due: else it would wait behind the whole backlog."""
    job, incarnation, message = await world.released("slow")
    for n in range(5):
        world.enqueue("slow", content=str(n))
    claim = await world.claim(incarnation, message)
    assert claim is not None
    from jobworld import CAUSE, TIMED_OUT

    assert await world.store.reschedule(claim, 1, TIMED_OUT, reason="retry", delay_s=0.0, hop=0, refund=0, cause=CAUSE)
    await world.dispatcher(Policy(most_per_pass=1)).release("one")
    assert released(world) == {job}


# The commands --------------------------------------------------------------------------------------------------------


def run(*argv: str) -> int:
    return int(app(list(argv), standalone_mode=False) or 0)


async def test_the_commands_say_what_they_did(
    world: JobWorld, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASSAYLINE_DATABASE_URL", database_url)
    await world.released(tenant="acme")

    async def said(*argv: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(run, *argv)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    code, out, _ = await said("pause", "tenant", "acme", "--why", "checked", "--json")
    assert (code, json.loads(out)) == (0, {"kind": "tenant", "name": "acme", "paused": True, "waiting_again": 1})
    code, out, _ = await said("pause")
    assert out.startswith("tenant acme  since 20")
    assert out.rstrip().endswith("checked")
    code, _, err = await said("pause", "provider", "nobody")
    assert code == 3
    assert "no provider 'nobody'; there are one, two" in err
    code, _, err = await said("pause", "queue", "one")
    assert code == 3
    assert "one.interactive" in err
    code, _, err = await said("pause", "tenant", "x" * 201)
    assert code == 3
    assert "at most 200 characters" in err
    code, _, err = await said("pause", "tenant", "x", "--why", "x" * 501)
    assert code == 3
    assert "at most 500 characters" in err
    code, _, err = await said("pause", "tenant")
    assert code == 3
    assert "assayline pause tenant NAME" in err
    code, out, _ = await said("resume", "tenant", "acme")
    assert (code, out) == (0, "tenant acme goes on\n")
    code, out, _ = await said("resume", "tenant", "acme", "--json")
    assert json.loads(out)["was_paused"] is False
    _, _, err = await said("pause")
    assert err == "nothing is paused\n"
