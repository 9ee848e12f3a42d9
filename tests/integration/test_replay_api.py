"""Replays over HTTP: what is made, what is only said, whose they are, orders, lists, and every refusal by its place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from apiworld import MODEL, Api, mirror_into, served
from nodes.waiting import eventually
from replayworld import cleared
from sqlalchemy.pool import QueuePool

from api import replays as routes
from api.limits import PLANS_AT_ONCE
from api.replay_answers import PlanAnswer, ReplayAnswer, ReplayLine
from tasks.engine import POOL_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

REPLAYS = "/v1/replays"


@pytest.fixture(scope="module")
def shared(module_database_url: str, valkey_url: str) -> Iterator[Api]:
    """One service for all tests: nothing of theirs lies in Redis."""
    with served(module_database_url, valkey_url) as running:
        yield running


@pytest.fixture
def api(shared: Api, module_database_url: str) -> Api:
    cleared(shared.link)
    mirror_into(module_database_url)
    return shared


def failed(api: Api, **fields: Any) -> str:
    job = api.enqueue(**fields)
    api.link.execute(
        "UPDATE assayline.jobs SET state = 'failed', reason = 'timeout', finished_at = clock_timestamp() WHERE id = %s",
        (job,),
    )
    return job


def portion(api: Api, most: int = 100) -> None:
    api.link.execute("SELECT FROM assayline.replay_portion(%s)", (most,))


def test_a_replay_is_made_looked_at_and_shows_in_its_jobs(api: Api) -> None:
    jobs = [failed(api, tenant="acme") for _ in range(2)]
    sent = {"filter": {"error": ["timeout"], "tenant": "acme"}, "changes": {"model": MODEL}, "rate_per_min": 6000,
            "note": "outage", "made_by": "ann"}  # fmt: skip
    said = api.call("POST", REPLAYS, sent)
    assert said.status == 202
    plan = said.json
    assert set(plan) == set(PlanAnswer.model_fields)
    assert (plan["found"], plan["jobs"], set(plan["left_out"].values())) == (2, 2, {0})
    assert (plan["estimated_usd"], plan["unpriced_jobs"]) == (None, 2)
    assert plan["groups"] == [{"analysis": "code_quality", "model": MODEL, "jobs": 2, "usd": None, "by": None}]
    replay = plan["replay"]
    assert said.headers["location"] == f"{REPLAYS}/{replay['id']}"
    assert set(replay) == set(ReplayLine.model_fields)
    assert {name: replay[name] for name in sent} == sent
    assert (replay["state"], replay["tenant"], replay["jobs"], replay["made"], replay["left"]) == (
        "running",
        "acme",
        2,
        0,
        2,
    )
    while (there := api.call("GET", said.headers["location"]).json)["state"] == "running":
        portion(api)  # a hundred a second: one job may have to wait for its turn
    assert set(there) == set(ReplayAnswer.model_fields)
    assert (there["state"], there["made"], there["outcomes"]) == ("done", 2, {"scheduled": 2})
    old = api.call("GET", f"/v1/jobs/{jobs[0]}").json
    [by] = old["replays"]
    assert (old["replay_of"], old["replay_root"], by["replay_id"], by["state"]) == (
        None,
        None,
        replay["id"],
        "scheduled",
    )
    new = api.call("GET", f"/v1/jobs/{by['id']}").json
    assert (new["replay_of"], new["replay_id"], new["replay_root"]) == (jobs[0], replay["id"], jobs[0])


def test_a_dry_run_and_nothing_to_replay_make_nothing(api: Api) -> None:
    failed(api)
    said = api.call("POST", REPLAYS, {"all": True, "dry_run": True})
    assert (said.status, said.json["replay"], said.json["jobs"], "location" in said.headers) == (200, None, 1, False)
    first = api.call("POST", REPLAYS, {"all": True}).json["replay"]
    said = api.call("POST", REPLAYS, {"all": True})
    assert (said.status, said.json["replay"], said.json["jobs"]) == (200, None, 0)
    assert (said.json["left_out"]["replayed"], said.json["under_way"]) == (1, [first["id"]])


def test_a_request_that_is_sent_again_under_its_key_is_answered_with_the_same_replay(api: Api) -> None:
    for _ in range(3):
        failed(api)
    for body in ({"limit": 1}, {"again": True, "rate_per_min": 60}):
        sent, key = {"all": True, **body}, f"outage:{len(body)}"
        first = api.call("POST", REPLAYS, sent, Idempotency_Key=key)
        assert (first.status, first.json["created"], first.json["replay"]["idempotency_key"]) == (202, True, key)
        again = api.call("POST", REPLAYS, {**sent, "idempotency_key": key})
        assert (again.status, again.headers["location"]) == (200, first.headers["location"])
        assert again.json == {**first.json, "created": False}
        other = api.call("POST", REPLAYS, {**sent, "note": "other"}, Idempotency_Key=key)
        assert (other.problem(), other.json["field"]) == ((409, "idempotency-conflict"), "idempotency_key")
        assert first.json["replay"]["id"] in other.json["detail"]
    assert len(api.call("GET", REPLAYS).json["replays"]) == 2
    for key in ("", "a b", "x" * 256, "grün".encode().decode("latin-1")):
        assert api.call("POST", REPLAYS, {"all": True}, Idempotency_Key=key).problem() == (422, "invalid")
    said = api.call("POST", REPLAYS, {"all": True, "idempotency_key": "a"}, Idempotency_Key="b")
    assert (said.problem(), said.json["field"]) == ((422, "invalid"), "idempotency_key")


def test_while_another_replay_is_made_it_is_said_at_once_and_other_requests_have_their_connections(api: Api) -> None:
    failed(api)
    with api.link.transaction():
        api.link.execute("SELECT pg_advisory_xact_lock(hashtextextended('assayline.replay', 0))")
        asking = [api.start("POST", REPLAYS, {"all": True}) for _ in range(2 * POOL_SIZE)]
        api.enqueue()
        for said in map(api.answer, asking):
            assert (said.problem(), said.headers["retry-after"]) == ((503, "replay-being-made"), "5")
    assert api.call("POST", REPLAYS, {"all": True}).status == 202


def test_replays_that_are_planned_leave_connections_to_other_requests(api: Api) -> None:
    failed(api)
    pool = api.services.engine.pool
    assert isinstance(pool, QueuePool)
    with api.link.transaction():
        api.link.execute("LOCK TABLE assayline.replays")  # each plan stands still
        asking = [api.start("POST", REPLAYS, {"all": True, "dry_run": True}) for _ in range(POOL_SIZE)]
        eventually(lambda: pool.checkedout() == PLANS_AT_ONCE)
        api.enqueue()
        assert pool.checkedout() == PLANS_AT_ONCE
    assert [api.answer(one).status for one in asking] == [200] * POOL_SIZE


def test_who_waits_too_long_for_a_place_is_told_to_come_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    failed(api)
    monkeypatch.setattr(routes, "PLAN_WITHIN_S", 0.01)
    monkeypatch.setattr(type(api.services), "plans", asyncio.Semaphore(0))
    for dry_run in (True, False):
        said = api.call("POST", REPLAYS, {"all": True, "dry_run": dry_run})
        assert (said.problem(), said.headers["retry-after"]) == ((503, "busy"), "5")


def test_orders_and_what_has_ended_takes_none(api: Api) -> None:
    for _ in range(2):
        failed(api)
    there = api.call("POST", REPLAYS, {"all": True}).headers["location"]
    portion(api, 1)
    for order, state in (("pause", "paused"), ("pause", "paused"), ("resume", "running"), ("stop", "stopped")):
        said = api.call("POST", f"{there}/{order}")
        assert (said.status, said.json["state"]) == (200, state)
    assert (said.json["made"], said.json["left"]) == (1, 1)
    assert api.call("POST", f"{there}/stop").status == 200
    assert api.call("POST", f"{there}/resume").problem() == (409, "replay-ended")
    assert api.call("POST", f"{there}/rewind").problem() == (404, "not-found")
    for method, path in (("GET", ""), ("POST", "/pause")):
        assert api.call(method, f"{REPLAYS}/{uuid4()}{path}").problem() == (404, "no-such-replay")
        assert api.call(method, f"{REPLAYS}/17{path}").problem() == (422, "invalid")


def test_a_tenant_sees_and_moves_its_own_replays_only(api: Api) -> None:
    theirs, ours = failed(api, tenant="theirs"), failed(api, tenant="ours")
    there = api.call("POST", REPLAYS, {"filter": {"tenant": "theirs"}}).headers["location"]
    everybodys = api.call("POST", REPLAYS, {"all": True}).headers["location"]
    assert api.call("GET", f"{there}?tenant=theirs").status == 200
    for path in (there, everybodys):
        assert api.call("GET", f"{path}?tenant=ours").problem() == (404, "no-such-replay")
        for order in ("pause", "resume", "stop"):
            assert api.call("POST", f"{path}/{order}?tenant=ours").problem() == (404, "no-such-replay")
    assert len(api.call("GET", f"{REPLAYS}?tenant=theirs").json["replays"]) == 1
    assert api.call("GET", f"{REPLAYS}?tenant=ours").json == {"replays": [], "next": None}
    stolen = api.call("POST", REPLAYS, {"filter": {"ids": [ours, theirs], "tenant": "ours"}})
    assert (stolen.problem(), stolen.json["field"]) == ((422, "invalid"), "filter.ids")


def test_pages_of_replays(api: Api) -> None:
    made = []
    for number in range(3):
        failed(api, tags=[str(number)])
        made.append(api.call("POST", REPLAYS, {"filter": {"tag": [str(number)]}}).json["replay"]["id"])
    api.call("POST", f"{REPLAYS}/{made[0]}/pause")
    first = api.call("GET", f"{REPLAYS}?limit=2")
    assert [one["id"] for one in first.json["replays"]] == made[:0:-1]
    assert first.json["next"] in first.headers["link"]
    second = api.call("GET", first.json["next"]).json
    assert ([one["id"] for one in second["replays"]], second["next"]) == (made[:1], None)
    assert [one["id"] for one in api.call("GET", f"{REPLAYS}?state=paused").json["replays"]] == made[:1]
    for query in ("limit=0", "limit=201", "state=lost", "cursor=17", "unheard=1", "limit=1&limit=2", "tenant="):
        assert api.call("GET", f"{REPLAYS}?{query}").problem() == (422, "invalid")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "filter"),
        ({"filter": {}}, "filter"),
        ({"all": True, "filter": {"error": ["timeout"]}}, "filter"),
        ({"filter": {"state": ["failed", "succeeded"]}}, "filter"),
        ({"filter": {"state": ["running"]}}, "filter.state[0]"),
        ({"filter": {"ids": []}}, "filter.ids"),
        ({"filter": {"error": ["\ud800"]}}, "filter.error[0]"),
        ({"filter": {"ended_after": "2026-11-05"}}, "filter.ended_after"),
        ({"filter": {"colour": "red"}}, "filter.colour"),
        ({"all": True, "changes": {"priority": 10}}, "changes.priority"),
        ({"all": True, "changes": {"max_cost_usd": "much"}}, "changes.max_cost_usd"),
        ({"all": True, "changes": {"content": "other"}}, "changes.content"),
        ({"all": True, "rate_per_min": 0}, "rate_per_min"),
        ({"all": True, "limit": 10**7}, "limit"),
        ({"all": True, "note": "x" * 501}, "note"),
        ({"all": True, "idempotency_key": "x" * 256}, "idempotency_key"),
        ({"all": "yes"}, "all"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_named(api: Api, body: dict[str, Any], field: str) -> None:
    failed(api)
    said = api.call("POST", REPLAYS, body)
    assert said.problem() == (422, "invalid")
    assert said.json["field"].startswith(field)
    assert api.call("GET", REPLAYS).json["replays"] == []


def test_models_and_prompts_that_are_not_there_are_refused(api: Api) -> None:
    failed(api)
    for changes, kind, field in (
        ({"model": "fake/odd"}, "unknown-model", "changes.model"),
        ({"provider": "nobody"}, "unknown-model", "changes.provider"),
        ({"prompt_version": "v99"}, "invalid", "changes.prompt_version"),
    ):
        said = api.call("POST", REPLAYS, {"all": True, "changes": changes})
        assert (said.problem(), said.json["field"]) == ((422, kind), field)
    api.link.execute("DELETE FROM assayline.catalog_models")
    said = api.call("POST", REPLAYS, {"all": True})
    assert (said.problem(), MODEL in said.json["detail"]) == ((422, "unknown-model"), True)


def test_a_search_that_takes_too_long_is_given_up_and_says_what_would_help(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(api)
    monkeypatch.setattr(routes, "PLAN_WITHIN_S", 0.001)
    api.link.execute(
        "CREATE FUNCTION assayline.slow() RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT pg_sleep(1) IS NULL'"
    )
    api.link.execute("ALTER TABLE assayline.jobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    api.link.execute("CREATE POLICY slow ON assayline.jobs USING (NOT assayline.slow())")
    said = api.call("POST", REPLAYS, {"all": True})
    assert said.problem() == (422, "too-much")
    assert "created_after" in said.json["detail"]


def test_a_body_must_be_json(api: Api) -> None:
    assert api.call("POST", REPLAYS, b"all", Content_Type="application/json").problem() == (400, "not-json")
    assert api.call("POST", REPLAYS, b"{}", Content_Type="text/plain").problem() == (415, "unsupported-media-type")
    assert api.call("POST", REPLAYS, {"all": True}, key=None).problem() == (401, "unauthorized")
