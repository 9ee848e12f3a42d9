"""Who is taken for poison and who is not, on a real Postgres: `rescue.sql`, and its double in Python beside it."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from deathworld import Job, judge
from jobworld import JobWorld, job_world, raises

from gateway.errors import Timeout
from tasks.dispatch import Dispatcher
from tasks.dispatch_policy import Policy
from tasks.poison import Suspicion
from tasks.run import Ending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

SOON_DEAD = Policy(dead_after_s=1.0)
"""The tests' server is seldom up for the usual 20 s."""


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as world:
        world.rescuer()  # waits until the server is old enough
        yield world


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def died(world: JobWorld, *, ago_s: float = 3.0) -> UUID:
    """A worker that was heard of for the last time so long ago."""
    incarnation = uuid.uuid4()
    world.sql(
        "INSERT INTO assayline.workers (incarnation, hostname, pid, providers, slots, heartbeat_at)"
        " VALUES (%s, 'host', 1, '{one,two}', 100, %s)",
        incarnation,
        ago(ago_s),
    )
    return incarnation


def lost(world: JobWorld, worker: UUID, *earlier: UUID, at_s: float = 30.0, **fields: Any) -> UUID:
    """A job that a worker ran when it died, after `earlier` ones had: rescued from the first of them `at_s` ago."""
    job = world.enqueue(fields.pop("analysis", "quick"), **fields.pop("options", {}))
    causes = [
        {"at": ago(at_s).isoformat(), "claim_no": number, "move": "rescue", "error": "worker_lost",
         "message": f"worker {dead}", "incarnation": str(dead)}
        for number, dead in enumerate(earlier, 1)
    ]  # fmt: skip
    row = {"claim_no": len(earlier) + 1, "attempts_used": len(earlier) + 1, "causes": json.dumps(causes)} | fields
    world.sql(
        "UPDATE assayline.jobs SET state = 'running', reason = 'claim', incarnation = %s, started_at = now(),"
        " lease_until = now() + interval '5 min', claim_no = %s, attempts_used = %s, causes = %s WHERE id = %s",
        worker,
        row["claim_no"],
        row["attempts_used"],
        row["causes"],
        job,
    )
    return job


async def rescue(world: JobWorld, suspicion: Suspicion | None = None, policy: Policy = SOON_DEAD) -> int:
    return await Dispatcher(world.engine, world.broker, ("one", "two"), policy, suspicion=suspicion).rescue()


def moves(world: JobWorld, jobs: Sequence[UUID]) -> list[str]:
    return [world.job(job)["reason"] for job in jobs]


def waits_s(world: JobWorld, jobs: Sequence[UUID]) -> list[float]:
    """How long after the first of them each comes back."""
    due = [world.job(job)["not_before"] for job in jobs]
    return [round((at - min(due)).total_seconds(), 1) for at in due]


async def test_the_dead_letter_names_its_workers_and_says_what_to_do(world: JobWorld) -> None:
    first, second, third = died(world, ago_s=60), died(world, ago_s=30), died(world)
    job = lost(world, third, first, second)

    assert await rescue(world) == 1

    row = world.job(job)
    assert (row["state"], row["reason"], row["attempts_used"], row["max_attempts"]) == ("failed", "poison", 3, 4)
    why = row["causes"][-1]
    assert why["message"].startswith("3 workers in a row died while they ran it: ")
    assert all(str(worker) in why["message"] for worker in (first, second, third))
    assert "on host, process 1" in why["message"]
    assert "before you replay it" in why["message"]


async def test_the_first_rescue_is_at_once_for_all(world: JobWorld) -> None:
    worker = died(world)
    jobs = [lost(world, worker) for _ in range(5)]

    assert await rescue(world) == 5

    assert moves(world, jobs) == ["rescue"] * 5
    assert max(waits_s(world, jobs)) == 0.0
    assert max(world.job(job)["not_before"] for job in jobs) <= datetime.now(UTC)


