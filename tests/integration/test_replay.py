"""Replays on a real Postgres: which jobs they mean, what the new ones are, how they are made, and never twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from jobworld import JobWorld, job_world
from replayworld import ALL, BEARINGS, asked, called, cleared, copied, copies, end, ended, made, told

from gateway.analyses.registry import load_analyses
from tasks.dispatch_policy import Policy
from tasks.mirror import MirroredAnalysis, mirror
from tasks.producer.errors import IdempotencyConflict, InvalidJob, UnknownAnalysis, UnknownModel
from tasks.replay import book
from tasks.replay.copy import copy, portion
from tasks.replay.plan import Bearings
from tasks.replay.request import ReplayRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from tasks.replay.book import Replay


@pytest.fixture
async def world(module_database_url: str) -> AsyncIterator[JobWorld]:
    with psycopg.connect(module_database_url, autocommit=True) as link:
        cleared(link)
    async with job_world(module_database_url) as world:
        yield world


async def order(world: JobWorld, replay: Replay, what: str) -> Replay:
    async with world.engine.connect() as connection:
        return await book.order(connection, replay.id, what)


async def standing(world: JobWorld, replay: Replay) -> book.Standing:
    async with world.engine.connect() as connection:
        return await book.standing(connection, replay.id)


def meant(world: JobWorld) -> set[UUID]:
    """The jobs that the latest replay means."""
    return {
        row["job_id"]
        for row in world.sql(
            "SELECT job_id FROM assayline.replay_jobs"
            " WHERE replay_id = (SELECT id FROM assayline.replays ORDER BY id DESC LIMIT 1)"
        )
    }


# The new jobs ---------------------------------------------------------------------------------------------------------


async def test_a_new_job_asks_what_the_old_one_asked_and_the_old_one_stays(world: JobWorld) -> None:
    kept = {
        "tenant": "acme", "subject": "ann", "source": "ci", "tags": ["a", "b"], "priority": 2, "chain": ["two/large"],
        "prompt_version": "v1", "output_format": "json", "max_tokens": 90, "temperature": 0.5, "max_attempts": 3,
        "use_cache": False, "use_fallback": False,
    }  # fmt: skip
    content = {
        "context": {"n": [1, {}]},
        "messages": [{"role": "user", "content": "hi"}],
        "schema": {"type": "object"},
    }
    once = {"idempotency_key": "k", "deadline_at": "2100-01-03T00:00:00Z", "expires_at": "2100-01-02T00:00:00Z"}
    old = world.enqueue("quick", "grün\t\\", lane="interactive", max_cost_usd="0.25", **kept, **content, **once)
    end(world, old, "failed")
    before = world.job(old)
    replay = await made(world, **ALL)
    await copied(world)
    assert world.job(old) == before
    [new] = copies(world, old)
    assert {name: new[name] for name in kept} == kept
    assert (new["max_cost_usd"], new["replay_id"]) == (Decimal("0.25"), replay.id)
    assert (new["state"], new["reason"], new["lane"], new["causes"]) == ("scheduled", "replay", "bulk", [])
    assert (new["attempts_used"], new["claim_no"], new["release"], new["hop"]) == (0, 0, 0, 0)
    assert (new["provider"], new["model"]) == ("two", "large")
    assert new["not_before"] == new["created_at"] > before["finished_at"]
    assert [new[name] for name in once] == [None, None, None]
    contents = world.sql("SELECT content, context, messages, schema FROM assayline.job_contents")
    assert contents == [{"content": "grün\t\\", **content}] * 2


async def test_a_new_job_is_released_and_run_as_any_other(world: JobWorld) -> None:
    old = ended(world)
    await made(world, **ALL)
    dispatcher = world.dispatcher()
    await dispatcher.replay()
    await world.worker()
    assert await dispatcher.release("one") == 1
    [message] = world.broker.take()
    assert (message.id, message.queue) == (copies(world, old)[0]["id"], "one.bulk")


async def test_changes_are_made_and_the_lane_too(world: JobWorld) -> None:
    old = ended(world, analysis="slow", priority=7, max_tokens=50)
    changes = {
        "model": "two/large", "prompt_version": "v9", "lane": "interactive", "priority": 0, "max_tokens": 900,
        "max_cost_usd": "0.5", "max_attempts": 1, "use_cache": False, "use_fallback": False,
    }  # fmt: skip
    await made(world, **ALL, changes=changes)
    await copied(world)
    [new] = copies(world, old)
    assert new["chain"] == ["two/large"]
    assert {name: new[name] for name in changes if name not in {"model", "max_cost_usd"}} == {
        name: value for name, value in changes.items() if name not in {"model", "max_cost_usd"}
    }
    assert new["max_cost_usd"] == Decimal("0.5")


@pytest.mark.parametrize(
    ("changes", "chain"),
    [
        ({}, ["two/large"]),
        ({"provider": "one"}, ["one/small"]),
        ({"chain": ["one/small", "two/large"]}, ["one/small", "two/large"]),
        ({"model": "small", "provider": "one"}, ["one/small"]),
        ({"current_chain": True}, ["one/small", "two/large"]),
    ],
    ids=lambda value: "-".join(value),
)
async def test_where_the_new_jobs_run(world: JobWorld, changes: dict[str, Any], chain: list[str]) -> None:
    old = ended(world, chain=["two/large"])
    await made(world, **ALL, changes=changes)
    await copied(world)
    assert copies(world, old)[0]["chain"] == chain


async def test_an_interactive_replay_wakes_the_dispatchers(world: JobWorld) -> None:
    ended(world)
    await made(world, **ALL, changes={"lane": "interactive"})
    world.link.execute("LISTEN assayline_due")
    await copied(world)
    heard = [notice.payload for notice in world.link.notifies(timeout=5, stop_after=1)]
    assert heard == ["one.interactive"]


# Which jobs are meant -------------------------------------------------------------------------------------------------


async def test_every_filter_narrows_and_values_of_one_widen(world: JobWorld) -> None:
    first = ended(world, tenant="acme", source="ci", tags=["a", "b"], chain=["two/large"], error="timeout")
    second = ended(world, tenant="acme", analysis="slow", tags=["b"], error="overloaded")
    third = ended(world, "cancelled", tenant="other")
    [created] = world.sql("SELECT created_at FROM assayline.jobs WHERE id = %s", second)
    [finished] = world.sql("SELECT finished_at FROM assayline.jobs WHERE id = %s", second)
    born, over = created["created_at"], finished["finished_at"]
    world.enqueue(tenant="acme")  # it has not ended
    for given, expected in (
        ({"state": ["failed"]}, {first, second}),
        ({"state": ["cancelled", "expired"]}, {third}),
        ({"state": ["failed", "cancelled"]}, {first, second, third}),
        ({"error": ["timeout"]}, {first}),
        ({"error": ["older"]}, set()),
        ({"error": ["fail"], "tag": ["a"]}, {first}),
        ({"error": ["timeout", "overloaded"]}, {first, second}),
        ({"analysis": ["slow"]}, {second}),
        ({"provider": ["two"]}, {first}),
        ({"model": ["large"]}, {first}),
        ({"model": ["two/large", "one/small"]}, {first, second}),
        ({"model": ["one/large"]}, set()),
        ({"tenant": "acme"}, {first, second}),
        ({"tenant": "acme", "provider": ["one"]}, {second}),
        ({"source": "ci"}, {first}),
        ({"tag": ["a", "z"]}, {first}),
        ({"tag": ["b"]}, {first, second}),
        ({"created_after": born}, {second}),
        ({"created_before": born}, {first}),
        ({"ended_after": over}, {second}),
        ({"ended_before": over}, {first}),
        ({"created_after": "1970-01-01T00:00:00Z", "created_before": "9998-12-31T00:00:00Z"}, {first, second}),
        ({"ids": [str(first), str(third)]}, {first, third}),
        ({"ids": [str(first), str(third)], "tenant": "acme", "state": ["failed"]}, None),
        ({"ids": [str(first), str(second)], "error": ["timeout"]}, {first}),
    ):
        if expected is None:
            with pytest.raises(InvalidJob, match=rf"filter\.ids: no such job: {third}"):
                await asked(world, filter=given)
            continue
        plan, replay = await asked(world, filter=given, again=True)
        assert (plan.jobs, meant(world) if replay else set()) == (len(expected), expected), given
        if replay is not None:
            await order(world, replay, "stop")


async def test_named_jobs_are_all_accounted_for(world: JobWorld) -> None:
    failed, cancelled, succeeded = (ended(world, state) for state in ("failed", "cancelled", "succeeded"))
    waiting = world.enqueue()
    ids = [str(job) for job in (failed, cancelled, succeeded, waiting)]
    plan, _ = await asked(world, filter={"ids": ids}, dry_run=True)
    assert (plan.found, plan.jobs, plan.left_out) == (4, 2, {"other_state": 1, "not_ended": 1})
    plan, _ = await asked(world, filter={"ids": ids, "state": ["succeeded"]}, dry_run=True)
    assert (plan.jobs, plan.left_out) == (1, {"other_state": 2, "not_ended": 1})


async def test_a_job_that_does_not_exist_is_refused(world: JobWorld) -> None:
    there, missing = ended(world, tenant="acme"), uuid4()
    with pytest.raises(InvalidJob, match=rf"filter\.ids: no such job: {missing}$"):
        await asked(world, filter={"ids": [str(there), str(missing)]})
    with pytest.raises(InvalidJob, match=str(there)):
        await asked(world, filter={"ids": [str(there)], "tenant": "other"})


async def test_the_oldest_are_meant_up_to_the_limit_and_the_rest_by_the_next(world: JobWorld) -> None:
    jobs = [ended(world) for _ in range(5)]
    plan, _ = await asked(world, **ALL, limit=2)
    assert (plan.found, plan.jobs, plan.left_out, meant(world)) == (5, 2, {"over_limit": 3}, set(jobs[:2]))
    plan, _ = await asked(world, **ALL, limit=2)
    assert (plan.left_out, meant(world)) == ({"replayed": 2, "over_limit": 1}, set(jobs[2:4]))


async def test_content_that_is_gone_and_analyses_that_are_gone_are_left_out(world: JobWorld) -> None:
    erased, unknown, whole = ended(world), ended(world, analysis="slow"), ended(world)
    world.sql("DELETE FROM assayline.job_contents WHERE job_id = %s", erased)
    world.sql("DELETE FROM assayline.catalog_analyses WHERE name = 'slow'")
    plan, replay = await asked(world, **ALL)
    assert (plan.left_out, meant(world)) == ({"erased": 1, "unknown_analysis": 1}, {whole})
    assert replay is not None
    assert unknown not in meant(world)


async def test_what_ends_after_a_replay_was_made_is_not_meant(world: JobWorld) -> None:
    first, later = ended(world), world.enqueue()
    replay = await made(world, **ALL)
    end(world, later, "failed")
    await copied(world)
    assert (len(copies(world, first)), copies(world, later)) == (1, [])
    assert (await standing(world, replay)).replay.made == 1


# Never twice ----------------------------------------------------------------------------------------------------------


async def test_the_same_command_while_the_first_runs_finds_nothing_and_is_told_of_it(world: JobWorld) -> None:
    jobs = [ended(world) for _ in range(3)]
    first = await made(world, **ALL)
    for _ in range(2):
        plan, second = await asked(world, **ALL)
        assert (second, plan.jobs, plan.left_out, plan.under_way) == (None, 0, {"replayed": 3}, (first.id,))
        await portion(world.engine, 1)
    await copied(world)
    plan, second = await asked(world, **ALL)
    assert (second, plan.left_out, plan.under_way) == (None, {"replayed": 3}, ())
    assert [len(copies(world, job)) for job in jobs] == [1, 1, 1]


@pytest.mark.parametrize("state", ["failed", "cancelled", "expired"])
async def test_a_replay_that_came_to_nothing_can_be_replayed(world: JobWorld, state: str) -> None:
    old = ended(world)
    await made(world, **ALL)
    await copied(world)
    [new] = copies(world, old)
    end(world, new["id"], state)
    plan, _ = await asked(world, filter={"state": ["failed", state]})
    assert (plan.jobs, plan.left_out, meant(world)) == (1, {"superseded": 1}, {new["id"]})
    await copied(world)
    [newer] = copies(world, new["id"])
    assert told(world, newer["id"])["replay_root"] == str(old)
    end(world, newer["id"], "succeeded")
    plan, replay = await asked(world, filter={"state": ["failed", state]})
    assert (replay, plan.left_out) == (None, {"replayed": 2})


async def test_one_of_a_line_that_is_named_is_replayed_where_the_others_came_to_nothing(world: JobWorld) -> None:
    old = ended(world)
    await made(world, **ALL)
    await copied(world)
    end(world, copies(world, old)[0]["id"], "failed")
    await made(world, filter={"ids": [str(old)]})
    await copied(world)
    assert len(copies(world, old)) == 2


async def test_replaying_what_succeeded_does_not_replay_its_own_replays(world: JobWorld) -> None:
    old = ended(world, "succeeded")
    request = {"all": True, "filter": {"state": ["succeeded"]}, "changes": {"model": "two/large"}}
    await made(world, **request)
    await copied(world)
    [new] = copies(world, old)
    end(world, new["id"], "succeeded")
    plan, replay = await asked(world, **request)
    assert (replay, plan.left_out) == (None, {"replayed": 2})
    other = {"all": True, "filter": {"state": ["succeeded"]}, "changes": {"model": "one/small"}}
    plan, _ = await asked(world, **other)
    assert (plan.jobs, meant(world)) == (1, {new["id"]})
    await copied(world)
    end(world, copies(world, new["id"])[0]["id"], "succeeded")
    for again in (request, other):
        plan, replay = await asked(world, **again)
        assert (replay, plan.left_out) == (None, {"replayed": 3})


async def test_again_replays_what_was_replayed_once_for_each_line_but_nothing_in_hand(world: JobWorld) -> None:
    old = ended(world)
    await made(world, **ALL)
    plan, replay = await asked(world, **ALL, again=True)
    assert (replay, plan.left_out) == (None, {"replayed": 1})
    await copied(world)
    end(world, copies(world, old)[0]["id"], "succeeded")
    plan, _ = await asked(world, **ALL, again=True)
    assert (plan.jobs, meant(world)) == (1, {old})


async def test_what_a_stopped_replay_has_left_is_anothers(world: JobWorld) -> None:
    jobs = [ended(world) for _ in range(3)]
    first = await made(world, **ALL)
    await portion(world.engine, 1)
    stopped = await order(world, first, "stop")
    assert (stopped.state, stopped.made, stopped.left) == ("stopped", 1, 2)
    await made(world, **ALL)
    await copied(world)
    assert [len(copies(world, job)) for job in jobs] == [1, 1, 1]
    assert meant(world) == set(jobs[1:])


async def test_two_replays_made_at_once_share_no_job(world: JobWorld) -> None:
    jobs = [ended(world) for _ in range(20)]
    plans = await asyncio.gather(*(asked(world, **ALL) for _ in range(4)))
    assert sorted(plan.jobs for plan, _ in plans) == [0, 0, 0, 20]
    await asyncio.gather(*(copy(world.engine, 3) for _ in range(3)))
    assert [len(copies(world, job)) for job in jobs] == [1] * 20


async def test_a_dry_run_makes_nothing(world: JobWorld) -> None:
    ended(world)
    plan, replay = await asked(world, **ALL, dry_run=True)
    assert (plan.jobs, replay) == (1, None)
    assert world.sql("SELECT FROM assayline.replays") == world.sql("SELECT FROM assayline.replay_jobs") == []
    assert (await asked(world, **ALL))[0].jobs == 1


# Idempotency keys -----------------------------------------------------------------------------------------------------


async def ask(world: JobWorld, *, patient: bool = True, **request: Any) -> book.Making:
    """As `asked`, with whether it was made now."""
    wanted = ReplayRequest.model_validate(request)
    async with world.engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        return await book.make(connection, wanted, BEARINGS, patient=patient)


@pytest.mark.parametrize("more", [{"limit": 2}, {"again": True}], ids=str)
async def test_a_key_and_its_request_again_are_the_same_replay(world: JobWorld, more: dict[str, Any]) -> None:
    for cost in ("0.10", "0.30", "0.20"):
        called(world, ended(world), cost)
    request = {**ALL, **more, "idempotency_key": "k"}
    first = await ask(world, **request)
    await copied(world)
    assert first.replay is not None
    for repeat in ({}, {"made_by": "ann"}, {"dry_run": True}):
        again = await ask(world, **request, **repeat)
        assert again.replay is not None
        assert (again.replay.id, again.created, again.plan) == (first.replay.id, False, first.plan)
    assert (first.created, first.replay.idempotency_key, first.plan.estimate.usd is not None) == (True, "k", True)
    assert len(world.sql("SELECT FROM assayline.replays")) == 1
    assert (await ask(world, **{**request, "idempotency_key": "other"})).created


async def test_a_key_with_another_request_is_a_conflict_and_names_the_replay(world: JobWorld) -> None:
    ended(world)
    first = (await ask(world, **ALL, idempotency_key="k")).replay
    assert first is not None
    for other in ({**ALL, "again": True}, {**ALL, "limit": 1}, {"filter": {"state": ["failed"]}}):
        for dry_run in (False, True):
            with pytest.raises(IdempotencyConflict, match=rf"^idempotency_key: .*replay {first.id}"):
                await ask(world, **other, idempotency_key="k", dry_run=dry_run)


async def test_keys_are_a_tenants_own(world: JobWorld) -> None:
    for tenant in ("a", "b"):
        ended(world, tenant=tenant)
    wishes: list[dict[str, Any]] = [{"filter": {"tenant": "a"}}, {"filter": {"tenant": "b"}}, {**ALL, "again": True}]
    made_now = []
    for wish in wishes:
        made_now.append((await ask(world, **wish, idempotency_key="k")).created)
        await copied(world)
    assert made_now == [True, True, True]


async def test_a_key_that_has_made_nothing_is_free(world: JobWorld) -> None:
    nothing = await ask(world, **ALL, idempotency_key="k")
    assert (nothing.replay, nothing.created) == (None, False)
    ended(world)
    assert not (await ask(world, **ALL, idempotency_key="k", dry_run=True)).created
    assert (await ask(world, **ALL, idempotency_key="k")).created


async def test_a_key_that_comes_twice_at_once_makes_one_replay(world: JobWorld) -> None:
    for _ in range(3):
        ended(world)
    makings = await asyncio.gather(*(ask(world, **ALL, limit=1, idempotency_key="k") for _ in range(4)))
    assert sorted(one.created for one in makings) == [False, False, False, True]
    assert len({one.replay.id for one in makings if one.replay is not None}) == 1


async def test_while_another_is_made_who_waits_too_long_or_not_at_all_is_told_so(
    world: JobWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "TURN_WITHIN_S", 0.05)
    ended(world)
    with world.link.transaction():
        world.sql("SELECT pg_advisory_xact_lock(hashtextextended('assayline.replay', 0))")
        for patient in (True, False):
            with pytest.raises(book.ReplayBeingMade, match="another replay is being made"):
                await ask(world, **ALL, patient=patient)
        assert (await ask(world, **ALL, dry_run=True, patient=False)).plan.jobs == 1
    assert (await ask(world, **ALL, patient=False)).created


# Lineage --------------------------------------------------------------------------------------------------------------


async def test_a_line_is_told_both_ways(world: JobWorld) -> None:
    old = ended(world)
    first = await made(world, **ALL)
    await copied(world)
    [new] = copies(world, old)
    end(world, new["id"], "failed")
    second = await made(world, filter={"ids": [str(new["id"])]})
    await copied(world)
    [newer] = copies(world, new["id"])
    names = ("replay_of", "replay_id", "replay_root", "replays")
    middle = {"id": str(new["id"]), "replay_id": str(first.id), "state": "failed"}
    last = {"id": str(newer["id"]), "replay_id": str(second.id), "state": "scheduled"}
    assert [told(world, old)[name] for name in names] == [None, None, None, [middle]]
    assert [told(world, new["id"])[name] for name in names] == [str(old), str(first.id), str(old), [last]]
    assert [told(world, newer["id"])[name] for name in names] == [str(new["id"]), str(second.id), str(old), []]


async def test_who_may_read_jobs_sees_their_line_without_a_right_to_the_tables_of_replays(world: JobWorld) -> None:
    old = ended(world)
    await made(world, **ALL)
    await copied(world)
    role = f"web_{uuid4().hex[:8]}"
    world.sql(f"CREATE ROLE {role}")
    try:
        world.sql(f"GRANT USAGE ON SCHEMA assayline TO {role}")
        world.sql(f"GRANT SELECT ON assayline.jobs, assayline.results, assayline.calls TO {role}")
        world.sql(f"SET ROLE {role}")
        assert [one["state"] for one in told(world, old)["replays"]] == ["scheduled"]
    finally:
        world.sql("RESET ROLE")
        world.sql(f"DROP OWNED BY {role}")
        world.sql(f"DROP ROLE {role}")


# What is refused at once ----------------------------------------------------------------------------------------------


async def test_models_that_are_not_configured_any_more_are_named_and_nothing_is_made(world: JobWorld) -> None:
    ended(world, chain=["one/small", "two/large"])
    ended(world, chain=["two/large"])
    await mirror(world.engine, [MirroredAnalysis("quick", ("one/small",), "bulk", 4)], ["one/small"])
    for dry_run in (True, False):
        with pytest.raises(UnknownModel, match=r"changes: not in the catalog .*: two/large \(2 jobs\)"):
            await asked(world, **ALL, dry_run=dry_run)
    assert world.sql("SELECT FROM assayline.replays") == []
    plan, _ = await asked(world, **ALL, changes={"current_chain": True})
    assert [(group.model, group.jobs) for group in plan.estimate.groups] == [("one/small", 2)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "three/odd"}, "changes.model: 'three/odd'"),
        ({"chain": ["one/small", "three/odd"]}, "changes.model: 'three/odd'"),
        ({"provider": "three"}, "changes.provider: 'three' is not configured"),
    ],
)
async def test_a_place_that_is_not_configured_is_refused(world: JobWorld, changes: dict[str, Any], said: str) -> None:
    ended(world)
    with pytest.raises(UnknownModel) as error:
        await asked(world, **ALL, changes=changes)
    assert said in str(error.value)


async def test_an_analysis_that_nobody_serves_now_is_refused(world: JobWorld) -> None:
    ended(world)
    world.sql("UPDATE assayline.catalog_analyses SET chain = '{}'")
    with pytest.raises(UnknownAnalysis, match="no configured provider serves 'quick'"):
        await asked(world, **ALL, changes={"current_chain": True})


async def test_a_prompt_version_that_an_analysis_does_not_have_is_refused(world: JobWorld) -> None:
    await mirror(world.engine, [MirroredAnalysis("code_quality", ("one/small",), "bulk", 4)], ["one/small"])
    ended(world, analysis="code_quality")
    wanted = ReplayRequest.model_validate({**ALL, "changes": {"prompt_version": "v99"}})
    bearings = Bearings(BEARINGS.priced, load_analyses())
    with pytest.raises(InvalidJob, match=r"changes\.prompt_version: .*no version 'v99'"):
        async with world.engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            await book.make(connection, wanted, bearings)


# What it may cost -----------------------------------------------------------------------------------------------------


async def test_the_estimate_is_by_the_ledger_else_by_price_and_tokens_else_unknown(world: JobWorld) -> None:
    for cost in ("0.10", "0.30"):
        called(world, ended(world, "succeeded"), cost)
    failed = [ended(world) for _ in range(3)]
    called(world, failed[0], None, None, outcome="failed")
    called(world, failed[0], None, None, outcome="not_called")
    called(world, failed[1], "0.20", None, outcome="failed")
    ended(world, analysis="slow")
    plan, _ = await asked(world, **ALL, dry_run=True)
    assert (plan.spent_usd, plan.unpriced_calls) == (Decimal("0.20"), 1)
    assert (plan.estimate.usd, plan.estimate.unpriced_jobs) == (Decimal("0.60"), 1)
    assert [(one.analysis, one.jobs, one.by) for one in plan.estimate.groups] == [
        ("quick", 3, "ledger"),
        ("slow", 1, None),
    ]
    priced, _ = await asked(world, **ALL, changes={"model": "two/large"}, dry_run=True)
    assert [(one.usd, one.by) for one in priced.estimate.groups] == [(Decimal(45), "catalog"), (None, None)]


async def test_a_call_that_was_remembered_costs_nothing_and_says_nothing(world: JobWorld) -> None:
    called(world, ended(world, "succeeded"), "0", (10, 5), outcome="cached")
    ended(world)
    plan, _ = await asked(world, **ALL, dry_run=True)
    assert (plan.estimate.usd, plan.estimate.unpriced_jobs) == (None, 1)


async def test_calls_that_were_cut_off_do_not_make_the_estimate_cheaper(world: JobWorld) -> None:
    """Of a call that is given up only the question is reckoned: no answer came, and the next job's will."""
    called(world, ended(world, "succeeded"), "0.30", (10, 20))
    for state in ("cancelled", "expired", "failed"):  # handed back by a worker that stopped, then expired or failed
        called(world, ended(world, state), "0.01", (10, 0), outcome="abandoned")
    plan, _ = await asked(world, **ALL, dry_run=True)
    assert (plan.jobs, plan.estimate.usd) == (1, Decimal("0.30"))
    priced, _ = await asked(world, **ALL, changes={"model": "two/large"}, dry_run=True)
    assert priced.estimate.usd == Decimal(30)


