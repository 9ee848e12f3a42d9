"""Releases follow the providers' limits: a group that is closed keeps its jobs, and holds up no other group's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from jobworld import ANALYSES, MODELS, JobWorld, job_world
from psycopg.types.json import Jsonb

from gateway.errors import DayBudgetSpent, GatewayError, Unreachable
from tasks import diversion
from tasks.dispatch import Dispatcher
from tasks.dispatch_policy import Policy
from tasks.headroom import GroupRoom
from tasks.mirror import mirror

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

SOON_S = 30.0
"""Longest a test waits for what should take milliseconds."""


@dataclass(slots=True)
class Told:
    """A headroom that is told what to say, and says each time it is asked."""

    says: Sequence[GroupRoom] = ()
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    async def rooms(self, provider: str, lane: str, slots: int) -> Sequence[GroupRoom]:
        self.asked.append((provider, lane, slots))
        return self.says if provider == "one" else ()


def small(most: int, next_in_s: float = 60.0) -> GroupRoom:
    return GroupRoom(("small",), most, next_in_s)


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as world:
        await mirror(world.engine, ANALYSES, [*MODELS, "one/wide"])
        yield world


def models_released(world: JobWorld) -> list[str]:
    rows = {row["id"]: row["model"] for row in world.sql("SELECT id, model FROM assayline.jobs")}
    return [rows[message.id] for message in world.broker.take()]


def of(world: JobWorld, model: str, count: int, **options: Any) -> list[UUID]:
    return [world.enqueue(content=f"{model} {n}", model=f"one/{model}", **options) for n in range(count)]


async def test_a_closed_group_keeps_its_jobs_and_holds_up_no_other(world: JobWorld) -> None:
    of(world, "small", 3, priority=0)
    of(world, "wide", 2, priority=9)
    await world.worker(slots=8)
    assert await world.dispatcher(headroom=Told([small(0)])).release("one") == 2
    assert models_released(world) == ["wide", "wide"]


async def test_no_more_rows_are_locked_than_are_released(world: JobWorld) -> None:
    await mirror(world.engine, ANALYSES, [*MODELS, "one/wide", "one/other"])
    for model in ("small", "wide", "other"):
        of(world, model, 20)
    await world.worker(slots=4)
    assert await world.dispatcher(headroom=Told([small(0)])).release("one") == 4 + Policy().least_backlog
    locked = world.sql("SELECT count(*) AS n FROM assayline.jobs WHERE state = 'scheduled' AND xmax::text <> '0'")
    assert locked == [{"n": 0}]


@pytest.mark.parametrize("bound", ["expires_at", "deadline_at"])
async def test_a_job_that_nobody_wants_any_more_expires_though_its_group_is_closed(world: JobWorld, bound: str) -> None:
    [job] = of(world, "small", 1, **{bound: (datetime.now(UTC) + timedelta(hours=1)).isoformat()})
    await world.worker()
    dispatcher = world.dispatcher(headroom=Told([small(0)]))
    assert (await dispatcher.expire(), await dispatcher.release("one")) == (0, 0)
    world.sql(f"UPDATE assayline.jobs SET {bound} = now() - interval '1 s'")
    assert await dispatcher.expire() == 1
    assert (world.job(job)["state"], world.job(job)["reason"]) == ("expired", "expire_scheduled")


async def test_what_is_queued_or_running_counts_in_both_lanes(world: JobWorld) -> None:
    of(world, "small", 6)
    of(world, "small", 6, lane="bulk")
    incarnation = await world.worker(slots=40)
    assert await world.dispatcher(headroom=Told([small(3)])).release("one") == 3
    for message in world.broker.take()[:2]:
        assert await world.claim(incarnation, message)
    assert await world.dispatcher(headroom=Told([small(3)])).release("one") == 0
    assert await world.dispatcher(headroom=Told([small(5)])).release("one") == 2
    assert await world.dispatcher(headroom=Told([small(11)])).release("one") == 6


async def test_a_job_that_ends_between_the_two_looks_makes_no_room_for_another(world: JobWorld) -> None:
    """Its call is counted in `most` still; how many more there is room for is told beside it."""
    of(world, "small", 6)
    await world.worker(slots=40)
    assert await world.dispatcher(headroom=Told([GroupRoom(("small",), 5, 1.0, more=2)])).release("one") == 2
    assert await world.dispatcher(headroom=Told([GroupRoom(("small",), 5, 1.0, more=4)])).release("one") == 3


async def test_models_of_one_group_share_its_room_most_urgent_first(world: JobWorld) -> None:
    of(world, "small", 2, priority=5)
    of(world, "wide", 2, priority=1)
    await world.worker(slots=40)
    assert await world.dispatcher(headroom=Told([GroupRoom(("small", "wide"), 3, 1.0)])).release("one") == 3
    assert models_released(world) == ["wide", "wide", "small"]


async def test_a_group_without_names_holds_what_no_other_names(world: JobWorld) -> None:
    of(world, "small", 3)
    of(world, "wide", 3)
    await world.worker(slots=40)
    assert await world.dispatcher(headroom=Told([small(2), GroupRoom(None, 1, 1.0)])).release("one") == 3
    assert sorted(models_released(world)) == ["small", "small", "wide"]


async def test_a_group_without_bounds_has_not_those_of_the_rest(world: JobWorld) -> None:
    of(world, "small", 3)
    of(world, "wide", 3)
    await world.worker(slots=40)
    headroom = Told([GroupRoom(("small",), None, 0.0), GroupRoom(None, 0, 1.0, more=0)])
    assert await world.dispatcher(headroom=headroom).release("one") == 3
    assert models_released(world) == ["small"] * 3


async def test_the_slots_bound_all_groups_together(world: JobWorld) -> None:
    of(world, "small", 9)
    of(world, "wide", 9)
    await world.worker(slots=4)
    room = 4 + Policy().least_backlog
    assert await world.dispatcher(headroom=Told([small(5), GroupRoom(("wide",), 9, 1.0)])).release("one") == room


async def test_a_group_is_looked_at_again_when_it_opens(world: JobWorld) -> None:
    """Long before the next poll, and not at all before."""
    [first, second] = of(world, "small", 2)
    await world.worker(slots=8)
    headroom = Told([small(1, next_in_s=0.2)])
    stop = asyncio.Event()
    dispatcher = world.dispatcher(Policy(poll_s=3600.0, listen=False), headroom=headroom)
    running = asyncio.create_task(dispatcher.run(stop))
    try:
        async with asyncio.timeout(SOON_S):
            await world.broker.published.wait()
            assert [message.id for message in world.broker.take()] == [first]
            headroom.says = [small(2)]
            await world.broker.published.wait()
        assert [message.id for message in world.broker.take()] == [second]
        assert len(headroom.asked) <= 6, "two lanes of two providers at first, then two lanes of the one that opened"
    finally:
        stop.set()
        await running


async def test_a_look_at_one_lane_puts_off_no_look_at_the_other(world: JobWorld) -> None:
    """An interactive job comes while bulk waits for its group to open: bulk is looked at in time all the same."""
    [first, second] = of(world, "small", 2, lane="bulk")
    await world.worker(slots=8)
    headroom = Told([small(1, next_in_s=0.5)])
    stop = asyncio.Event()
    dispatcher = world.dispatcher(Policy(poll_s=3600.0), headroom=headroom)
    running = asyncio.create_task(dispatcher.run(stop))
    try:
        async with asyncio.timeout(SOON_S):
            await world.broker.published.wait()
            assert [message.id for message in world.broker.take()] == [first]
            [urgent] = of(world, "wide", 1)
            await world.broker.published.wait()
            assert [message.id for message in world.broker.take()] == [urgent]
            headroom.says = [small(2)]
            await world.broker.published.wait()
        assert [message.id for message in world.broker.take()] == [second]
    finally:
        stop.set()
        await running


async def test_the_headroom_is_told_of_the_live_slots(world: JobWorld) -> None:
    headroom = Told()
    dispatcher = world.dispatcher(headroom=headroom)
    await world.worker(slots=7)
    await dispatcher.release("one")
    await dispatcher.release("one", ["bulk"])
    assert headroom.asked[-1] == ("one", "bulk", 7)


async def test_no_pass_reads_through_the_jobs_of_a_closed_group(world: JobWorld) -> None:
    small_jobs = "SELECT (assayline_enqueue('slow', n::text, %s)).job_id FROM generate_series(1, 5000) n"
    world.sql(small_jobs, Jsonb({"model": "one/small"}))
    of(world, "wide", 3, lane="bulk")
    await world.worker(slots=100)
    world.sql("VACUUM ANALYZE assayline.jobs")
    read, _ = await world.blocks_of_a_release([{"models": ["small"], "most": 0}])
    assert read < 100


# -- providers that are out of order -------------------------------------------------------------------------------


@dataclass(slots=True)
class OneIsOut:
    """`one` is out of order; the other has room."""

    out: GatewayError | None = field(default_factory=lambda: Unreachable("nobody is there"))
    most_at_two: int | None = None
    out_at_two: GatewayError | None = None

    async def rooms(self, provider: str, lane: str, slots: int) -> Sequence[GroupRoom]:
        if provider == "two":
            return [GroupRoom(None, 0 if self.out_at_two else self.most_at_two, 60.0, self.out_at_two)]
        return [GroupRoom(None, 0 if self.out else None, 60.0, self.out)]


async def passed(world: JobWorld, headroom: OneIsOut) -> dict[str, int]:
    """One pass over both providers; how many messages went to each."""
    dispatcher = world.dispatcher(headroom=headroom)
    for provider in ("one", "two"):
        await dispatcher.release(provider)
    providers = [message.provider for message in world.broker.take()]
    return {provider: providers.count(provider) for provider in ("one", "two")}


async def test_jobs_of_a_provider_that_is_out_go_where_there_is_room(world: JobWorld) -> None:
    jobs = [world.enqueue(content=str(n)) for n in range(30)]
    await world.worker(slots=8)
    assert await passed(world, OneIsOut()) == {"one": 0, "two": 8 + Policy().least_backlog}
    rows = [world.job(job) for job in jobs]
    gone = [row for row in rows if row["provider"] == "two"]
    assert [row["state"] for row in gone] == ["queued"] * (8 + Policy().least_backlog)
    assert {row["state"] for row in rows if row["provider"] == "one"} == {"scheduled"}, "the others wait where they are"
    [written] = gone[0]["causes"]
    assert (gone[0]["model"], gone[0]["hop"], gone[0]["attempts_used"]) == ("large", 1, 0)
    assert written.pop("at").startswith(f"{datetime.now(UTC):%Y-%m-}")
    assert written == {
        "claim_no": 0,
        "provider": "one",
        "model": "small",
        "move": "fallback",
        "error": "unreachable",
        "message": "nobody is there",
        "retry_after_s": None,
    }


async def test_a_claim_of_a_diverted_job_knows_what_it_left_behind(world: JobWorld) -> None:
    world.enqueue()
    incarnation = await world.worker()
    dispatcher = world.dispatcher(headroom=OneIsOut())
    await dispatcher.release("one")
    await dispatcher.release("two")
    [message] = world.broker.take()
    claim = await world.claim(incarnation, message)
    assert claim is not None
    assert (str(claim.model), claim.fallen) == ("two/large", ("one: unreachable",))


async def test_no_more_go_than_the_next_group_takes(world: JobWorld) -> None:
    for n in range(30):
        world.enqueue(content=str(n))
    await world.worker(slots=8)
    headroom = OneIsOut(most_at_two=3)
    assert (await passed(world, headroom))["two"] == 3
    for _ in range(3):
        assert (await passed(world, headroom))["two"] == 0
    assert world.sql("SELECT count(*) AS n FROM assayline.jobs WHERE provider = 'two'") == [{"n": 3}]


async def test_each_group_takes_over_what_it_has_room_for(world: JobWorld) -> None:
    await mirror(world.engine, ANALYSES, [*MODELS, "two/spacious", "two/other"])
    for n in range(10):
        for model in ("large", "spacious", "other"):
            world.enqueue(content=f"{model} {n}", chain=["one/small", f"two/{model}"])
    await world.worker(slots=40)

    class Rooms(OneIsOut):
        async def rooms(self, provider: str, lane: str, slots: int) -> Sequence[GroupRoom]:
            if provider == "one":
                return await super().rooms(provider, lane, slots)
            return [
                GroupRoom(("large",), 2, 60.0, more=2),
                GroupRoom(("spacious",), None, 0.0),
                GroupRoom(None, 9, 60.0, more=4),
            ]

    assert (await passed(world, Rooms()))["two"] == 16
    rows = world.sql("SELECT model, count(*) AS n FROM assayline.jobs WHERE provider = 'two' GROUP BY 1 ORDER BY 1")
    assert rows == [{"model": "large", "n": 2}, {"model": "other", "n": 4}, {"model": "spacious", "n": 10}]


@pytest.mark.parametrize(("looks", "needed"), [(1, 3), (25, 1)])
async def test_jobs_that_may_not_move_hold_up_none_behind_them(
    world: JobWorld, monkeypatch: pytest.MonkeyPatch, looks: int, needed: int
) -> None:
    """Looks at two hundred each, in one pass or in several."""
    monkeypatch.setattr(diversion, "LOOKS", looks)
    jobs = "SELECT (assayline_enqueue('quick', n::text, %s)).job_id FROM generate_series(1, 450) n"
    world.sql(jobs, Jsonb({"use_fallback": False}))
    behind = [world.enqueue(content=f"movable {n}") for n in range(3)]
    await world.worker(slots=8)
    dispatcher = world.dispatcher(headroom=OneIsOut())
    passes = 0
    while {world.job(job)["provider"] for job in behind} != {"two"}:
        await dispatcher.release("one")
        await dispatcher.release("two")
        passes += 1
    assert passes == needed
    stuck = world.enqueue(content="came later, and earlier in time")
    world.sql("UPDATE assayline.jobs SET not_before = now() - interval '1 h' WHERE id = %s", stuck)
    for _ in range(4):
        await dispatcher.release("two")
    assert world.job(stuck)["provider"] == "two", "at the end it begins anew"


@pytest.mark.parametrize("options", [{"use_fallback": False}, {"chain": ["one/small"]}])
async def test_jobs_that_may_not_move_wait(world: JobWorld, options: dict[str, Any]) -> None:
    world.enqueue(**options)
    await world.worker()
    assert await passed(world, OneIsOut()) == {"one": 0, "two": 0}


async def test_nobody_moves_when_all_is_well_or_nowhere_is(world: JobWorld) -> None:
    world.enqueue()
    await world.worker()
    assert await passed(world, OneIsOut(out=None)) == {"one": 1, "two": 0}

    class BothOut(OneIsOut):
        async def rooms(self, provider: str, lane: str, slots: int) -> Sequence[GroupRoom]:
            return [GroupRoom(None, 0, 60.0, self.out)]

    world.enqueue(content="another")
    assert await passed(world, BothOut()) == {"one": 0, "two": 0}


async def test_jobs_that_wait_for_their_time_are_left_alone(world: JobWorld) -> None:
    world.enqueue(not_before=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    await world.worker()
    assert await passed(world, OneIsOut()) == {"one": 0, "two": 0}


async def test_a_target_without_room_holds_up_no_other(world: JobWorld) -> None:
    await mirror(world.engine, ANALYSES, [*MODELS, "two/other"])
    jobs = "SELECT (assayline_enqueue('quick', n::text, %s)).job_id FROM generate_series(1, 250) n"
    world.sql(jobs, Jsonb({"chain": ["one/small", "two/large"]}))
    behind = world.enqueue(chain=["one/small", "two/other"])
    await world.worker(slots=8)

    class LargeIsFull(OneIsOut):
        async def rooms(self, provider: str, lane: str, slots: int) -> Sequence[GroupRoom]:
            if provider == "one":
                return await super().rooms(provider, lane, slots)
            return [GroupRoom(("large",), 0, 60.0), GroupRoom(None, None, 0.0)]

    assert (await passed(world, LargeIsFull()))["two"] == 1
    assert world.job(behind)["state"] == "queued"


async def test_two_that_are_out_fill_the_third_once(world: JobWorld) -> None:
    await mirror(world.engine, ANALYSES, [*MODELS, "three/small"])
    for n in range(10):
        for provider in ("one", "three"):
            world.enqueue(content=f"{provider} {n}", chain=[f"{provider}/small", "two/large"])
    await world.worker(slots=40)
    dispatcher = Dispatcher(world.engine, world.broker, ("one", "two", "three"), headroom=OneIsOut(most_at_two=3))
    for provider in ("one", "three", "two", "two"):
        await dispatcher.release(provider)
    assert world.sql("SELECT count(*) AS n FROM assayline.jobs WHERE provider = 'two'") == [{"n": 3}]


async def test_two_dispatchers_fill_a_group_once(world: JobWorld) -> None:
    for n in range(40):
        world.enqueue(content=str(n))
    await world.worker(slots=40)
    dispatchers = [world.dispatcher(headroom=OneIsOut(most_at_two=3)) for _ in range(4)]
    for dispatcher in dispatchers:
        await dispatcher.release("one")
    for _ in range(5):
        await asyncio.gather(*(dispatcher.release("two") for dispatcher in dispatchers))
    assert world.sql("SELECT count(*) AS n FROM assayline.jobs WHERE provider = 'two'") == [{"n": 3}]


# -- groups that are out -------------------------------------------------------------------------------------------

Models = tuple[str, ...] | None
SMALL, WIDE, LARGE, REST = ("small",), ("wide",), ("large",), None


@dataclass(slots=True)
class GroupsOut:
    """Groups of each provider, by their models (None: all others), and those that are out."""

    groups: dict[str, list[Models]]
    out: set[tuple[str, Models]]

    async def rooms(self, provider: str, lane: str, slots: int) -> Sequence[GroupRoom]:
        spent = DayBudgetSpent("no money left", retry_after_s=3_600.0)
        found = [(models, (provider, models) in self.out) for models in self.groups[provider]]
        return [GroupRoom(models, 0 if out else None, 60.0, spent if out else None) for models, out in found]


@pytest.mark.parametrize(("groups_of_one", "groups_of_two", "out", "released"), [
    ([SMALL, WIDE], [REST], {("one", SMALL)}, ["one/other", "one/wide", "two/large"]),
    ([SMALL, WIDE], [REST], {("one", SMALL), ("one", WIDE)}, ["one/other", "two/large", "two/large"]),
    ([SMALL, REST], [REST], {("one", REST)}, ["one/small", "two/large", "two/large"]),
    ([SMALL, WIDE], [LARGE, REST], {("one", SMALL), ("two", LARGE)}, ["one/other", "one/wide"]),
    ([SMALL, WIDE], [LARGE, REST], {("one", SMALL), ("two", REST)}, ["one/other", "one/wide", "two/large"]),
], ids=["one group", "all, not what is in none", "the rest", "the next hop, too", "the next has others"])  # fmt: skip
async def test_jobs_of_a_group_that_is_out_go_and_no_others(
    world: JobWorld,
    groups_of_one: list[Models],
    groups_of_two: list[Models],
    out: set[tuple[str, Models]],
    released: list[str],
) -> None:
    await mirror(world.engine, ANALYSES, [*MODELS, "one/wide", "one/other"])
    for model in ("small", "wide", "other"):
        world.enqueue(content=model, chain=[f"one/{model}", "two/large"])
    await world.worker()
    dispatcher = world.dispatcher(headroom=GroupsOut({"one": groups_of_one, "two": groups_of_two}, out))
    for provider in ("one", "two"):
        await dispatcher.release(provider)
    rows = world.sql("SELECT provider || '/' || model AS hop FROM assayline.jobs WHERE state = 'queued' ORDER BY 1")
    assert [row["hop"] for row in rows] == released


async def test_another_group_of_the_same_provider_takes_a_job_over(world: JobWorld) -> None:
    """Though jobs of the group that is out are left behind there."""
    stays = world.enqueue(chain=["one/small"])
    job = world.enqueue(chain=["one/small", "one/wide", "two/large"])
    await world.worker()
    dispatcher = world.dispatcher(headroom=GroupsOut({"one": [SMALL, WIDE], "two": [REST]}, {("one", SMALL)}))
    assert await dispatcher.release("one") == 1
    row = world.job(job)
    assert (row["provider"], row["model"], row["hop"], row["state"]) == ("one", "wide", 1, "queued")
    assert row["causes"][0]["error"] == "day_budget_spent"
    assert world.job(stays)["state"] == "scheduled"


async def test_a_hop_that_is_out_is_passed_over(world: JobWorld) -> None:
    job = world.enqueue(chain=["one/small", "one/wide", "two/large"])
    await world.worker()
    out: set[tuple[str, Models]] = {("one", SMALL), ("one", WIDE)}
    dispatcher = world.dispatcher(headroom=GroupsOut({"one": [SMALL, WIDE, REST], "two": [REST]}, out))
    assert [await dispatcher.release(provider) for provider in ("one", "two")] == [0, 1]
    assert (world.job(job)["model"], world.job(job)["hop"]) == ("large", 2)


async def test_an_outage_wakes_those_who_may_take_over_and_two_do_not_wake_each_other(world: JobWorld) -> None:
    world.enqueue()
    await world.worker()
    for out_at_two in (None, Unreachable("gone, too")):
        headroom = OneIsOut(out_at_two=out_at_two)
        dispatcher = world.dispatcher(headroom=headroom)
        for provider in ("two", "one"):
            await dispatcher.release(provider)
        assert ("two" in dispatcher._woken) == (out_at_two is None)
        assert "one" not in dispatcher._woken