async def test_from_the_second_on_they_come_back_apart_those_somebody_waits_for_first(world: JobWorld) -> None:
    first, second = died(world, ago_s=30), died(world)
    bulk = [lost(world, second, first, analysis="slow") for _ in range(3)]
    interactive = [lost(world, second, first) for _ in range(2)]
    fresh = lost(world, second)

    assert await rescue(world) == 6

    waits = waits_s(world, [fresh, *interactive, *bulk])
    assert waits[0] == 0.0
    assert sorted(waits[1:3]) == [0.0, 2.0]
    assert sorted(waits[3:]) == [4.0, 6.0, 8.0]


async def test_the_longer_such_jobs_run_the_further_apart_they_come_back(world: JobWorld) -> None:
    """Twice as long as they had run on average when their worker was heard of: each shall be over before the next."""
    first, second = died(world, ago_s=60), died(world)
    jobs = [lost(world, second, first) for _ in range(3)]
    for job, ran_s in zip(jobs, (10, 20, 30), strict=True):
        world.sql(
            "UPDATE assayline.jobs j SET started_at = w.heartbeat_at - make_interval(secs => %s)"
            " FROM assayline.workers w WHERE w.incarnation = j.incarnation AND j.id = %s",
            ran_s,
            job,
        )

    await rescue(world)

    assert sorted(waits_s(world, jobs)) == [0.0, 40.0, 80.0]


async def test_however_many_they_are_all_are_back_in_time(world: JobWorld) -> None:
    first, second = died(world, ago_s=30), died(world)
    jobs = [lost(world, second, first) for _ in range(20)]

    await rescue(world, replace(Suspicion(), longest_apart_s=10.0))

    waits = sorted(waits_s(world, jobs))
    assert waits == [round(n * 0.5, 1) for n in range(20)]


async def test_of_those_that_died_together_as_often_none_is_taken_for_the_culprit(world: JobWorld) -> None:
    """They are put apart again, and the one that dies alone is it."""
    first, second, third = died(world, ago_s=60), died(world, ago_s=30), died(world)
    jobs = [lost(world, third, first, second) for _ in range(3)]

    assert await rescue(world) == 3

    assert moves(world, jobs) == ["rescue"] * 3
    assert sorted(waits_s(world, jobs)) == [0.0, 2.0, 4.0]


async def test_the_one_with_most_deaths_is_the_culprit_and_the_others_go_on(world: JobWorld) -> None:
    first, second, third, fourth = died(world, ago_s=90), died(world, ago_s=60), died(world, ago_s=30), died(world)
    options = {"max_attempts": 10}
    culprit = lost(world, fourth, first, second, third, at_s=60, options=options)
    others = [lost(world, fourth, first, second, options=options) for _ in range(2)]

    assert await rescue(world) == 3

    assert moves(world, [culprit, *others]) == ["poison", "rescue", "rescue"]


async def test_while_workers_die_all_around_a_third_death_says_nothing(world: JobWorld) -> None:
    """Somebody kills machines: of ten workers that died since, three were this job's."""
    first, second, third = died(world, ago_s=29), died(world, ago_s=15), died(world)
    for _ in range(7):
        died(world, ago_s=10)
    job = lost(world, third, first, second)

    assert await rescue(world) == 1

    assert moves(world, [job]) == ["rescue"]


async def test_half_of_all_deaths_are_enough(world: JobWorld) -> None:
    first, second, third = died(world, ago_s=29), died(world, ago_s=15), died(world)
    for _ in range(3):
        died(world, ago_s=10)
    job = lost(world, third, first, second)

    await rescue(world)

    assert moves(world, [job]) == ["poison"]


async def test_workers_that_died_long_before_say_nothing(world: JobWorld) -> None:
    for _ in range(20):
        died(world, ago_s=600)
    job = lost(world, died(world), died(world, ago_s=29), died(world, ago_s=15))

    await rescue(world)

    assert moves(world, [job]) == ["poison"]


