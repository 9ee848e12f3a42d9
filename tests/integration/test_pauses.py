"""What an operator stops waits, at once and for all dispatchers, and nothing else does."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest
from jobworld import JobWorld, job_world

from gateway.catalog import load_catalog
from ops.cli.doctor import transactions, work
from ops.cli.doctor.finding import Verdict
from ops.cli.main import app
from ops.cli.store import connected
from tasks.dispatch_policy import Policy
from tasks.pauses import PauseBlocked, Paused, PauseKind, pause, pauses, unknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.catalog import Catalog


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
    await world.pause(kind, name)
    for provider in ("one", "two"):
        await dispatcher.release(provider)
    assert released(world) == set(jobs) - stopped
    assert await world.resume(kind, name)
    assert not await world.resume(kind, name)
    for provider in ("one", "two"):
        await dispatcher.release(provider)
    assert released(world) == stopped


async def test_what_was_queued_waits_again_and_its_message_is_stale(world: JobWorld) -> None:
    job, incarnation, message = await world.released(tenant="acme")
    assert await world.pause(PauseKind.TENANT, "acme", "their bill is being checked") == 1
    assert world.job(job)["state"] == "scheduled"
    assert await world.claim(incarnation, message) is None
    async with world.engine.connect() as connection:
        [one] = await pauses(connection)
    assert (one.kind, one.name, one.why) == (PauseKind.TENANT, "acme", "their bill is being checked")
    await world.resume(PauseKind.TENANT, "acme")
    await world.dispatcher().release("one")
    [again] = world.broker.take()
    assert (again.id, again.release) == (job, message.release + 1)


async def test_what_runs_is_let_run(world: JobWorld) -> None:
    _, claim = await world.claimed(tenant="acme")
    assert await world.pause(PauseKind.TENANT, "acme") == 0
    assert world.job(claim.id)["state"] == "running"


async def test_a_pause_waits_for_a_release_that_is_under_way(world: JobWorld, database_url: str) -> None:
    """Or what it releases would slip through."""
    world.enqueue(tenant="acme")
    await world.worker()
    with psycopg.connect(database_url) as releasing:
        releasing.execute("SELECT pg_advisory_xact_lock_shared(hashtextextended('assayline.pauses', 0))")
        waiting = asyncio.create_task(world.pause(PauseKind.TENANT, "acme"))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        assert await world.dispatcher().release("one") == -1, "none begins meanwhile"
        releasing.commit()
        await waiting
    assert await world.dispatcher().release("one") == 0


async def test_a_transaction_that_was_left_open_holds_up_neither_a_pause_nor_any_release(
    world: JobWorld, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a queued job locked. The pause holds all the same, says so, and finds the job when it is made again."""
    monkeypatch.setattr("tasks.pauses.TRIES", 2)
    await world.worker(slots=100)
    held, free, other = world.enqueue(tenant="acme"), world.enqueue(tenant="acme"), world.enqueue(tenant="zeta")
    dispatcher = world.dispatcher()
    await dispatcher.release("one")
    assert released(world) == {held, free, other}
    with psycopg.connect(database_url) as web:
        web.execute("SELECT assayline_cancel(%s)", [held])
        async with world.engine.connect() as connection:
            assert await pause(connection, PauseKind.TENANT, "acme") == Paused(jobs=1, held=1)
        assert world.job(free)["reason"] == "pause"
        others = [world.enqueue(tenant="zeta"), world.enqueue(tenant="acme")]
        await dispatcher.release("one")
        assert released(world) == {others[0]}
        web.rollback()
    assert await world.pause(PauseKind.TENANT, "acme") == 1
    assert world.job(held)["state"] == "scheduled"
    await dispatcher.release("one")
    assert released(world) == set()


async def test_a_job_that_is_let_go_of_in_time_waits_again(world: JobWorld, database_url: str) -> None:
    job, *_ = await world.released(tenant="acme")
    async with await psycopg.AsyncConnection.connect(database_url) as web:
        await web.execute("SELECT FROM assayline.jobs WHERE id = %s FOR UPDATE", [job])
        pausing = asyncio.create_task(world.pause(PauseKind.TENANT, "acme"))
        while not world.sql("SELECT FROM assayline.pauses"):  # noqa: ASYNC110  Postgres tells nobody
            await asyncio.sleep(0.01)
        await web.rollback()
    assert await pausing == 1


