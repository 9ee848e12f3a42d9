"""The dispatcher on a real Postgres: what it releases, what it repeats, whom it rescues, and what it survives."""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy
from jobworld import ANALYSES, MODELS, PROVIDERS, JobWorld, job_world

from tasks.dispatch import Dispatcher
from tasks.dispatch_policy import Policy
from tasks.engine import create_engine
from tasks.mirror import MirroredAnalysis, mirror
from tasks.poison import Suspicion
from tasks.rescue import LONGEST_GAP_S
from tasks.sql import statement
from tasks.states import State
from tasks.store import UNHELD_AFTER_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tasks.job import Released

NEVER_POLLS = Policy(poll_s=3600.0)
SOON_S = 30.0
"""Longest a test waits for what should take milliseconds: on a loaded machine it fails late, never falsely."""


LISTENERS = """
    SELECT FROM pg_stat_activity
     WHERE datname = current_database() AND starts_with(query, 'LISTEN') AND state = 'idle'
"""


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as world:
        yield world


@asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[asyncio.Task[None]]:
    """Run the dispatcher until the body ends; raises whatever it died of."""
    stop = asyncio.Event()
    task = asyncio.create_task(dispatcher.run(stop))
    try:
        yield task
    finally:
        stop.set()
        await task
        # psycopg closes a connection whose opening was cancelled when it is collected. Until then Postgres waits for a
        # password, and to drop the database waits for Postgres: for a minute.
        gc.collect()


def many(world: JobWorld, count: int, analysis: str = "quick", **options: Any) -> list[UUID]:
    return [world.enqueue(analysis, **options) for _ in range(count)]


def states(world: JobWorld) -> dict[str, int]:
    rows = world.sql("SELECT state, count(*) AS n FROM assayline.jobs GROUP BY state")
    return {row["state"]: row["n"] for row in rows}


async def listening(world: JobWorld) -> None:
    """Wait until some connection of this database listens."""
    async with asyncio.timeout(SOON_S):
        while not world.sql(LISTENERS):  # noqa: ASYNC110  Postgres tells nobody who listens
            await asyncio.sleep(0.01)


# The release rule -------------------------------------------------------------------------------------------------


async def test_without_live_slots_nothing_is_released(world: JobWorld) -> None:
    many(world, 3)
    assert await world.dispatcher().release("one") == 0
    world.kill(await world.worker())
    await world.worker(providers=("two",))
    assert await world.dispatcher().release("one") == 0


@pytest.mark.parametrize(
    ("slots", "room"), [(1, 5), (4, 8), (16, 20), (17, 22), (40, 50)], ids=lambda number: str(number)
)
async def test_an_interactive_queue_holds_the_slots_and_a_quarter_or_four(
    world: JobWorld, slots: int, room: int
) -> None:
    many(world, room + 2)
    await world.worker(slots)
    assert await world.dispatcher().release("one") == room
    assert await world.dispatcher().release("one") == 0
    assert states(world) == {"queued": room, "scheduled": 2}


async def test_the_slots_of_all_living_workers_count(world: JobWorld) -> None:
    many(world, 30)
    await world.worker(8)
    await world.worker(8, providers=("one",))
    assert await world.dispatcher().release("one") == 20


@pytest.mark.parametrize(("slots", "room"), [(1, 1), (2, 1), (10, 8), (19, 15)])
async def test_bulk_takes_four_fifths_of_the_slots(world: JobWorld, slots: int, room: int) -> None:
    many(world, room + 2, "slow")
    await world.worker(slots)
    assert await world.dispatcher().release("one") == room
    assert await world.dispatcher().release("one") == 0


async def test_full_of_bulk_there_is_room_for_interactive(world: JobWorld) -> None:
    many(world, 12, "slow")
    await world.worker(10)
    assert await world.dispatcher().release("one") == 8
    many(world, 9)
    assert await world.dispatcher().release("one") == 6
    assert [m.lane for m in world.broker.take()] == ["bulk"] * 8 + ["interactive"] * 6


async def test_interactive_goes_before_bulk_in_the_room_they_share(world: JobWorld) -> None:
    many(world, 5, "slow")
    many(world, 12)
    await world.worker(10)
    assert await world.dispatcher().release("one") == 14
    lanes = [m.lane for m in world.broker.take()]
    assert lanes == ["interactive"] * 12 + ["bulk"] * 2