async def test_the_sixth_death_leaves_no_doubt(world: JobWorld) -> None:
    """Whoever else dies, and beside whom: a job of many attempts does not go on killing for ever."""
    *earlier, last = [died(world, ago_s=100.0 - n) for n in range(6)]
    for _ in range(30):
        died(world, ago_s=10)
    jobs = [lost(world, last, *earlier, at_s=99, options={"max_attempts": 20}) for _ in range(2)]

    await rescue(world)

    assert moves(world, jobs) == ["poison", "poison"]


async def test_without_attempts_left_it_is_buried_all_the_same(world: JobWorld) -> None:
    first, second, third = died(world, ago_s=60), died(world, ago_s=30), died(world)
    jobs = [lost(world, third, first, second, options={"max_attempts": 3}) for _ in range(2)]

    await rescue(world)

    assert moves(world, jobs) == ["bury", "bury"]


async def test_the_count_starts_anew_after_an_attempt_that_ended_in_order(world: JobWorld) -> None:
    """A retry, a snooze, a hand-back: each leaves a gap in the claim numbers of the deaths."""
    first, second, third = died(world, ago_s=60), died(world, ago_s=30), died(world)
    job = lost(world, third, first, second, claim_no=4)

    await rescue(world)

    assert moves(world, [job]) == ["rescue"]


async def test_a_retry_between_two_deaths_counts_by_its_claim(world: JobWorld) -> None:
    """The whole way: two deaths, an attempt that fails in order, and two deaths more are no poison."""
    job = world.enqueue(max_attempts=10)

    async def attempt(*, dies: bool) -> None:
        worker = await world.worker()
        world.sql("UPDATE assayline.jobs SET not_before = now()")
        await world.dispatcher().release("one")
        [message] = world.broker.take()
        if dies:
            assert await world.claim(worker, message) is not None
            world.kill(worker)
            assert await world.rescuer().rescue() == 1
        else:
            runner = world.runner(worker, raises(Timeout("slow")))
            assert await runner.run(job, message.release, "one") is Ending.RESCHEDULED
        await world.store.retire(worker)

    for dies in (True, True, False, True, True):
        await attempt(dies=dies)
    assert world.job(job)["state"] == "scheduled"
    await attempt(dies=True)
    assert world.job(job)["reason"] == "poison"


async def test_an_overdue_attempt_is_no_death(world: JobWorld) -> None:
    alive = (await world.worker()).id
    job = lost(world, alive, died(world, ago_s=60), died(world, ago_s=30))
    world.sql("UPDATE assayline.jobs SET lease_until = now() - interval '1 s'")

    await rescue(world)

    row = world.job(job)
    assert (row["reason"], row["causes"][-1]["error"]) == ("rescue", "attempt_overdue")


async def test_a_dead_worker_is_dead_though_the_lease_is_over_too(world: JobWorld) -> None:
    """Where no dispatcher ran for minutes both are true, and it is the death that counts."""
    job = lost(world, died(world, ago_s=3600))
    world.sql("UPDATE assayline.jobs SET lease_until = now() - interval '1 s'")

    await rescue(world)

    assert world.job(job)["causes"][-1]["error"] == "worker_lost"


async def test_a_pass_is_bounded_and_suspects_go_first(world: JobWorld) -> None:
    first, second = died(world, ago_s=30), died(world)
    fresh = [lost(world, second) for _ in range(6)]
    suspects = [lost(world, second, first) for _ in range(3)]
    few = replace(SOON_DEAD, most_per_pass=4)

    assert await rescue(world, policy=few) == 4
    assert moves(world, suspects) == ["rescue"] * 3
    assert await rescue(world, policy=few) == 4
    assert await rescue(world, policy=few) == 1
    assert moves(world, fresh) == ["rescue"] * 6


