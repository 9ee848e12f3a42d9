"""Cancelling by filter over HTTP: what is cancelled, how one goes on, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from apiworld import MODEL, Api, mirror_into, served

from api import cancellations
from api.requests import CancellationRequest
from tasks.producer import Which

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/v1/cancellations"


REDIS_DATABASE = 14


@pytest.fixture(scope="module")
def shared(module_database_url: str, valkey_url: str) -> Iterator[Api]:
    """One service for all."""
    with served(module_database_url, f"{valkey_url.rstrip('/')}/{REDIS_DATABASE}") as running:
        yield running


@pytest.fixture
def api(shared: Api, emptied_database_url: str) -> Api:
    """The service without any job, its catalog as a dispatcher leaves it."""
    mirror_into(emptied_database_url)
    return shared


def states(api: Api) -> dict[str, str]:
    return {str(row["id"]): row["state"] for row in api.link.execute("SELECT id, state FROM assayline.jobs").fetchall()}


def said(**figures: Any) -> dict[str, Any]:
    return {"cancelled": 0, "running": 0, "held": 0, "next": None, "matching": None} | figures


def test_what_fits_is_cancelled_and_what_does_not_is_left(api: Api) -> None:
    mine, other = api.enqueue(tenant="acme"), api.enqueue(tenant="other")
    running = api.enqueue(tenant="acme")
    api.link.execute("UPDATE assayline.jobs SET state = 'running', incarnation = id WHERE id = %s", (running,))
    matching = {"scheduled": 1, "queued": 0, "running": 1}
    counted = api.call("POST", PATH, {"tenant": "acme", "dry_run": True})
    assert (counted.status, counted.json) == (200, said(matching=matching))
    done = api.call("POST", PATH, {"tenant": "acme", "analysis": "code_quality", "state": None})
    assert (done.status, done.json) == (200, said(cancelled=2, running=1))
    assert states(api) == {mine: "cancelled", running: "cancelled", other: "scheduled"}
    assert api.call("GET", f"/v1/jobs/{running}").json["reason"] == "cancel_running"
    assert api.call("POST", PATH, {"all": True}).json == said(cancelled=1)


def test_every_part_of_a_filter_is_taken(api: Api) -> None:
    job = api.enqueue(
        tenant="acme", subject="ann", source="web", tags=["nightly"], lane="interactive", provider="fake", model=MODEL
    )
    which = {
        "tenant": "acme", "analysis": "code_quality", "provider": "fake", "state": ["scheduled", "queued"],
        "source": "web", "subject": "ann", "tag": "nightly", "lane": "interactive",
        "created_after": "2020-01-01T00:00:00Z", "created_before": "2100-01-01T00:00:00+02:00", "all": False,
    }  # fmt: skip
    assert set(which) == set(Which.__annotations__) == set(CancellationRequest.model_fields) - {"dry_run", "cursor"}
    assert api.call("POST", PATH, which).json["cancelled"] == 1
    assert states(api) == {job: "cancelled"}


def test_a_request_is_over_soon_and_says_where_to_go_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellations, "PORTION", 2)
    monkeypatch.setattr(cancellations, "CANCEL_FOR_S", 0.0)
    jobs = [api.enqueue() for _ in range(5)]
    body: dict[str, Any] = {"analysis": "code_quality"}
    done = [api.call("POST", PATH, body).json]
    while done[-1]["next"] is not None:
        done.append(api.call("POST", PATH, {**body, "cursor": done[-1]["next"]}).json)
    assert [answer["cancelled"] for answer in done] == [2, 2, 1]
    assert states(api) == dict.fromkeys(jobs, "cancelled")


def test_a_request_goes_on_as_long_as_it_has_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellations, "PORTION", 2)
    for _ in range(5):
        api.enqueue()
    assert api.call("POST", PATH, {"all": True}).json == said(cancelled=5)


@pytest.mark.parametrize(("body", "field"), [
    ({}, "filter"),
    ({"tenant": None, "all": False, "dry_run": True}, "filter"),
    ({"all": True, "tenant": "acme"}, "all"),
    ({"tennant": "acme"}, "tennant"),
    ({"tenant": ""}, "tenant"),
    ({"tenant": "a\0b"}, "tenant"),
    ({"state": ["succeeded"]}, "state[0]"),
    ({"state": []}, "state"),
    ({"state": "queued"}, "state"),
    ({"lane": "slow"}, "lane"),
    ({"created_after": "yesterday"}, "created_after"),
    ({"tag": "a", "cursor": "x"}, "cursor"),
    ({"tag": "\ud800"}, "tag"),
    ({"all": "yes"}, "all"),
])  # fmt: skip
def test_what_is_no_filter_is_refused_by_its_field(api: Api, body: dict[str, Any], field: str) -> None:
    job = api.enqueue()
    refused = api.call("POST", PATH, json.dumps(body).encode())
    assert (refused.problem(), refused.json["field"]) == ((422, "invalid"), field)
    assert states(api) == {job: "scheduled"}


def test_what_is_no_request_is_refused(api: Api) -> None:
    assert api.call("POST", PATH, b"{").problem() == (400, "not-json")
    assert api.call("POST", PATH, b"{}", Content_Type="text/plain").problem() == (415, "unsupported-media-type")
    assert api.call("GET", PATH).problem() == (405, "method-not-allowed")
    assert api.call("POST", PATH, {"all": True}, key=None).problem() == (401, "unauthorized")
    query = api.call("POST", f"{PATH}?tenant=acme", {"all": True})
    assert (query.problem(), query.json["field"]) == ((422, "invalid"), "tenant")
    assert api.call("POST", PATH, {"tag": "a", "cursor": str(uuid4())}).json == said()


def test_an_older_database_is_not_set_up_for_it(database_url: str, redis_url: str) -> None:
    with served(database_url, redis_url) as api:
        api.link.execute("DROP FUNCTION public.assayline_cancel_jobs(jsonb, integer, uuid)")
        assert api.call("POST", PATH, {"all": True}).problem() == (503, "not-migrated")