async def test_what_has_been_resumed_meanwhile_stays_queued(world: JobWorld) -> None:
    job, *_ = await world.released(tenant="acme")
    assert world.sql("SELECT * FROM assayline.pause_queued('tenant', 'acme')") == [{"moved": 0, "held": 0}]
    assert world.job(job)["state"] == "queued"


async def test_a_change_of_pauses_that_does_not_end_is_not_waited_for_for_ever(
    world: JobWorld, database_url: str
) -> None:
    for function in ("pause(text, text, text)", "resume(text, text)"):
        assert world.sql(f"SELECT proconfig FROM pg_proc WHERE oid = 'assayline.{function}'::regprocedure") == [
            {"proconfig": ["lock_timeout=5s"]}
        ]
        world.sql(f"ALTER FUNCTION assayline.{function} SET lock_timeout = '50ms'")
    await world.pause(PauseKind.TENANT, "acme", "before")
    with psycopg.connect(database_url) as other:
        other.execute("SELECT assayline.pause('tenant', 'acme', 'and never committed')")
        for change in (world.pause, world.resume):
            with pytest.raises(PauseBlocked, match=r"tenant acme is as it was: .* does not end\. Try again"):
                await change(PauseKind.TENANT, "acme")
        other.rollback()
    async with world.engine.connect() as connection:
        assert [one.why for one in await pauses(connection)] == ["before"]


async def test_an_analysis_that_only_waiting_jobs_have_can_be_paused(world: JobWorld) -> None:
    """The catalog may have lost it; its jobs would be released all the same, and fail."""

    def nothing_else() -> Catalog:
        return load_catalog(None, {})

    world.enqueue("slow")
    world.sql("DELETE FROM assayline.catalog_analyses WHERE name = 'slow'")
    async with world.engine.connect() as connection:
        assert await unknown(connection, PauseKind.ANALYSIS, "slow", nothing_else) is None
        assert "quick" in (await unknown(connection, PauseKind.ANALYSIS, "slower", nothing_else) or ())


async def test_a_paused_provider_s_jobs_are_not_taken_over(world: JobWorld) -> None:
    from test_dispatch_limits import OneIsOut, passed

    job = world.enqueue()
    await world.worker()
    await world.pause(PauseKind.PROVIDER, "one")
    assert await passed(world, OneIsOut()) == {"one": 0, "two": 0}
    await world.resume(PauseKind.PROVIDER, "one")
    assert await passed(world, OneIsOut()) == {"one": 0, "two": 1}
    assert world.job(job)["provider"] == "two"


async def test_many_paused_tenants_hold_up_no_other(world: JobWorld) -> None:
    for n in range(40):
        world.enqueue(tenant=f"a{n:02}")
        await world.pause(PauseKind.TENANT, f"a{n:02}")
    wanted = world.enqueue(tenant="z")
    await world.worker()
    dispatcher = world.dispatcher(Policy(most_per_pass=1))
    await dispatcher.release("one")
    assert released(world) == {wanted}


async def test_many_tenants_of_a_paused_analysis_hold_up_no_other(world: JobWorld) -> None:
    for n in range(60):
        world.enqueue("slow", tenant=f"a{n:02}", lane="interactive")
    wanted = world.enqueue("quick", tenant="z")
    await world.pause(PauseKind.ANALYSIS, "slow")
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