# How they are made ----------------------------------------------------------------------------------------------------


async def test_portions_are_small_and_a_replay_ends_with_its_last_job(world: JobWorld) -> None:
    for _ in range(5):
        ended(world)
    await made(world, **ALL)
    seen = []
    while (stands := await portion(world.engine, 2)) is not None:
        seen.append((stands.state, stands.made))
    assert seen == [("running", 2), ("running", 4), ("done", 5)]
    assert (await portion(world.engine, 2)) is None


async def test_a_portion_that_is_lost_with_its_process_was_never_made(world: JobWorld) -> None:
    jobs = [ended(world) for _ in range(4)]
    replay = await made(world, **ALL)
    with world.link.transaction(force_rollback=True):
        [row] = world.sql("SELECT * FROM assayline.replay_portion(2)")
        assert row["made"] == 2
    assert (await standing(world, replay)).replay.made == 0
    await copied(world, 3)
    assert [len(copies(world, job)) for job in jobs] == [1] * 4


async def test_while_one_makes_a_portion_another_passes_by_or_takes_another_replay(world: JobWorld) -> None:
    ended(world, tenant="a")
    ended(world, tenant="b")
    first, second = [await made(world, filter={"tenant": tenant}) for tenant in ("a", "b")]
    with world.link.transaction():
        [held] = world.sql("SELECT * FROM assayline.replay_portion(1)")
        assert held["id"] == first.id
        other = await portion(world.engine, 1)
        assert other is not None
        assert other.id == second.id
        assert await portion(world.engine, 1) is None