async def test_what_ends_makes_room(world: JobWorld) -> None:
    many(world, 7)
    incarnation = await world.worker(1)
    assert await world.dispatcher().release("one") == 5
    for message in world.broker.take()[:2]:
        await world.runner(incarnation).run(message.id, message.release, "one")
    assert await world.dispatcher().release("one") == 2


async def test_one_pass_releases_no_more_than_its_policy_says(world: JobWorld) -> None:
    many(world, 10)
    await world.worker(100)
    assert await world.dispatcher(Policy(most_per_pass=7)).release("one") == 7


async def test_the_urgent_go_first_and_then_the_longest_due(world: JobWorld) -> None:
    def due(hours_ago: int, priority: int) -> UUID:
        return world.enqueue(priority=priority, not_before=(datetime.now(UTC) - timedelta(hours=hours_ago)).isoformat())

    late_low, fresh_low, late_high, fresh_high = due(9, 9), due(1, 9), due(5, 0), due(3, 0)
    middle = world.enqueue()
    await world.worker(4)
    dispatcher = world.dispatcher(Policy(most_per_pass=3))
    await dispatcher.release("one")
    assert [m.id for m in world.broker.take()] == [late_high, fresh_high, middle]
    await dispatcher.release("one")
    assert [m.id for m in world.broker.take()] == [late_low, fresh_low]


async def test_only_what_is_due_is_released(world: JobWorld) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    job = world.enqueue(not_before=later)
    await world.worker()
    assert await world.dispatcher().release("one") == 0
    world.sql("UPDATE assayline.jobs SET not_before = now()")
    assert await world.dispatcher().release("one") == 1
    assert world.job(job)["queued_at"] is not None


async def test_what_nobody_wants_any_more_expires_instead(world: JobWorld) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    gone, wanted = world.enqueue(expires_at=soon), world.enqueue(expires_at=soon)
    world.sql("UPDATE assayline.jobs SET expires_at = now() - interval '1 s' WHERE id = %s", gone)
    await world.worker()
    await world.dispatcher().release("one")
    assert [m.id for m in world.broker.take()] == [wanted]
    row = world.job(gone)
    assert (row["state"], row["reason"]) == (State.EXPIRED, "expire_scheduled")
    assert row["finished_at"] is not None


async def test_expiry_needs_no_worker_and_touches_nothing_else(world: JobWorld) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    _, claim = await world.claimed(expires_at=soon)
    gone, kept = world.enqueue(expires_at=soon), world.enqueue()
    world.sql("UPDATE assayline.jobs SET expires_at = now() - interval '1 s' WHERE expires_at IS NOT NULL")
    world.sql("DELETE FROM assayline.workers")
    assert await world.dispatcher().expire() == 1
    assert [world.job(job)["state"] for job in (gone, kept, claim.id)] == ["expired", "scheduled", "running"]


async def test_two_dispatchers_at_once_never_release_too_much_nor_twice(world: JobWorld, database_url: str) -> None:
    jobs = many(world, 60)
    await world.worker(40)
    engines = [create_engine(database_url, pool_size=2) for _ in range(2)]
    try:
        pair = [world.dispatcher(Policy(most_per_pass=3), engine=engine) for engine in engines]
        while sum(max(0, n) for n in await asyncio.gather(*[d.release("one") for d in pair * 3])):
            pass
    finally:
        for engine in engines:
            await engine.dispose()
    released = [(m.id, m.release) for m in world.broker.take()]
    assert len(released) == len(set(released)) == 50
    assert {release for _, release in released} == {1}
    assert {job for job, _ in released} <= set(jobs)
    assert states(world) == {"queued": 50, "scheduled": 10}


async def test_who_finds_the_lock_taken_says_so_and_does_nothing(world: JobWorld) -> None:
    world.enqueue()
    await world.worker()
    with world.link.transaction():
        world.sql("SELECT pg_advisory_xact_lock(hashtextextended('assayline.release.one', 0))")
        assert await world.dispatcher().release("one") == -1
        assert await world.dispatcher().release("two") == 0
    assert await world.dispatcher().release("one") == 1


async def test_a_row_that_somebody_holds_is_passed_over(world: JobWorld) -> None:
    held, free = world.enqueue(), world.enqueue()
    await world.worker()
    with world.link.transaction():
        world.sql("SELECT FROM assayline.jobs WHERE id = %s FOR UPDATE", held)
        await world.dispatcher().release("one")
        assert [m.id for m in world.broker.take()] == [free]