async def test_a_transaction_that_has_all_of_a_tenant_s_oldest_jobs_hides_none_behind_them(
    world: JobWorld, database_url: str
) -> None:
    """Whoever cancels all in one transaction: more than eight passes of one job each would get by."""
    for tenant, jobs in (("acme", 300), ("zeta", 40)):
        world.sql("SELECT (assayline_enqueue('quick', n::text, %s)).job_id FROM generate_series(1, %s) n",
                  json.dumps({"tenant": tenant}), jobs)  # fmt: skip
    await world.worker(slots=100)
    dispatcher = world.dispatcher(Policy(most_per_pass=3))
    with psycopg.connect(database_url) as web:
        web.execute("SELECT assayline_cancel(id) FROM assayline.jobs WHERE tenant = 'acme'")
        urgent, late = world.enqueue(tenant="acme", priority=0), world.enqueue(tenant="acme")
        for _ in range(4):
            await dispatcher.release("one")
        tenants = [world.job(message.id)["tenant"] for message in world.broker.messages]
        got = [message.id for message in world.broker.take()]
        assert len(got) == 12
        assert {urgent, late} <= set(got), "they have waited behind what is locked"
        assert got.index(urgent) < got.index(late) <= 4, "and no longer than their turn lasts"
        assert tenants.count("zeta") == 10
        web.rollback()


async def test_where_all_of_many_tenants_is_locked_the_others_have_the_room(world: JobWorld, database_url: str) -> None:
    for n in range(12):
        world.enqueue(tenant=f"a{n:02}")
    free = [world.enqueue(tenant="z", content=str(n)) for n in range(8)]
    await world.worker(slots=100)
    dispatcher = world.dispatcher(Policy(most_per_pass=8))
    with psycopg.connect(database_url) as web:
        web.execute("SELECT FROM assayline.jobs WHERE tenant <> 'z' FOR UPDATE")
        assert await dispatcher.release("one") == 8
        assert [message.id for message in world.broker.take()] == free
        assert not dispatcher._releases.full, "nothing is left for which slots were too few"
        web.rollback()


async def test_rows_without_a_job_are_swept_up_where_they_are_in_the_way(world: JobWorld) -> None:
    """A month that was dropped or detached tells no trigger; its rows are the oldest."""
    world.sql(
        "INSERT INTO assayline.due SELECT 'one', 'interactive', 'small', 'default', 'quick', 0,"
        " assayline.uuid7_floor('2026-01-01'::timestamptz + make_interval(secs => n)) FROM generate_series(1, 50) n"
    )
    jobs = [world.enqueue(content=str(n)) for n in range(3)]
    await world.worker(slots=100)
    assert await world.dispatcher(Policy(most_per_pass=2)).release("one") == 2
    assert released(world) == set(jobs[:2])
    assert world.sql("SELECT job_id FROM assayline.due") == [{"job_id": jobs[2]}]


HELD_UP = "SELECT FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"


async def test_a_job_that_comes_while_a_release_looks_is_no_row_without_a_job(
    world: JobWorld, database_url: str
) -> None:
    """The look is a function, and sees what the statement around it sees, no more. Somebody has the job locked."""
    [look] = world.sql(
        "SELECT pg_get_function_arguments(oid) AS takes, pg_get_function_result(oid) AS gives, pronargs AS n,"
        " CASE provolatile WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END AS sees"
        " FROM pg_proc WHERE oid = 'assayline.next_in_turn'::regproc"
    )
    world.sql("ALTER FUNCTION assayline.next_in_turn RENAME TO looked_for")
    world.sql(
        f"CREATE FUNCTION assayline.next_in_turn({look['takes']}) RETURNS {look['gives']}"
        f" LANGUAGE plpgsql {look['sees']} AS $$BEGIN PERFORM pg_advisory_xact_lock(1);"
        " RETURN QUERY SELECT * FROM assayline.looked_for("
        + ", ".join(f"${n}" for n in range(1, look["n"] + 1))
        + "); END $$"
    )
    before = {world.enqueue(content=str(n)) for n in range(9)}
    await world.worker(slots=100)
    world.sql("SELECT pg_advisory_lock(1)")
    releasing = asyncio.create_task(world.dispatcher().release("one"))
    async with asyncio.timeout(30.0):
        while not world.sql(HELD_UP):  # noqa: ASYNC110  Postgres tells nobody who waits
            await asyncio.sleep(0.01)
    job = world.enqueue()
    with psycopg.connect(database_url) as web:
        web.execute("SELECT FROM assayline.jobs WHERE id = %s FOR UPDATE", [job])
        world.sql("SELECT pg_advisory_unlock(1)")
        assert await releasing == len(before)
    assert released(world) == before
    assert world.sql("SELECT job_id FROM assayline.due") == [{"job_id": job}]


