"""Cancelling on a real Postgres: who is told, what a filter means, and how many jobs go in portions."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from jobworld import JobWorld, job_world
from psycopg.types.json import Jsonb

from tasks.listen import ENDED, listen, worker_channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

PORTION = 3
HOUR = timedelta(hours=1)
OPEN = ("scheduled", "queued", "running")


@pytest.fixture
def database_url(emptied_database_url: str) -> str:
    return emptied_database_url


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as world:
        yield world


@contextmanager
def listening(database_url: str, *channels: str) -> Iterator[Callable[[], list[tuple[str, str]]]]:
    """Hear some channels; the function tells (channel, payload) of all that was committed until then."""
    with psycopg.connect(database_url, autocommit=True) as link:
        for channel in channels:
            link.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))

        def heard() -> list[tuple[str, str]]:
            link.execute("SELECT pg_notify(%s, 'end')", (channels[0],))
            told: list[tuple[str, str]] = []
            for notice in link.notifies(timeout=30):
                if notice.payload == "end":
                    return told
                told.append((notice.channel, notice.payload))
            raise AssertionError("the end was never heard")

        yield heard


def cancel_all(world: JobWorld, filter: dict[str, Any], most: int = PORTION) -> list[dict[str, Any]]:  # noqa: A002
    """Every portion of a filter, in turn."""
    portions = [world.cancel_jobs(filter, most)]
    while portions[-1]["reached"] is not None:
        portions.append(world.cancel_jobs(filter, most, portions[-1]["reached"]))
    return portions


def standing(world: JobWorld) -> dict[UUID, str]:
    return {row["id"]: row["state"] for row in world.sql("SELECT id, state FROM assayline.jobs")}


# Who is told ------------------------------------------------------------------------------------------------------


async def test_the_worker_that_runs_it_is_told_under_which_claim(world: JobWorld, database_url: str) -> None:
    incarnation, claim = await world.claimed()
    other = await world.worker()
    with listening(database_url, worker_channel(incarnation.id), worker_channel(other.id), ENDED) as heard:
        assert world.cancel(claim.id) == "cancelled"
        assert sorted(heard()) == [
            (ENDED, f"cancelled {claim.id}"),
            (worker_channel(incarnation.id), f"cancel {claim.id} {claim.claim_no}"),
        ]
        assert world.cancel(claim.id) == "cancelled"
        assert heard() == [], "it had ended"


async def test_of_a_job_that_waits_no_worker_is_told(world: JobWorld, database_url: str) -> None:
    """Though one has run it before, and its row still names that one."""
    incarnation, claim = await world.claimed()
    await world.store.hand_back(incarnation, [])
    with listening(database_url, worker_channel(incarnation.id), ENDED) as heard:
        world.cancel(claim.id)
        assert heard() == [(ENDED, f"cancelled {claim.id}")]


async def test_nobody_is_told_before_the_commit(world: JobWorld, database_url: str) -> None:
    incarnation, claim = await world.claimed()
    with listening(database_url, worker_channel(incarnation.id)) as heard, psycopg.connect(database_url) as link:
        link.execute("SELECT assayline_cancel(%s)", (claim.id,))
        assert heard() == []
        link.rollback()
        assert heard() == []
        link.execute("SELECT assayline_cancel(%s)", (claim.id,))
        link.commit()
        assert len(heard()) == 1


async def test_of_many_the_ends_are_told_in_few_words(world: JobWorld, database_url: str) -> None:
    jobs = [world.enqueue("slow") for _ in range(450)]
    with listening(database_url, ENDED) as heard:
        world.cancel_jobs({"analysis": "slow"})
        told = [payload.split(" ") for _, payload in heard()]
    assert [words[0] for words in told] == ["cancelled"] * 3
    assert sorted(UUID(word) for words in told for word in words[1:]) == sorted(jobs)


async def test_of_a_portion_each_worker_is_told_its_own(world: JobWorld, database_url: str) -> None:
    held = [await world.claimed() for _ in range(2)]
    world.enqueue()
    channels = [worker_channel(incarnation.id) for incarnation, _ in held]
    with listening(database_url, *channels) as heard:
        portion = world.cancel_jobs({"all": True})
        assert sorted(heard()) == sorted(
            (worker_channel(incarnation.id), f"cancel {claim.id} 1") for incarnation, claim in held
        )
    assert (portion["cancelled"], portion["running"]) == (3, 2)


async def test_who_listens_knows_when_it_does(
    world: JobWorld, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two connections nothing is heard, so that one has to look."""
    monkeypatch.setattr("tasks.listen.RECONNECT_S", 0.0)
    said: asyncio.Queue[bool | str] = asyncio.Queue()
    hearing = asyncio.create_task(listen(world.engine, ENDED, said.put_nowait, standing=said.put_nowait))
    assert await said.get() is True
    world.sql("SELECT pg_notify(%s, 'heard')", ENDED)
    assert await said.get() == "heard"
    world.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'"
        " AND datname = current_database()"
    )
    assert await said.get() is False
    assert await said.get() is True
    hearing.cancel()
    await asyncio.wait([hearing])
    assert await said.get() is False