# Publishing again -------------------------------------------------------------------------------------------------


async def test_what_could_not_be_published_goes_out_again_with_a_new_number(world: JobWorld) -> None:
    """Committed as `queued`, then the broker was away: 15 s later, then 30, then 60, each time a new number."""
    job = world.enqueue()
    incarnation = await world.worker()
    dispatcher = world.dispatcher()
    world.broker.away = True
    with pytest.raises(OSError, match="away"):
        await dispatcher.release("one")
    assert (world.job(job)["state"], world.job(job)["release"]) == ("queued", 1)

    world.broker.away = False
    for copies, wait_s in ((1, 15), (2, 30), (3, 60)):
        assert world.job(job)["copies"] == copies
        world.sql("UPDATE assayline.jobs SET queued_at = clock_timestamp() - make_interval(secs => %s)", wait_s - 2)
        assert await dispatcher.republish() == 0
        world.sql("UPDATE assayline.jobs SET queued_at = clock_timestamp() - make_interval(secs => %s)", wait_s + 1)
        assert await dispatcher.republish() == 1
    messages = world.broker.take()
    assert [m.release for m in messages] == [2, 3, 4]
    assert [await world.claim(incarnation, m) is not None for m in messages] == [False, False, True]


async def test_the_wait_between_copies_grows_no_further_than_an_hour(world: JobWorld) -> None:
    await world.released()
    world.sql("UPDATE assayline.jobs SET copies = 30000, queued_at = now() - interval '65 min'")
    assert await world.dispatcher().republish() == 1


async def test_an_expired_job_is_not_published_again(world: JobWorld) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await world.released(expires_at=soon)
    world.sql("UPDATE assayline.jobs SET queued_at = now() - interval '1 h', expires_at = now() - interval '1 s'")
    assert await world.dispatcher().republish() == 0


# Rescue -----------------------------------------------------------------------------------------------------------


async def test_the_jobs_of_the_dead_are_rescued_and_of_the_living_left(world: JobWorld) -> None:
    dead, lost = await world.claimed()
    _, safe = await world.claimed()
    world.kill(dead)
    assert await world.rescuer().rescue() == 1
    assert [world.job(job)["state"] for job in (lost.id, safe.id)] == ["scheduled", "running"]


async def test_a_worker_without_a_row_is_dead(world: JobWorld) -> None:
    incarnation, claim = await world.claimed()
    await world.store.retire(incarnation)
    assert await world.rescuer().rescue() == 1
    assert world.job(claim.id)["causes"][0]["error"] == "worker_lost"


async def test_an_overdue_attempt_is_rescued_from_a_living_worker(world: JobWorld) -> None:
    _, claim = await world.claimed()
    world.sql("UPDATE assayline.jobs SET lease_until = now() - interval '1 s'")
    assert await world.dispatcher().rescue() == 1
    assert world.job(claim.id)["causes"][0]["error"] == "attempt_overdue"


async def test_with_its_attempts_spent_a_lost_job_is_a_dead_letter_with_every_cause(world: JobWorld) -> None:
    job = world.enqueue(max_attempts=2)
    for _ in range(2):
        incarnation = await world.worker()
        await world.dispatcher().release("one")
        assert await world.claim(incarnation, *world.broker.take()) is not None
        world.kill(incarnation)
        assert await world.rescuer().rescue() == 1
    row = world.job(job)
    assert (row["state"], row["reason"], row["attempts_used"]) == ("failed", "bury", 2)
    assert [(why["move"], why["claim_no"]) for why in row["causes"]] == [("rescue", 1), ("bury", 2)]
    assert world.outcomes(job) == [(1, 1, "unknown"), (2, 1, "unknown")]


async def test_a_server_that_has_just_started_takes_nobody_for_dead(world: JobWorld) -> None:
    """The living could not send a heartbeat while it was down. Here: dead after longer than any server has been up."""
    incarnation, claim = await world.claimed()
    world.sql("UPDATE assayline.workers SET heartbeat_at = now() - interval '200 years'")
    a_century_s = 100 * 365 * 86_400.0
    assert await world.dispatcher(Policy(dead_after_s=a_century_s)).rescue() == 0
    world.sql("UPDATE assayline.jobs SET lease_until = now() - interval '1 s'")
    assert await world.dispatcher(Policy(dead_after_s=a_century_s)).rescue() == 1
    assert world.job(claim.id)["incarnation"] == incarnation.id