async def test_groups_that_share_a_model_hold_up_no_release(world: JobWorld) -> None:
    """None should; but a walk that doubles with each tenant would never end."""
    for n in range(40):
        world.enqueue(tenant=f"t{n:02}")
    await world.worker(slots=100)
    world.sql("SET statement_timeout = '20 s'")
    twice = json.dumps([{"models": ["small"]}, {"models": ["small"]}, {"models": None}])
    found = world.sql(
        "SELECT DISTINCT id FROM assayline.release_due('one', 'interactive', %s, '{}', NULL, 500, 0.25, 2, 0.8, 20)",
        twice,
    )
    assert len(found) == 40


async def test_a_row_that_is_there_already_takes_no_job_with_it(world: JobWorld) -> None:
    """A stray one, of whatever origin: the move that puts the job back to wait is not refused for it."""
    for at in ("interval '0'", "interval '1 h'"):
        job = world.enqueue()
        world.sql("UPDATE assayline.jobs SET state = 'queued', not_before = now() + " + at + " WHERE id = %s", job)
        world.sql("INSERT INTO assayline.due SELECT provider, lane, model, tenant, analysis, priority, id"
                  " FROM assayline.jobs WHERE id = %s", job)  # fmt: skip
        world.sql("INSERT INTO assayline.later SELECT not_before, id FROM assayline.jobs WHERE id = %s", job)
        world.sql("UPDATE assayline.jobs SET state = 'scheduled' WHERE id = %s", job)
        assert world.job(job)["state"] == "scheduled"


def told(database_url: str) -> tuple[Verdict, str]:
    """What doctor says of the tables of waiting jobs."""
    with connected(database_url) as link:
        [one] = [found for found in work.examine(link, None) if found.subject == "waiting jobs"]
    return one.verdict, one.said