# What a heartbeat finds -------------------------------------------------------------------------------------------


async def test_a_heartbeat_says_which_claims_are_lost(world: JobWorld) -> None:
    incarnation, kept = await world.claimed()
    _, cancelled = await world.claimed()
    dead, taken = await world.claimed()
    world.cancel(cancelled.id)
    world.kill(dead)
    assert await world.rescuer().rescue() == 1
    held = [(taken.id, 1), (kept.id, 1), (uuid4(), 1), (cancelled.id, 1), (kept.id, 2)]
    beat = await world.store.heartbeat(incarnation, held=held)
    assert (beat.fresh, beat.lost) == (False, (held[0], held[2], held[3], held[4]))
    assert (await world.store.heartbeat(incarnation)).lost == ()


async def test_a_job_that_came_back_is_lost_to_its_earlier_claim(world: JobWorld) -> None:
    """Rescued while its worker was frozen, and claimed again, even by that very worker."""
    frozen, claim = await world.claimed()
    world.kill(frozen)
    await world.rescuer().rescue()
    await world.store.heartbeat(frozen)
    await world.dispatcher().release("one")
    [message] = [m for m in world.broker.take() if m.release > 1]
    again = await world.claim(frozen, message)
    assert again is not None
    beat = await world.store.heartbeat(frozen, held=[(claim.id, claim.claim_no), (again.id, again.claim_no)])
    assert beat.lost == ((claim.id, claim.claim_no),)


# What a filter means ----------------------------------------------------------------------------------------------

FILTERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tenant": ({"tenant": "acme"}, {"tenant": "other"}),
    "analysis": ({"analysis": "slow"}, {"analysis": "quick"}),
    "provider": ({"provider": "two"}, {"provider": "one"}),
    "source": ({"source": "ci"}, {"source": "web"}),
    "subject": ({"subject": "ann"}, {"subject": "bob"}),
    "tag": ({"tags": ["nightly", "x"]}, {"tags": ["x"]}),
    "lane": ({"lane": "bulk"}, {"lane": "interactive"}),
}


def of(world: JobWorld, options: dict[str, Any]) -> UUID:
    options = {"analysis": "quick", **options}
    return world.enqueue(options.pop("analysis"), **options)


@pytest.mark.parametrize("name", FILTERS)
async def test_each_name_of_a_filter_narrows(world: JobWorld, name: str) -> None:
    meant, others = (of(world, options) for options in FILTERS[name])
    value = {"tag": "nightly"}.get(name) or FILTERS[name][0][name]
    counted = world.sql("SELECT * FROM assayline_count_cancellable(%s)", Jsonb({name: value}))
    assert {row["state"]: row["jobs"] for row in counted} == {"scheduled": 1, "queued": 0, "running": 0}
    assert sum(portion["cancelled"] for portion in cancel_all(world, {name: value})) == 1
    assert standing(world) == {meant: "cancelled", others: "scheduled"}
    assert world.job(meant)["reason"] == "cancel_scheduled"


@pytest.mark.parametrize("states", ["scheduled", "queued", "running", ["scheduled", "running"], list(OPEN), None])
async def test_states(world: JobWorld, states: Any) -> None:
    _, claim = await world.claimed()
    queued, _, _ = await world.released()
    waiting = world.enqueue("slow")
    stood = {claim.id: "running", queued: "queued", waiting: "scheduled"}
    assert standing(world) == stood
    named = list(OPEN) if states is None else [states] if isinstance(states, str) else states
    [portion] = cancel_all(world, {"tenant": "default", "state": states}, 10)
    assert standing(world) == {job: "cancelled" if state in named else state for job, state in stood.items()}
    assert (portion["cancelled"], portion["running"]) == (len(named), int("running" in named))
    reasons = {world.job(job)["reason"] for job, state in stood.items() if state in named}
    assert reasons == {f"cancel_{state}" for state in named}


async def test_times(world: JobWorld) -> None:
    """From a time on and before one; written with any offset. A job's id may be a little older than its row."""
    jobs = [world.enqueue("slow") for _ in range(3)]
    began = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for number, job in enumerate(jobs):
        world.sql("UPDATE assayline.jobs SET created_at = %s WHERE id = %s", datetime.now(UTC) - number * HOUR / 4, job)
    now = datetime.now(UTC)
    after, before = (now - 3 * HOUR / 8).isoformat(), (now - HOUR / 8).isoformat()
    cancel_all(world, {"created_after": after, "created_before": before})
    assert standing(world) == {jobs[0]: "scheduled", jobs[1]: "cancelled", jobs[2]: "scheduled"}
    assert cancel_all(world, {"created_before": began.isoformat()})[0]["cancelled"] == 0
    assert cancel_all(world, {"created_before": "0001-01-01T00:00:00Z"})[0]["cancelled"] == 0
    assert cancel_all(world, {"created_after": "0001-01-01T00:00:00+14:00"})[0]["cancelled"] == 2