async def test_two_rescuers_at_once_rescue_a_job_once(world: JobWorld) -> None:
    incarnation, claim = await world.claimed()
    world.kill(incarnation)
    assert sum(await asyncio.gather(*[world.rescuer().rescue() for _ in range(4)])) == 1
    assert len(world.job(claim.id)["causes"]) == 1


# The running dispatcher -------------------------------------------------------------------------------------------


async def test_an_interactive_job_wakes_the_dispatcher(world: JobWorld) -> None:
    """It polls once an hour here: only the notification can have brought the message."""
    await world.worker()
    async with running(world.dispatcher(NEVER_POLLS)):
        await listening(world)
        job = world.enqueue()
        async with asyncio.timeout(SOON_S):
            await world.broker.published.wait()
    assert [m.id for m in world.broker.take()] == [job]


async def test_a_bulk_job_is_found_by_the_poll(world: JobWorld) -> None:
    await world.worker()
    async with running(world.dispatcher(Policy(poll_s=0.05, listen=False))):
        job = world.enqueue("slow")
        async with asyncio.timeout(SOON_S):
            await world.broker.published.wait()
    assert [m.id for m in world.broker.take()] == [job]


async def test_a_rescued_job_is_released_without_waiting_for_the_poll(world: JobWorld) -> None:
    incarnation, claim = await world.claimed()
    world.kill(incarnation)
    await world.worker()
    async with running(world.dispatcher(Policy(poll_s=3600.0, dead_after_s=1.0))):
        async with asyncio.timeout(SOON_S):
            await world.broker.published.wait()
    assert [(m.id, m.release) for m in world.broker.take()] == [(claim.id, 2)]


async def test_a_provider_that_is_woken_all_the_time_does_not_starve_the_others(world: JobWorld) -> None:
    """A job of `one` with each breath; a job of `two` that only a poll can find."""
    await world.worker(1000)
    waiting = world.enqueue("slow", provider="two")
    dispatcher = world.dispatcher(Policy(poll_s=0.2))
    world.sql("UPDATE assayline.jobs SET not_before = clock_timestamp() + interval '0.4 s' WHERE id = %s", waiting)
    found: list[Released] = []
    async with running(dispatcher), asyncio.timeout(SOON_S):
        await listening(world)
        while not any(m.id == waiting for m in found):
            world.enqueue()
            await world.broker.published.wait()
            found += world.broker.take()
    assert {m.provider for m in found} == {"one", "two"}


async def test_postgres_may_go_and_come_back(world: JobWorld) -> None:
    """All its connections are cut, the listening one too; what is enqueued afterwards goes out all the same."""
    await world.worker(100)
    policy = Policy(poll_s=0.05, republish_every_s=0.05, rescue_every_s=0.05, expire_every_s=0.05)
    async with running(world.dispatcher(policy)) as task:
        await listening(world)
        for _ in range(2):
            world.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'assayline'"
            )
            job = world.enqueue()
            async with asyncio.timeout(SOON_S):
                await world.broker.published.wait()
            assert [m.id for m in world.broker.take()] == [job]
            await listening(world)
            assert not task.done()


async def test_the_broker_may_go_and_come_back(world: JobWorld) -> None:
    await world.worker()
    world.broker.away = True
    job = world.enqueue()
    policy = Policy(poll_s=0.02, republish_every_s=0.02)
    async with running(world.dispatcher(policy)) as task, asyncio.timeout(SOON_S):
        await world.broker.refused.wait()
        assert world.job(job)["state"] == "queued"
        world.broker.away = False
        world.sql("UPDATE assayline.jobs SET queued_at = now() - interval '1 min'")
        await world.broker.published.wait()
        assert not task.done()
    assert [(m.id, m.release) for m in world.broker.take()] == [(job, 2)]