async def test_what_waits_is_mended_after_a_month_came_or_went(
    world: JobWorld, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    due, later = world.enqueue(), world.enqueue(not_before=soon(3600))
    before = {table: world.sql(f"SELECT * FROM assayline.{table}") for table in ("due", "later")}
    world.sql("DELETE FROM assayline.due")
    world.sql("UPDATE assayline.later SET job_id = assayline.uuid7()")
    world.sql("INSERT INTO assayline.due VALUES ('one', 'bulk', 'small', 'x', 'quick', 5, assayline.uuid7())")
    monkeypatch.setattr("ops.cli.doctor.work.COUNTED_FOR_S", 600)
    assert told(database_url) == (Verdict.GOOD, "2, each where a release finds it"), "as many, and not the same"
    world.sql("DELETE FROM assayline.due")
    assert told(database_url) == (Verdict.WRONG, "1 scheduled jobs are neither in due nor in later: none is released")
    world.sql("INSERT INTO assayline.due SELECT 'one', 'bulk', 'small', 'x', 'quick', n, assayline.uuid7()"
              " FROM generate_series(1, 2) n")  # fmt: skip
    assert told(database_url) == (Verdict.ODD, "1 rows of due and later have no scheduled job")
    assert world.sql("SELECT * FROM assayline.mend_waiting()") == [{"gone": 3, "come": 2}]
    await world.dispatcher().promote()
    assert {table: world.sql(f"SELECT * FROM assayline.{table}") for table in ("due", "later")} == before
    assert world.sql("SELECT * FROM assayline.mend_waiting()") == [{"gone": 0, "come": 0}]
    assert {row["job_id"] for rows in before.values() for row in rows} == {due, later}


# Other people's transactions -----------------------------------------------------------------------------------------


async def test_doctor_names_who_holds_up_all_releases(
    world: JobWorld, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        connected(database_url) as link,
        suppress(psycopg.errors.AdminShutdown),
        psycopg.connect(database_url, application_name="psql") as somebody,
    ):
        assert [one.verdict for one in transactions.examine(link)] == [Verdict.GOOD]
        somebody.execute("SELECT assayline.pause('tenant', 'acme')")
        assert [one.verdict for one in transactions.examine(link)] == [Verdict.GOOD], "it has just begun"
        monkeypatch.setattr(transactions, "PAUSING_S", 0.0)
        [one] = transactions.examine(link)
        assert one.verdict is Verdict.WRONG
        assert "(psql) from" in one.said
        assert "nothing is released" in one.said
        world.enqueue()
        await world.worker()
        assert await world.dispatcher().release("one") == -1, "and so it is"
        link.execute(one.mend.removeprefix("in psql: "))
        assert [one.verdict for one in transactions.examine(link)] == [Verdict.GOOD]
    assert await world.dispatcher().release("one") == 1


def test_doctor_names_a_transaction_that_has_been_open_for_long(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(database_url) as link, psycopg.connect(database_url) as somebody:
        somebody.execute("SELECT 1")
        monkeypatch.setattr(transactions, "LONG_S", 0.0)
        [one] = transactions.examine(link)
        assert one.verdict is Verdict.ODD
        assert "has had one open for 0 h 0 min" in one.said
        somebody.rollback()
        assert [one.verdict for one in transactions.examine(link)] == [Verdict.GOOD]


def test_doctor_says_what_it_may_not_see() -> None:
    hidden = {"pid": 7, "role": "other", "application": "", "at": None, "open_s": None, "pauses": False}
    [one] = transactions.transactions([hidden, hidden])
    assert one.verdict is Verdict.GOOD
    assert "2 sessions of other roles are hidden" in one.said
    [one] = transactions.transactions([hidden | {"pauses": True}])
    assert one.verdict is Verdict.WRONG
    older = hidden | {"open_s": 7_500.0, "application": "report"}
    [one] = transactions.transactions([older, older | {"open_s": 4_000.0}, hidden | {"open_s": 3.0}])
    assert one.said == "other (report) has had one open for 2 h 5 min, and 1 more for over an hour"


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
    waiting = {"kind": "tenant", "name": "acme", "paused": True, "waiting_again": 1, "held": 0}
    assert (code, json.loads(out)) == (0, waiting)
    code, out, _ = await said("pause")
    assert out.startswith("tenant acme  since 20")
    assert out.rstrip().endswith("checked")
    code, _, err = await said("pause", "provider", "nobody")
    assert code == 3
    assert "no provider 'nobody'; there are claude, " in err
    assert ", one, " in err
    code, out, _ = await said("pause", "provider", "openai")
    assert (code, out) == (0, "provider openai is paused\n"), "it may be stopped before it gets its key"
    assert (await said("resume", "provider", "openai"))[0] == 0
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


async def test_times_are_told_in_utc_whatever_the_server_s_zone_is(
    world: JobWorld, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = urlsplit(database_url).path.removeprefix("/")
    world.sql(f"ALTER DATABASE {name} SET timezone TO 'Europe/Berlin'")
    world.sql("INSERT INTO assayline.pauses VALUES ('tenant', 'two words', 'their bill', '2026-07-01 10:30:00+00')")
    monkeypatch.setenv("ASSAYLINE_DATABASE_URL", database_url)
    await asyncio.to_thread(run, "pause")
    assert capsys.readouterr().out == "tenant two words  since 2026-07-01 10:30:00 UTC  their bill\n"
    await asyncio.to_thread(run, "pause", "--json")
    assert json.loads(capsys.readouterr().out)["since"] == "2026-07-01T10:30:00+00:00"
    with connected(database_url) as link:
        [zone] = link.execute("SHOW timezone").fetchall()
        assert zone["TimeZone"] == "Europe/Berlin"
        [paused] = [one for one in work.examine(link, None) if one.subject == "tenant two words"]
    assert (paused.verdict, paused.said) == (Verdict.ODD, "paused since 2026-07-01 10:30 UTC: their bill")
    assert paused.mend == "assayline resume tenant 'two words'"