async def test_a_paused_replay_makes_nothing_and_goes_on_where_it_was(world: JobWorld) -> None:
    jobs = [ended(world) for _ in range(3)]
    replay = await made(world, **ALL)
    await portion(world.engine, 1)
    assert (await order(world, replay, "pause")).state == "paused"
    assert (await order(world, replay, "pause")).state == "paused"
    assert await portion(world.engine, 1) is None
    assert (await order(world, replay, "resume")).state == "running"
    await copied(world)
    assert [len(copies(world, job)) for job in jobs] == [1, 1, 1]
    for what in ("pause", "resume", "stop"):
        with pytest.raises(book.ReplayEnded, match="is done"):
            await order(world, replay, what)


async def test_orders_to_what_is_not_there_or_stopped(world: JobWorld) -> None:
    ended(world, tenant="acme")
    replay = await made(world, filter={"tenant": "acme"})
    async with world.engine.connect() as connection:
        for tenant in ("other", ""):
            with pytest.raises(book.ReplayNotFound):
                await book.order(connection, replay.id, "stop", tenant)
        with pytest.raises(book.ReplayNotFound):
            await book.look(connection, uuid4())
        assert (await book.order(connection, replay.id, "stop", "acme")).state == "stopped"
        assert (await book.order(connection, replay.id, "stop", "acme")).state == "stopped"
        with pytest.raises(book.ReplayEnded, match="is stopped"):
            await book.order(connection, replay.id, "resume")