async def test_an_error_of_ours_is_told_and_the_rest_goes_on(world: JobWorld, caplog: pytest.LogCaptureFixture) -> None:
    """One message that nobody can publish must not stop every provider."""
    mended = asyncio.Event()

    class Broken:
        tried = asyncio.Event()

        async def publish(self, messages: Sequence[Released]) -> None:
            if not mended.is_set():
                self.tried.set()
                raise KeyError("a mistake")
            await world.broker.publish(messages)

    job = world.enqueue()
    await world.worker()
    dispatcher = Dispatcher(world.engine, Broken(), PROVIDERS, Policy(poll_s=0.01, republish_every_s=0.01))
    async with running(dispatcher) as task, asyncio.timeout(SOON_S):
        await Broken.tried.wait()
        mended.set()
        await world.broker.published.wait()
        while "a fault of ours" not in caplog.text:  # noqa: ASYNC110  perhaps another chore has published it meanwhile
            await asyncio.sleep(0.01)
        assert not task.done()
    assert next(m.id for m in world.broker.take()) == job


async def test_what_was_not_published_goes_out_at_once_when_the_broker_is_back(world: JobWorld) -> None:
    """However often it was tried meanwhile: the wait must not have doubled with each try."""
    job = world.enqueue()
    await world.worker()
    world.broker.away = True
    dispatcher = world.dispatcher()
    with pytest.raises(ConnectionResetError):
        await dispatcher.release("one")
    for _ in range(5):
        with pytest.raises(ConnectionResetError):
            await dispatcher.republish()
    world.broker.away = False
    assert await dispatcher.republish() == 1
    assert [m.id for m in world.broker.take()] == [job]


async def test_without_rescue_there_is_no_rescue(world: JobWorld) -> None:
    """The switch by which a bench shows what rescue is worth."""
    names = set(world.dispatcher(Policy(rescue=False))._chores())
    assert names == {"republish", "expire", "replay"}
    assert set(world.dispatcher()._chores()) == names | {"rescue"}


async def test_what_goes_well_is_told_and_what_does_not_is_tried_again(world: JobWorld) -> None:
    passed: list[str] = []
    policy = Policy(poll_s=0.01, republish_every_s=0.01)
    dispatcher = Dispatcher(world.engine, world.broker, PROVIDERS, policy, passed=passed.append)
    failed = asyncio.Event()

    async def fails() -> int:
        if len(passed) > 20:
            failed.set()
        raise sqlalchemy.exc.ProgrammingError("SELECT", {}, Exception("no such column"))

    dispatcher.republish = fails  # type: ignore[method-assign]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(dispatcher.run(stop))
        async with asyncio.timeout(10.0):
            await failed.wait()
        stop.set()
    assert set(passed) == set(policy.periods_s(PROVIDERS)) - {"republish"}


# The mirror -------------------------------------------------------------------------------------------------------


async def test_the_mirror_shows_this_catalog_and_no_other(world: JobWorld) -> None:
    new = [MirroredAnalysis("new", ("two/large",), "bulk", 7), MirroredAnalysis("idle", (), "bulk", 1)]
    await mirror(world.engine, new, ["two/large"])
    rows = world.sql("SELECT * FROM assayline.catalog_analyses ORDER BY name")
    assert [tuple(row.values()) for row in rows] == [("idle", [], "bulk", 1), ("new", ["two/large"], "bulk", 7)]
    assert world.sql("SELECT name FROM assayline.catalog_models") == [{"name": "two/large"}]
    await mirror(world.engine, [], [])
    assert (
        world.sql("SELECT FROM assayline.catalog_analyses") == world.sql("SELECT FROM assayline.catalog_models") == []
    )


async def test_while_one_mirrors_the_other_waits_and_readers_see_a_whole_catalog(world: JobWorld) -> None:
    await asyncio.gather(*[mirror(world.engine, ANALYSES, MODELS) for _ in range(4)])
    assert len(world.sql("SELECT FROM assayline.catalog_analyses")) == len(ANALYSES)
    with world.link.transaction():
        world.sql("DELETE FROM assayline.catalog_analyses")
        other = await asyncio.to_thread(_enqueue_elsewhere, world)
    assert world.job(other)["state"] == "scheduled"
    await mirror(world.engine, ANALYSES, MODELS)


def _enqueue_elsewhere(world: JobWorld) -> UUID:
    with psycopg.connect(world.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)) as link:
        [found] = link.execute("SELECT job_id FROM assayline_enqueue('quick', 'x')").fetchall()
    return UUID(str(found[0]))


# History ----------------------------------------------------------------------------------------------------------


RECURRING = ("divert", "republish", "look_for_lost", "rescue", "expire", "hand_back", "unheld", "forget_workers")