async def test_who_was_left_behind_by_an_earlier_pass_did_not_die_alone_for_that(
    world: JobWorld, database_url: str
) -> None:
    """A pass is bounded, and passes by what somebody has locked: the last of three is as innocent as they."""
    first, second, third = died(world, ago_s=60), died(world, ago_s=30), died(world)
    jobs = [lost(world, third, first, second) for _ in range(3)]
    fresh = lost(world, third)
    with psycopg.connect(database_url) as web:
        web.execute("SELECT FROM assayline.jobs WHERE id = %s FOR UPDATE", [jobs[0]])
        moved = await rescue(world, policy=replace(SOON_DEAD, most_per_pass=2))
        assert moved in (1, 2), "which two of the three it tries is left to chance, and one is locked"
        web.rollback()
    assert await rescue(world) == 4 - moved
    assert moves(world, [*jobs, fresh]) == ["rescue"] * 4


async def test_the_one_with_most_deaths_is_the_culprit_though_it_is_found_last(
    world: JobWorld, database_url: str
) -> None:
    first, second, third = died(world, ago_s=60), died(world, ago_s=30), died(world)
    culprit = lost(world, third, first, second)
    others = [lost(world, third, second) for _ in range(2)]
    with psycopg.connect(database_url) as web:
        web.execute("SELECT FROM assayline.jobs WHERE id = %s FOR UPDATE", [culprit])
        assert await rescue(world) == 2
        web.rollback()
    assert await rescue(world) == 1
    assert moves(world, [culprit, *others]) == ["poison", "rescue", "rescue"]


async def test_the_statement_and_the_simulation_judge_alike(world: JobWorld) -> None:
    """Several dead workers, each with jobs of any past: what SQL does is what tests/deathworld.py reckons with."""
    seen: Counter[tuple[str, int]] = Counter()
    for seed in range(24):
        world.sql("DELETE FROM assayline.jobs")
        world.sql("DELETE FROM assayline.workers")
        expected = doomed(world, Random(seed))
        assert await rescue(world) == len(expected)
        assert {job: world.job(job)["reason"] for job in expected} == {job: move for job, (move, _) in expected.items()}
        seen.update(expected.values())
    assert {move for move, _ in seen} == {"rescue", "bury", "poison"}
    assert {deaths for move, deaths in seen if move == "poison"} >= {2, 3, 5}
    assert {deaths for move, deaths in seen if move == "rescue"} >= {0, 1, 2, 3}


def doomed(world: JobWorld, rng: Random) -> dict[UUID, tuple[str, int]]:
    """Workers that died, three of them with jobs; what is to become of each job, and its deaths so far."""
    dead = [(-rng.uniform(3.0, 200.0), number) for number in range(rng.choice([8, 12, 25]))]
    names = {number: died(world, ago_s=-at) for at, number in dead}
    victims, others = (0, 1, 2), [entry for entry in dead if entry[1] > 2]
    most = rng.choice([4, 4, 10])
    found: dict[UUID, tuple[str, int]] = {}
    for victim in victims:
        jobs: dict[Job, UUID] = {}
        gone = rng.choice([-1, -1, 0, 1, 2, 3])
        world.sql("UPDATE assayline.workers SET most_deaths = %s WHERE incarnation = %s",
                  None if gone < 0 else gone, names[victim])  # fmt: skip
        for number in range(rng.randint(1, 3)):
            past = sorted(rng.sample(others, rng.choice([0, 1, 2, 2, 3, 5])))
            rescued_s = -past[0][0] - SOON_DEAD.dead_after_s if past else 0.0
            job = lost(
                world, names[victim], *(names[n] for _, n in past), at_s=rescued_s, options={"max_attempts": most}
            )
            jobs[Job(number, attempts=len(past) + 1, deaths=past)] = job
        judge_so = partial(judge, suspicion=Suspicion(), dead_after_s=SOON_DEAD.dead_after_s, gone=gone)
        for judged, move, _ in judge_so(list(jobs), victim, dead, most):
            found[jobs[judged]] = move, len(judged.deaths)
    return found