async def test_no_more_are_made_than_the_rate_allows_and_an_hour_is_not_made_up_for(world: JobWorld) -> None:
    for _ in range(8):
        ended(world)
    await made(world, **ALL, rate_per_min=60)
    now, next_at = "SELECT clock_timestamp() AS at", "SELECT next_at AS at FROM assayline.replays"

    async def made_in_all() -> tuple[int, bool]:
        """How many there are after a portion, and whether the next one is due a second after it."""
        [before] = world.sql(now)
        stands = await portion(world.engine, 200)
        [after], [due] = world.sql(now), world.sql(next_at)
        assert stands is not None
        return stands.made, before["at"] <= due["at"] - timedelta(seconds=1) <= after["at"]

    world.sql("UPDATE assayline.replays SET next_at = clock_timestamp() - interval '1 hour'")
    assert await made_in_all() == (3, True)  # what is due now, and two seconds' worth
    world.sql("UPDATE assayline.replays SET next_at = clock_timestamp() + interval '1 hour'")
    assert await portion(world.engine, 200) is None
    world.sql("UPDATE assayline.replays SET next_at = clock_timestamp() - interval '1 hour'")
    assert await made_in_all() == (6, True)


async def test_a_catalog_that_changes_meanwhile_makes_no_job_that_cannot_run(world: JobWorld) -> None:
    jobs = [ended(world, chain=["one/small"]), ended(world, chain=["two/large"]), ended(world, analysis="slow")]
    replay = await made(world, **ALL)
    world.sql("DELETE FROM assayline.job_contents WHERE job_id = %s", jobs[0])
    await mirror(world.engine, [MirroredAnalysis("quick", ("one/small",), "bulk", 4)], ["one/small"])
    await copied(world)
    assert [copies(world, job) for job in jobs] == [[], [], []]
    stands = await standing(world, replay)
    assert (stands.replay.state, stands.replay.made, stands.replay.skipped) == ("done", 0, 3)
    told = dict(stands.problems)
    assert set(told.values()) == {1}
    assert "content: is no longer kept" in told
    assert any("'two/large' is not in the catalog" in problem for problem in told)
    assert any("'slow' is not known" in problem for problem in told)
    await mirror(world.engine, [MirroredAnalysis("slow", ("one/small",), "bulk", 4)], ["one/small", "two/large"])
    assert (await asked(world, filter={"analysis": ["slow"]}, changes={"current_chain": True}))[0].jobs == 1