async def test_no_recurring_statement_reads_what_has_ended(world: JobWorld) -> None:
    """Of 3,000 jobs that have ended and a few that have not, only the few are visited, by a partial index."""
    world.sql("SELECT (assayline_enqueue('slow', n::text)).job_id FROM generate_series(1, 3000) n")
    world.sql("UPDATE assayline.jobs SET state = 'succeeded'")
    many(world, 5)
    world.sql("VACUUM ANALYZE assayline.jobs")
    month = f"jobs_{datetime.now(UTC):%Y_%m}"
    for name in RECURRING:
        plan = [line for line in await explained(world, name) if month in line]
        assert [line for line in plan if "Seq Scan" in line] == [], name
        assert [line for line in plan if "Index" in line], name


async def test_a_release_reads_no_more_for_what_has_ended(world: JobWorld) -> None:
    """Its statements are inside a function, whose plans are not shown: the blocks they read are."""
    await world.worker()
    world.sql("SELECT (assayline_enqueue('slow', n::text)).job_id FROM generate_series(1, 3000) n")
    world.sql("UPDATE assayline.jobs SET state = 'succeeded'")
    world.sql("VACUUM ANALYZE assayline.jobs")
    read, _ = await world.blocks_of_a_release()
    assert read < 50


FIRST_DUE = """
SELECT job_id FROM assayline.due ORDER BY provider, lane, model, tenant, analysis, priority, job_id LIMIT 1
"""


async def test_what_is_dead_in_front_is_read_by_one_look(world: JobWorld, database_url: str) -> None:
    """A transaction that is open keeps it there; see ADR 16."""
    await world.worker(slots=4)
    with psycopg.connect(database_url) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        world.sql("SELECT (assayline_enqueue('slow', n::text)).job_id FROM generate_series(1, 10020) n")
        reader.execute("SELECT count(*) FROM assayline.due")
        first = "SELECT id FROM assayline.jobs ORDER BY id LIMIT 10000"
        world.sql(f"UPDATE assayline.jobs SET state = 'succeeded' WHERE id IN ({first})")
        [look] = world.sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {FIRST_DUE}")
        read, _ = await world.blocks_of_a_release()
    plan = look["QUERY PLAN"][0]["Plan"]
    assert read < 2 * (plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def test_a_release_from_a_great_backlog_needs_no_files(world: JobWorld) -> None:
    """The planner must not make billions of a million rows, and hashes of billions."""
    await world.worker(slots=2000)
    world.sql("SELECT (assayline_enqueue('slow', n::text)).job_id FROM generate_series(1, 1500) n")
    world.sql("VACUUM ANALYZE assayline.due")
    world.sql("UPDATE pg_class SET reltuples = 1000000 * relpages WHERE oid = 'assayline.due'::regclass")
    _, written = await world.blocks_of_a_release()
    assert written == 0


async def explained(world: JobWorld, name: str) -> list[str]:
    policy = Policy()
    parameters = {
        "provider": "one",
        "lane": "bulk",
        "groups": "[]",
        "target": "two",
        "group": json.dumps({"models": None, "others": []}),
        "out": json.dumps([{"provider": "one", "models": None, "others": []}]),
        "spare": json.dumps([{"models": None, "jobs": 5}]),
        "behind": "{}",
        "looked": 200,
        "move": "fallback",
        "error": "unreachable",
        "message": "gone",
        "most": policy.most_per_pass,
        "backlog_share": policy.backlog_share,
        "least_backlog": policy.least_backlog,
        "bulk_share": policy.bulk_share,
        "dead_after_s": policy.dead_after_s,
        "republish_after_s": policy.republish_after_s,
        "incarnation": UUID(int=0),
        "providers": ["one"],
        "ends": "[]",
        "every": True,
        "answerless": [],
        "looked_at": datetime.now(UTC),
        "longest_gap_s": LONGEST_GAP_S,
        "jobs": [],
        "claims": [],
        "unheld_after_s": UNHELD_AFTER_S,
        **asdict(Suspicion()),
    }
    text = statement(name).text
    used = {key: value for key, value in parameters.items() if f":{key}" in text}
    async with world.engine.connect() as connection:
        rows = await connection.execute(sqlalchemy.text(f"EXPLAIN {text}"), used)
        return [str(line) for line in rows.scalars()]