async def test_all_that_is_named_must_hold(world: JobWorld) -> None:
    meant = world.enqueue("slow", tenant="acme", tags=["a"])
    others = [
        world.enqueue("slow", tenant="acme"),
        world.enqueue("slow", tags=["a"]),
        world.enqueue(tenant="acme", tags=["a"]),
    ]
    [portion] = cancel_all(world, {"tenant": "acme", "analysis": "slow", "tag": "a", "source": None}, 10)
    assert portion["cancelled"] == 1
    assert standing(world) == {meant: "cancelled", **dict.fromkeys(others, "scheduled")}


REFUSED: list[tuple[Any, str]] = [
    ({}, "filter: names nothing, and that would be every job; who wants that says all"),
    ({"tenant": None}, "filter: names nothing"),
    ({"all": False}, "filter: names nothing"),
    ([], "filter: must be an object"),
    (None, "filter: must be an object"),
    ({"all": True, "tenant": "acme"}, "all: means every job"),
    ({"all": "yes"}, "all: must be boolean, not string"),
    ({"tennant": "acme"}, "tennant: is no filter; these are: tenant, analysis, provider, state, source"),
    ({"tenant": ""}, "tenant: 1 to 500 characters"),
    ({"tenant": ["acme"]}, "tenant: must be string, not array"),
    ({"source": "x" * 501}, "source: 1 to 500 characters"),
    ({"lane": "slow"}, "lane: interactive or bulk, not 'slow'"),
    ({"state": "succeeded"}, "state: scheduled, queued or running, not succeeded"),
    ({"state": []}, "state: scheduled, queued or running"),
    ({"state": ["queued", None]}, "state: scheduled, queued or running"),
    ({"state": ["queued", 1]}, "state: scheduled, queued or running"),
    ({"created_after": "yesterday"}, "created_after: must be an ISO 8601 time with its offset"),
    ({"created_before": "2026-01-01T00:00:00"}, "created_before: must be an ISO 8601 time with its offset"),
    ({"created_before": "2026-13-01T00:00:00Z"}, "created_before: must be an ISO 8601 time with its offset"),
    ({"tag": "x" * 500, "state": ["queued"] * 1_000}, "filter: .* bytes, and 10000 is the most"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED, ids=lambda value: json.dumps(value)[:40])
async def test_what_is_no_filter_cancels_nothing(world: JobWorld, given: Any, said: str) -> None:
    job = world.enqueue()
    for statement in ("SELECT assayline_cancel_jobs(%s)", "SELECT * FROM assayline_count_cancellable(%s)"):
        with pytest.raises(psycopg.Error, match=said) as caught:
            world.sql(statement, None if given is None else Jsonb(given))
        assert caught.value.sqlstate == "AL002"
    assert standing(world) == {job: "scheduled"}


@pytest.mark.parametrize("most", [0, -1, 10_001, None])
async def test_a_portion_has_its_bounds(world: JobWorld, most: Any) -> None:
    with pytest.raises(psycopg.Error, match="most: must be a whole number from 1 to 10000"):
        world.sql("SELECT assayline_cancel_jobs(%s, %s)", Jsonb({"all": True}), most)


async def test_a_value_is_never_read_as_sql(world: JobWorld) -> None:
    odd = "'; DROP TABLE assayline.jobs; --"
    meant, other = world.enqueue("slow", tenant=odd), world.enqueue("slow")
    assert cancel_all(world, {"tenant": odd})[0]["cancelled"] == 1
    assert standing(world) == {meant: "cancelled", other: "scheduled"}


# Portions ---------------------------------------------------------------------------------------------------------


async def test_a_portion_is_no_larger_than_it_may_and_the_next_one_goes_on(world: JobWorld) -> None:
    jobs = [world.enqueue("slow") for _ in range(8)]
    ended = [world.enqueue("slow") for _ in range(2)]
    world.sql("UPDATE assayline.jobs SET state = 'failed' WHERE id = ANY(%s)", ended)
    portions = cancel_all(world, {"analysis": "slow"})
    assert [portion["cancelled"] for portion in portions] == [3, 3, 2]
    assert [portion["reached"] for portion in portions] == [jobs[2], jobs[5], None]
    assert standing(world) == {**dict.fromkeys(jobs, "cancelled"), **dict.fromkeys(ended, "failed")}


async def test_a_portion_looks_at_no_more_than_ten_times_as_many(world: JobWorld) -> None:
    """Of a filter that few jobs fit, a portion may cancel none, and still says where to go on."""
    for _ in range(25):
        world.enqueue("slow")
    rare = world.enqueue("slow", tags=["rare"])
    portions = cancel_all(world, {"tag": "rare"}, 1)
    assert [portion["cancelled"] for portion in portions] == [0, 0, 1, 0]
    assert standing(world)[rare] == "cancelled"


async def test_the_history_before_the_oldest_open_job_is_not_read(world: JobWorld) -> None:
    for _ in range(30):
        world.enqueue("slow")
    world.sql("UPDATE assayline.jobs SET state = 'succeeded'")
    job = world.enqueue("slow")
    portions = cancel_all(world, {"analysis": "slow"}, 1)
    assert portions[0]["cancelled"] == 1
    assert standing(world)[job] == "cancelled"
    assert cancel_all(world, {"analysis": "slow"}, 1) == [{"cancelled": 0, "running": 0, "held": 0, "reached": None}]


async def test_what_others_hold_is_passed_by_and_found_the_next_time(world: JobWorld, database_url: str) -> None:
    """A web app's open transaction holds a job: nobody waits for it, and nothing of the rest waits either."""
    first, held, last = (world.enqueue("slow") for _ in range(3))
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM assayline.jobs WHERE id = %s FOR UPDATE", (held,))
        [portion] = cancel_all(world, {"analysis": "slow"}, 10)
        assert (portion["cancelled"], portion["held"], portion["reached"]) == (2, 1, None)
        assert standing(world) == {first: "cancelled", held: "scheduled", last: "cancelled"}
    [portion] = cancel_all(world, {"analysis": "slow"}, 10)
    assert (portion["cancelled"], portion["held"]) == (1, 0)


async def test_jobs_that_come_meanwhile_come_last(world: JobWorld) -> None:
    for _ in range(4):
        world.enqueue("slow")
    portion = world.cancel_jobs({"analysis": "slow"}, PORTION)
    late = world.enqueue("slow")
    assert world.cancel_jobs({"analysis": "slow"}, PORTION, portion["reached"])["cancelled"] == 2
    assert standing(world)[late] == "cancelled"


async def test_a_later_portion_costs_no_more_than_the_first(world: JobWorld, database_url: str) -> None:
    """With a transaction open that keeps vacuum from its work: what is cancelled lies there, and is not read again."""
    world.sql(
        "INSERT INTO assayline.jobs (id, tenant, analysis, lane, priority, state, reason, chain, provider, model,"
        " max_attempts, use_cache, use_fallback, tags, not_before, created_at) SELECT assayline.uuid7(), 'acme',"
        " 'slow', 'bulk', 5, 'scheduled', 'enqueued', '{one/small}', 'one', 'small', 4, true, true, '{}', now(), now()"
        " FROM generate_series(1, 6000)"
    )
    world.sql("ANALYZE assayline.jobs")

    def blocks(after: UUID | None) -> tuple[int, UUID | None]:
        explained = world.sql(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM assayline_cancel_jobs(%s, 500, %s)",
            Jsonb({"analysis": "slow"}),
            after,
        )
        plan = explained[0]["QUERY PLAN"][0]["Plan"]
        [newest] = world.sql("SELECT max(id::text)::uuid AS id FROM assayline.jobs WHERE state = 'cancelled'")
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], newest["id"]

    with psycopg.connect(database_url) as left_open:
        left_open.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        left_open.execute("SELECT FROM assayline.workers")
        read: list[int] = []
        after: UUID | None = None
        for _ in range(10):
            cost, after = blocks(after)
            read.append(cost)
    assert max(read[1:]) < 1.5 * min(read[1:])


async def test_where_a_walk_begins_whatever_there_is(world: JobWorld) -> None:
    """At the oldest of them, or, of too many to look at, where their month begins; never after one of them."""
    ended = [world.enqueue("slow") for _ in range(3)]
    world.sql("UPDATE assayline.jobs SET state = 'succeeded'")
    begins = "SELECT assayline.oldest_cancellable(%s, %s) AS at"
    assert world.sql(begins, list(OPEN), 10) == [{"at": None}]
    assert world.sql(begins, list(OPEN), 0) == [{"at": None}]
    waiting = [world.enqueue("slow") for _ in range(3)]
    world.sql("UPDATE assayline.jobs SET state = 'queued' WHERE id = %s", waiting[0])
    assert world.sql(begins, ["scheduled"], 2) == [{"at": waiting[1]}]
    assert world.sql(begins, list(OPEN), 2) == [{"at": waiting[0]}]
    assert world.sql(begins, ["scheduled"], 0) == [{"at": waiting[1]}], "those that wait stand in tables of their own"
    assert world.sql(begins, list(OPEN), 0) == [{"at": ended[0]}]