async def test_a_replay_that_cannot_go_on_pauses_and_the_others_go_on(world: JobWorld) -> None:
    broken, whole = ended(world, tenant="a"), ended(world, tenant="b")
    bad, good = [await made(world, filter={"tenant": tenant}) for tenant in ("a", "b")]
    world.sql("ALTER TABLE assayline.jobs ADD CONSTRAINT refuses CHECK (replay_of IS NULL OR tenant <> 'a') NOT VALID")
    dispatcher = world.dispatcher()
    await dispatcher.replay()
    assert (copies(world, broken), len(copies(world, whole))) == ([], 1)
    stands = (await standing(world, bad)).replay
    assert (stands.state, stands.problem) == ("paused", "PostgreSQL refuses a new job: SQLSTATE 23514")
    assert (await standing(world, good)).replay.state == "done"
    world.sql("ALTER TABLE assayline.jobs DROP CONSTRAINT refuses")
    assert (await order(world, bad, "resume")).problem is None
    await copied(world)
    assert len(copies(world, broken)) == 1


async def test_a_running_dispatcher_makes_the_new_jobs(world: JobWorld) -> None:
    old = ended(world)
    await made(world, **ALL)
    stop = asyncio.Event()
    running = asyncio.create_task(world.dispatcher(Policy(replay_every_s=0.01, listen=False)).run(stop))
    async with asyncio.timeout(30):
        while not copies(world, old):  # noqa: ASYNC110  the dispatcher tells nobody
            await asyncio.sleep(0.01)
    stop.set()
    await running


