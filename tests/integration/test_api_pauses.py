"""Pauses over HTTP: what is stopped waits, is listed and goes on; what cannot be named is refused by its field."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from apiworld import Api, mirror_into, served

from tasks import pauses
from tasks.pauses import PauseBlocked, PauseKind

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/v1/pauses"


@pytest.fixture(scope="module")
def shared(module_database_url: str, valkey_url: str) -> Iterator[Api]:
    """One service for all."""
    with served(module_database_url, f"{valkey_url.rstrip('/')}/15") as running:
        yield running


@pytest.fixture
def api(shared: Api, emptied_database_url: str) -> Api:
    """The service with nothing paused."""
    mirror_into(emptied_database_url)
    shared.link.execute("DELETE FROM assayline.pauses")
    return shared


def queued(api: Api, **fields: Any) -> str:
    job = api.enqueue(**fields)
    api.link.execute("UPDATE assayline.jobs SET state = 'queued', release = 1, copies = 1 WHERE id = %s", (job,))
    return job


def state(api: Api, job: str) -> tuple[str, str]:
    said = api.call("GET", f"/v1/jobs/{job}").json
    return said["state"], said["reason"]


def test_what_is_paused_waits_is_listed_and_goes_on(api: Api) -> None:
    mine, other = queued(api, tenant="a/b c&d"), queued(api, tenant="other")
    pause = {"kind": "tenant", "name": "a/b c&d", "why": "ann: their bill"}
    done = api.call("POST", PATH, pause)
    assert (done.status, done.json) == (200, {**pause, "waiting_again": 1, "held": 0})
    assert (state(api, mine), state(api, other)[0]) == (("scheduled", "pause"), "queued")

    [one] = api.call("GET", PATH).json["pauses"]
    assert {**one, "since": None} == {**pause, "since": None}
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(one["since"]) < timedelta(minutes=1)

    api.call("POST", PATH, {**pause, "why": "settled soon"})
    assert [(p["why"], p["since"]) for p in api.call("GET", PATH).json["pauses"]] == [("settled soon", one["since"])]

    address = f"{PATH}?kind=tenant&name=a/b+c%26d"
    for was_paused in (True, False):
        ended = api.call("DELETE", address)
        assert (ended.status, ended.json) == (200, {"kind": "tenant", "name": "a/b c&d", "was_paused": was_paused})
    assert api.call("GET", PATH).json == {"pauses": []}


@pytest.mark.parametrize(("kind", "name"), [
    ("provider", "fake"),
    ("provider", "openai"),
    ("queue", "fake.bulk"),
    ("queue", "openai.interactive"),
    ("analysis", "code_quality"),
    ("tenant", "whoever"),
])  # fmt: skip
def test_everything_can_be_stopped_a_provider_without_a_key_too(api: Api, kind: str, name: str) -> None:
    assert api.call("POST", PATH, {"kind": kind, "name": name}).status == 200


@pytest.mark.parametrize(("body", "field"), [
    ({}, "kind"),
    ({"kind": "job", "name": "x"}, "kind"),
    ({"kind": "tenant"}, "name"),
    ({"kind": "tenant", "name": ""}, "name"),
    ({"kind": "tenant", "name": "a\0"}, "name"),
    ({"kind": "tenant", "name": "x" * 201}, "name"),
    ({"kind": "tenant", "name": "x", "why": "x" * 501}, "why"),
    ({"kind": "tenant", "name": "x", "why": "\0"}, "why"),
    ({"kind": "tenant", "name": "x", "who": "ann"}, "who"),
    ({"kind": "provider", "name": "nobody"}, "name"),
    ({"kind": "queue", "name": "fake"}, "name"),
    ({"kind": "analysis", "name": "guessing"}, "name"),
])  # fmt: skip
def test_what_cannot_be_paused_is_refused_by_its_field(api: Api, body: dict[str, Any], field: str) -> None:
    refused = api.call("POST", PATH, json.dumps(body).encode())
    assert (refused.problem(), refused.json["field"]) == ((422, "invalid"), field)
    assert api.call("GET", PATH).json == {"pauses": []}


def test_a_name_that_is_not_known_is_answered_with_those_that_are(api: Api) -> None:
    detail = api.call("POST", PATH, {"kind": "queue", "name": "fake"}).json["detail"]
    assert detail.startswith("name: no such queue; there are ")
    assert "fake.bulk, fake.interactive" in detail


def test_what_is_no_request_is_refused(api: Api) -> None:
    assert api.call("POST", PATH, b"{").problem() == (400, "not-json")
    assert api.call("POST", PATH, b"{}", Content_Type="text/plain").problem() == (415, "unsupported-media-type")
    assert api.call("PUT", PATH, {}).problem() == (405, "method-not-allowed")
    for method in ("GET", "POST", "DELETE"):
        assert api.call(method, PATH, key=None).problem() == (401, "unauthorized")
    for query, field in {
        "name=x": "kind",
        "kind=tenant": "name",
        "kind=job&name=x": "kind",
        "kind=tenant&name=x&name=y": "name",
        "kind=tenant&name=x&why=z": "why",
    }.items():
        refused = api.call("DELETE", f"{PATH}?{query}")
        assert (refused.problem(), refused.json["field"]) == ((422, "invalid"), field)
    assert api.call("GET", f"{PATH}?kind=tenant").json["field"] == "kind"
    assert api.call("POST", f"{PATH}?kind=tenant", {"kind": "tenant", "name": "x"}).json["field"] == "kind"


def test_what_a_transaction_that_was_left_open_has_locked_is_told(
    api: Api, emptied_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "TRIES", 1)
    job, pause = queued(api, tenant="acme"), {"kind": "tenant", "name": "acme", "why": ""}
    with psycopg.connect(emptied_database_url) as web:
        web.execute("SELECT assayline_cancel(%s)", (job,))
        done = api.call("POST", PATH, pause)
        web.rollback()
    assert (done.status, done.json) == (200, {**pause, "waiting_again": 0, "held": 1})
    assert (len(api.call("GET", PATH).json["pauses"]), state(api, job)[0]) == (1, "queued")
    assert api.call("POST", PATH, pause).json["waiting_again"] == 1


def test_a_change_of_pauses_that_does_not_end_is_a_conflict(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def blocked(connection: object, kind: PauseKind, name: str, *_: str) -> None:
        raise PauseBlocked(kind, name)

    monkeypatch.setattr(pauses, "pause", blocked)
    monkeypatch.setattr(pauses, "resume", blocked)
    refused = api.call("POST", PATH, {"kind": "tenant", "name": "acme"})
    assert refused.problem() == (409, "pause-blocked")
    assert "tenant acme is as it was" in refused.json["detail"]
    assert api.call("DELETE", f"{PATH}?kind=tenant&name=acme").problem() == (409, "pause-blocked")