async def test_how_a_replay_fares_and_pages_of_replays(world: JobWorld) -> None:
    jobs = [ended(world, tenant="acme") for _ in range(3)]
    first = await made(world, filter={"tenant": "acme"}, note="why", made_by="ann", rate_per_min=6000)
    world.sql("UPDATE assayline.replays SET next_at = next_at - interval '1 s'")
    await copied(world)
    assert (await standing(world, first)).outcomes == {"scheduled": 3}
    end(world, copies(world, jobs[0])[0]["id"], "succeeded")
    stands = await standing(world, first)
    assert (stands.outcomes, stands.problems) == ({"scheduled": 2, "succeeded": 1}, ())
    assert (stands.replay.note, stands.replay.made_by, stands.replay.tenant) == ("why", "ann", "acme")
    assert stands.replay.filter == {"tenant": "acme"}
    assert stands.replay.finished_at is not None
    second = await made(world, **ALL, again=True)
    async with world.engine.connect() as connection:
        assert [one.id for one in await book.page(connection, limit=9)] == [second.id, first.id]
        assert [one.id for one in await book.page(connection, limit=1, before=second.id)] == [first.id]
        assert [one.id for one in await book.page(connection, limit=9, tenant="acme")] == [first.id]
        assert [one.id for one in await book.page(connection, limit=9, states=["running"])] == [second.id]
