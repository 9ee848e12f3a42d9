"""The HTTP API over real stores, by a plain HTTP caller: each route, each problem, waiting, limits, who may come in."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import fields as fields_of
from functools import partial
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import psycopg
import pytest
import redis as redis_py
from apiworld import KEY, MODEL, Api, Said, mirror_into, served
from nodes.waiting import eventually

from api import answers, protocol, server
from api.limits import MAX_BODY_BYTES, MAX_HEAD_BYTES, MAX_PAGE, MAX_WAIT_S
from ops.embedded import EmbeddedValkey
from tasks.producer import watch
from tasks.producer.errors import MAX_BYTES
from tasks.producer.jobs import Job
from tasks.producer.watch import channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
REDIS_DATABASE = 15
QUICKLY_S = 10.0
"""Far below the minute that those who wait have asked for."""


@pytest.fixture(scope="module")
def shared(postgres_admin_url: str, template_database: str, valkey_url: str) -> Iterator[Api]:
    """One service for the tests that leave it as it was; its database is a clone, as a test's own is."""
    name = f"{template_database}_api"
    with psycopg.connect(postgres_admin_url, autocommit=True) as link:
        link.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
        url = urlunsplit(urlsplit(postgres_admin_url)._replace(path=f"/{name}"))
        mirror_into(url)
        with served(url, f"{valkey_url.rstrip('/')}/{REDIS_DATABASE}") as running:
            yield running
        link.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def api(shared: Api) -> Api:
    """The shared service without any job, its catalog as a dispatcher left it."""
    for table in ("jobs", "job_contents", "results", "calls", "idempotency_keys"):
        shared.link.execute(f"DELETE FROM assayline.{table}")
    shared.link.execute("DELETE FROM assayline.catalog_analyses WHERE name = 'theirs'")
    return shared


@pytest.fixture
def own(database_url: str, redis_url: str) -> Iterator[Api]:
    """A service of the test's own."""
    mirror_into(database_url)
    with served(database_url, redis_url) as running:
        yield running


def names(model: type[answers.Answer]) -> set[str]:
    return set(model.model_fields)


# Handing over ---------------------------------------------------------------------------------------------------------


def test_a_job_goes_in_with_all_its_fields_and_can_be_looked_at(api: Api) -> None:
    sent: dict[str, Any] = {
        "analysis": "completion", "content": "grün 🌍\t\\", "context": {}, "tenant": "acme", "subject": "ann",
        "messages": [{"role": "user", "content": "hi"}], "source": "web", "lane": "interactive", "priority": 2,
        "provider": "fake", "model": MODEL, "chain": [MODEL], "prompt_version": "v1", "output_format": "json",
        "schema": SCHEMA, "max_tokens": 90, "temperature": 0.5, "max_cost_usd": "0.25", "max_attempts": 3,
        "use_cache": False, "use_fallback": False, "not_before": "2100-01-01T00:00:00Z",
        "deadline_at": "2100-01-03T00:00:00Z", "expires_at": "2100-01-02T00:00:00+00:00", "idempotency_key": "k",
        "tags": ["nightly"],
    }  # fmt: skip
    assert set(sent) == {field.name for field in fields_of(Job)}
    said = api.call("POST", "/v1/jobs", sent)
    assert (said.status, said.json["created"]) == (202, True)
    there = api.call("GET", said.headers["location"])
    assert there.status == 200
    job = there.json
    assert {**job, "created": True} == said.json
    kept = set(sent) - {"content", "context", "messages", "schema", "not_before", "deadline_at", "expires_at"}
    assert {name: job[name] for name in kept} == {name: sent[name] for name in kept} | {
        "max_cost_usd": 0.25,
        "model": MODEL.removeprefix("fake/"),
    }
    [row] = api.link.execute("SELECT * FROM assayline.job_contents").fetchall()
    assert {name: row[name] for name in ("content", "messages", "schema")} == {
        name: sent[name] for name in ("content", "messages", "schema")
    }


def test_null_is_the_same_as_nothing(api: Api) -> None:
    said = api.call("POST", "/v1/jobs", {field.name: None for field in fields_of(Job)}
                    | {"analysis": "code_quality", "content": "x"})  # fmt: skip
    assert said.status == 202


def test_a_repeat_is_the_same_job_and_another_request_a_conflict(api: Api) -> None:
    body = {"analysis": "code_quality", "content": "x = 1", "tenant": "acme"}
    first = api.call("POST", "/v1/jobs", body, Idempotency_Key="push:1")
    again = api.call("POST", "/v1/jobs", {**body, "idempotency_key": "push:1"}, Idempotency_Key="push:1")
    assert (first.status, again.status) == (202, 200)
    assert (again.json["id"], again.json["created"]) == (first.json["id"], False)
    assert again.headers["location"] == first.headers["location"]
    other = api.call("POST", "/v1/jobs", {**body, "content": "x = 2"}, Idempotency_Key="push:1")
    assert other.problem() == (409, "idempotency-conflict")
    assert other.json["job_id"] == first.json["id"]
    elsewhere = api.call("POST", "/v1/jobs", {**body, "tenant": "other"}, Idempotency_Key="push:1")
    assert elsewhere.status == 202


def test_header_and_body_must_not_name_two_keys(api: Api) -> None:
    body = {"analysis": "code_quality", "content": "x", "idempotency_key": "one"}
    said = api.call("POST", "/v1/jobs", body, Idempotency_Key="two")
    assert (said.problem(), said.json["field"]) == ((422, "invalid"), "idempotency_key")
    twice = socket_said(api, "POST /v1/jobs", "Idempotency-Key: a", "Idempotency-Key: b", "Content-Length: 0")
    assert (twice.problem(), twice.json["field"]) == ((422, "invalid"), "idempotency-key")
    assert api.link.execute("SELECT count(*) AS n FROM assayline.jobs").fetchone() == {"n": 0}


def socket_said(api: Api, line: str, *headers: str, end: str = "\r\n\r\n") -> Said:
    """The answer to a request as it is written here, which no HTTP library would send."""
    parts = urlsplit(api.url)
    head = [f"{line} HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", *headers]
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=QUICKLY_S) as link:
        link.sendall(("\r\n".join(head) + end).encode("latin-1"))
        response = HTTPResponse(link)
        response.begin()
        with response:
            return Said(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def test_what_is_no_request_is_told_so(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "api.access")
    told = set()
    for line, header, end in (
        ("GET", "X: 1", "\r\n\r\n"),
        ("GET /v1/jobs", "No Colon", "\r\n\r\n"),
        ("GET /v1/jobs", "X: " + "x" * MAX_HEAD_BYTES, ""),  # and still no end of it
    ):
        said = socket_said(api, line, header, end=end)
        assert said.problem() == (400, "not-http")
        told.add(said.json["request_id"])
    eventually(lambda: told <= {vars(record).get("request_id") for record in caplog.records})


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"nope": 1}, "nope"),
    ({"content": None}, "content"),
    ({"content": "  \n"}, "content"),
    ({"content": "nul \0"}, "content"),
    ({"content": "lone \ud800"}, "content"),
    ({"context": {"file_path": "nul \0"}}, "context"),
    ({"context": {"\ud800": 1}}, "context"),
    ({"context": {"unknown": 1}}, "context"),
    ({"context": {"file_path": "x" * 20_001}}, "context"),
    ({"messages": [{"role": "user", "content": "x"}]}, "messages"),
    ({"analysis": "completion", "messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
    ({"analysis": "completion", "messages": [{"role": "user", "content": "x", "n": 1}]}, "messages[0].n"),
    ({"analysis": "completion", "content": "", "messages": [{"role": "assistant", "content": "x"}]}, "messages"),
    ({"analysis": "completion", "schema": {"type": "array"}}, "schema"),
    ({"analysis": "completion", "schema": {"type": "objekt"}}, "schema"),
    ({"analysis": "completion", "schema": SCHEMA, "output_format": "code"}, "output_format"),
    ({"analysis": "completion", "output_format": "html"}, "output_format"),
    ({"analysis": "text_classification", "context": {"labels": ["one"]}}, "context"),
    ({"schema": SCHEMA}, "schema"),
    ({"prompt_version": "v999"}, "prompt_version"),
    ({"priority": 10}, "priority"),
    ({"priority": "5"}, "priority"),
    ({"priority": True}, "priority"),
    ({"temperature": 2.1}, "temperature"),
    ({"max_cost_usd": "0"}, "max_cost_usd"),
    ({"max_cost_usd": -1}, "max_cost_usd"),
    ({"use_cache": 1}, "use_cache"),
    ({"lane": "fast"}, "lane"),
    ({"chain": []}, "chain"),
    ({"tags": ["x"] * 51}, "tags"),
    ({"tags": [""]}, "tags[0]"),
    ({"tenant": ""}, "tenant"),
    ({"not_before": "tomorrow"}, "not_before"),
    ({"not_before": "2100-01-01T00:00:00"}, "not_before"),
    ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
]  # fmt: skip


@pytest.mark.parametrize("many", [REFUSED])
def test_what_cannot_be_accepted_is_named_and_nothing_goes_in(api: Api, many: list[tuple[dict[str, Any], str]]) -> None:
    """One server for all of them: a table of requests, each with the field at fault."""
    for sent, field in many:
        said = api.call("POST", "/v1/jobs", {"analysis": "code_quality", "content": "x = 1", **sent})
        assert (said.problem(), said.json["field"]) == ((422, "invalid"), field), (sent, said.json)
    assert api.link.execute("SELECT count(*) AS n FROM assayline.jobs").fetchone() == {"n": 0}


def test_everything_that_is_wrong_is_said_at_once_and_no_value_is_repeated(api: Api) -> None:
    said = api.call("POST", "/v1/jobs", {"analysis": "code_quality", "content": 7, "lane": "a secret", "bogus": 1})
    assert {error["field"] for error in said.json["errors"]} == {"content", "lane", "bogus"}
    assert b"a secret" not in said.body


def test_the_catalog_has_the_last_word(api: Api) -> None:
    body = {"analysis": "code_quality", "content": "x"}
    assert api.call("POST", "/v1/jobs", {**body, "analysis": "nope"}).problem() == (422, "unknown-analysis")
    said = api.call("POST", "/v1/jobs", {**body, "model": "openai/nope"})
    assert (said.problem(), said.json["field"]) == ((422, "unknown-model"), "model")
    assert api.call("POST", "/v1/jobs", {**body, "provider": "nope"}).problem() == (422, "unknown-model")


def test_an_analysis_that_only_the_workers_know_is_taken(api: Api) -> None:
    api.link.execute("INSERT INTO assayline.catalog_analyses VALUES ('theirs', %s, 'bulk', 4)", ([MODEL],))
    assert api.call("POST", "/v1/jobs", {"analysis": "theirs", "content": "x", "context": {"any": 1}}).status == 202


BODIES: list[tuple[bytes, tuple[int, str]]] = [
    (b"", (400, "not-json")),
    (b"{", (400, "not-json")),
    (b"\xff", (400, "not-json")),
    (b"\xef\xbb\xbf{}", (400, "not-json")),
    (b'{"analysis": NaN}', (400, "not-json")),
    (b"[]", (422, "invalid")),
    (b'{"content": "a", "content": "b"}', (422, "invalid")),
    (b'{"priority": 1e999}', (422, "invalid")),
    (b'{"priority": ' + b"9" * 5_000 + b"}", (422, "invalid")),
    (b'{"context": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", (422, "invalid")),
    (b'{"analysis": "code_quality", "content": "x", "context": ' + b'{"a":' * 40 + b"1" + b"}" * 41, (422, "invalid")),
]


def test_a_body_that_is_no_job_is_refused(api: Api) -> None:
    for body, wanted in BODIES:
        assert api.call("POST", "/v1/jobs", body).problem() == wanted, body[:60]
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"):
        said = api.call("POST", "/v1/jobs", b"{}", Content_Type=media_type)
        assert said.problem() == (415, "unsupported-media-type")
    said = api.call("POST", "/v1/jobs", b"\x1f\x8b", Content_Encoding="gzip")
    assert (said.problem(), "Content-Encoding" in said.json["detail"]) == ((415, "unsupported-media-type"), True)


def test_bytes_are_bounded_before_they_are_read_and_after(api: Api) -> None:
    body = {"analysis": "code_quality", "content": "x"}
    whole = {**body, "analysis": "theirs", "content": "ü" * (MAX_BYTES // 2)}
    api.link.execute("INSERT INTO assayline.catalog_analyses VALUES ('theirs', %s, 'bulk', 4)", ([MODEL],))
    assert api.call("POST", "/v1/jobs", whole).status == 202
    for sent, field in (
        ({**whole, "content": whole["content"] + "x"}, "content"),
        ({**whole, "content": "x" * (MAX_BYTES + 1)}, "content"),
        ({**body, "analysis": "theirs", "context": {"a": "x" * MAX_BYTES}}, "options"),
        ({**body, "content": "x" * 1_000_000}, "content"),  # more than this analysis takes
    ):
        said = api.call("POST", "/v1/jobs", sent)
        assert (said.problem(), said.json["field"]) == ((413, "too-large"), field)
    long = b" " * (MAX_BODY_BYTES + 1)
    assert api.call("POST", "/v1/jobs", long).problem() == (413, "too-large")
    assert api.call("POST", "/v1/jobs", iter([long[:-2], long[-2:]])).problem() == (413, "too-large")


def test_a_length_that_is_announced_is_believed_before_a_byte_comes(api: Api) -> None:
    connection = api.start("POST", "/v1/jobs", b"", Content_Length=str(MAX_BODY_BYTES + 1))
    assert api.answer(connection).problem() == (413, "too-large")


def test_a_body_that_does_not_arrive_is_given_up(database_url: str, redis_url: str) -> None:
    with served(database_url, redis_url, body_within_s=0.05) as api:
        connection = api.start("POST", "/v1/jobs", b"{", Content_Length="100")
        assert api.answer(connection).problem() == (408, "body-timeout")


def test_a_body_with_two_ends_is_refused_and_nothing_after_it_is_read(api: Api) -> None:
    """A proxy that goes by the length would see no second request in here."""
    hidden = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    for path in ("/v1/jobs", "/health"):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n"
        with dialled(api, f"{head}0\r\n\r\n{hidden}".encode()) as link:
            said = b"".join(iter(partial(link.recv, 65_536), b""))
        assert said.startswith(b"HTTP/1.1 400 ")
        assert said.count(b"HTTP/1.1 ") == 1


def dialled(api: Api, sent: bytes) -> socket.socket:
    """A connection on which some bytes have been sent."""
    parts = urlsplit(api.url)
    link = socket.create_connection((str(parts.hostname), parts.port or 0), timeout=QUICKLY_S)
    link.sendall(sent)
    return link


HALF_A_HEAD = b"GET /health HTTP/1.1\r\nX:"
KEYLESS = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "more"), [(b"", b""), (HALF_A_HEAD, b"x"), (KEYLESS, b"1\r\nx\r\n")], ids=["silent", "slow", "endless"]
)
def test_who_sends_no_whole_request_is_hung_up_on(
    api: Api, monkeypatch: pytest.MonkeyPatch, sent: bytes, more: bytes
) -> None:
    """Nobody has shown a key so far: a connection of theirs must not stand for as long as they like."""
    monkeypatch.setattr(protocol, "HEAD_WITHIN_S", 0.2)
    with dialled(api, sent) as link:
        link.settimeout(0.01)
        give_up_at = time.monotonic() + QUICKLY_S
        while time.monotonic() < give_up_at:
            try:
                if link.recv(65_536) == b"":
                    return
            except TimeoutError:
                link.sendall(more)
            except OSError:
                return
    pytest.fail("still connected")


def test_what_is_no_http_after_an_answer_ends_the_connection_and_nothing_else(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with dialled(api, KEYLESS) as link:
        assert link.recv(65_536).startswith(b"HTTP/1.1 401")
        link.sendall(b"no chunk\r\n")
        assert b"HTTP/1.1" not in b"".join(iter(partial(link.recv, 65_536), b""))
    assert not [record for record in caplog.records if record.exc_info]


# Looking and waiting --------------------------------------------------------------------------------------------------


def test_a_job_that_ended_has_all_that_is_described(api: Api) -> None:
    """What Postgres says and what the document promises are the same names: a new column must be described."""
    job_id = api.enqueue()
    api.settle(job_id)
    job = api.call("GET", f"/v1/jobs/{job_id}").json
    assert set(job) == names(answers.JobAnswer)
    assert set(job["result"]) == names(answers.Result)
    assert set(job["calls"][0]) == names(answers.Call)
    assert (job["result"]["data"], job["result"]["cost_usd"]) == ({"a": 1}, 0.00012)


def test_no_job_and_no_id(api: Api) -> None:
    job_id = api.enqueue(tenant="acme")
    for path in (f"/v1/jobs/{uuid4()}", f"/v1/jobs/{job_id}?tenant=other"):
        assert api.call("GET", path).problem() == (404, "no-such-job")
    assert api.call("POST", f"/v1/jobs/{uuid4()}/cancel").problem() == (404, "no-such-job")
    assert api.call("GET", f"/v1/jobs/{job_id}?tenant=acme").status == 200
    for query in (f"wait={MAX_WAIT_S + 1}", "wait=-1", "wait=x", "wait=1&wait=2", "nope=1", "tenant=a%00b"):
        said = api.call("GET", f"/v1/jobs/{job_id}?{query}")
        assert (said.problem(), said.json["field"]) == ((422, "invalid"), query.partition("=")[0])
    assert api.call("GET", "/v1/jobs/{" + job_id + "}").problem() == (422, "invalid")


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits and hears looks at Postgres once in two minutes: only an event can be quicker."""
    monkeypatch.setattr(watch, "HEARING_S", (120.0, 120.0))


def waiting(api: Api, job_id: str) -> Any:
    """A request that waits a minute, once the process is listening and the request is known to wait."""
    eventually(lambda: api.services.ends.hearing)
    connection = api.start("GET", f"/v1/jobs/{job_id}?wait={MAX_WAIT_S}")
    eventually(lambda: api.services.ends.waiting)
    return connection


@pytest.mark.usefixtures("no_poll")
def test_waiting_ends_with_the_announcement(api: Api, valkey_url: str) -> None:
    job_id = api.enqueue()
    first = waiting(api, job_id)
    second = api.start("GET", f"/v1/jobs/{job_id}?wait={MAX_WAIT_S}")
    api.settle(job_id)
    first.sock.settimeout(QUICKLY_S)
    with redis_py.Redis.from_url(valkey_url) as redis:
        redis.publish(channel(UUID(job_id)), json.dumps({"id": job_id, "state": "succeeded"}))
    assert [api.answer(one).json["state"] for one in (first, second)] == ["succeeded"] * 2
    eventually(lambda: not api.services.ends.waiting)


def test_waiting_ends_with_its_time_and_says_how_the_job_stands(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_WITHIN_S", 0.9)  # it bounds requests that come, not those that wait
    said = api.call("GET", f"/v1/jobs/{api.enqueue()}?wait=1")
    assert (said.status, said.json["state"]) == (200, "scheduled")


@pytest.mark.usefixtures("no_poll")
def test_cancelling_is_heard_by_those_who_wait(api: Api) -> None:
    job_id = api.enqueue()
    connection = waiting(api, job_id)
    connection.sock.settimeout(QUICKLY_S)
    assert api.call("POST", f"/v1/jobs/{job_id}/cancel").json == {
        "id": job_id, "state": "cancelled", "cancelled": True,
    }  # fmt: skip
    assert api.answer(connection).json["state"] == "cancelled"
    ended = api.enqueue()
    api.settle(ended)
    assert api.call("POST", f"/v1/jobs/{ended}/cancel").json["cancelled"] is False


@pytest.mark.usefixtures("no_poll")
def test_without_redis_waiting_looks_at_postgres(database_url: str, tmp_path: Path) -> None:
    """A Redis that goes away while somebody waits, and comes back."""
    mirror_into(database_url)
    server = EmbeddedValkey(tmp_path / "valkey")
    url = server.start()
    with served(database_url, url) as api:
        try:
            job_id = api.enqueue()
            connection = waiting(api, job_id)
            connection.sock.settimeout(QUICKLY_S)
        finally:
            server.stop()
        eventually(lambda: not api.services.ends.hearing)
        assert api.call("GET", "/health/ready").problem() == (503, "not-ready")
        api.settle(job_id)
        assert api.answer(connection).json["state"] == "succeeded"
        assert api.call("POST", f"/v1/jobs/{api.enqueue()}/cancel").json["cancelled"] is True


@pytest.mark.usefixtures("no_poll")
def test_who_hangs_up_is_not_waited_for(api: Api) -> None:
    connection = waiting(api, api.enqueue())
    connection.close()
    eventually(lambda: not api.services.ends.waiting, QUICKLY_S)


@pytest.mark.usefixtures("no_poll")
def test_a_stop_answers_those_who_wait(own: Api) -> None:
    job_id = own.enqueue()
    connection = waiting(own, job_id)
    connection.sock.settimeout(QUICKLY_S)
    stopping = threading.Thread(target=own.stop)
    stopping.start()
    said = own.answer(connection)
    assert (said.status, said.json["state"]) == (200, "scheduled")
    stopping.join(QUICKLY_S)
    assert not stopping.is_alive()


HELD_UP = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def test_what_is_not_done_when_the_grace_is_over_is_told_so(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "STOP_WITHIN_S", 0)
    with psycopg.connect(database_url) as other, served(database_url, redis_url) as api:
        other.execute("LOCK TABLE assayline.jobs")
        connection = api.start("GET", "/v1/jobs")
        eventually(lambda: api.link.execute(HELD_UP).fetchall())
        api.server.should_exit = True
        assert api.answer(connection).problem() == (503, "stopping")
    assert not [record for record in caplog.records if record.exc_info]


# Listing --------------------------------------------------------------------------------------------------------------


def test_pages_hold_every_job_once_newest_first(api: Api) -> None:
    ids = [api.enqueue(tenant="acme", tags=["a&b=ü"]) for _ in range(5)]
    seen: list[str] = []
    address: str | None = "/v1/jobs?limit=2&tenant=acme&tag=a%26b%3D%C3%BC&state=scheduled&state=queued"
    while address:
        said = api.call("GET", address)
        assert said.status == 200
        seen += [job["id"] for job in said.json["jobs"]]
        api.enqueue(tenant="acme", tags=["a&b=ü"])  # a newer one shifts nothing
        address = said.json["next"]
        assert said.headers.get("link") == (f'<{address}>; rel="next"' if address else None)
    assert seen == ids[::-1]


def test_filters_narrow(api: Api) -> None:
    wanted = api.enqueue("skill_extraction", tenant="acme", subject="ann", tags=["x", "y"])
    api.enqueue(tenant="other")
    api.settle(wanted)
    assert len(api.call("GET", "/v1/jobs").json["jobs"]) == 2
    for query in ("tenant=acme", "subject=ann", "tag=y", "analysis=skill_extraction", "state=succeeded&state=failed"):
        [job] = api.call("GET", f"/v1/jobs?{query}").json["jobs"]
        assert job["id"] == wanted
        assert set(job) == names(answers.JobLine)
    assert job["created_at"] == api.call("GET", f"/v1/jobs/{wanted}").json["created_at"]
    assert api.call("GET", "/v1/jobs?tag=nobody").json == {"jobs": [], "next": None}


def test_a_time_is_the_same_text_in_a_list_and_alone(api: Api) -> None:
    """Postgres leaves trailing zeros out of the microseconds, Python does not: one in ten times would differ."""
    job = api.enqueue()
    for second in ("23.097180", "23.5", "23"):
        at = f"2026-11-21 15:30:{second}+00"
        api.link.execute("UPDATE assayline.jobs SET created_at = %s::timestamptz WHERE id = %s", (at, job))
        [listed] = api.call("GET", "/v1/jobs").json["jobs"]
        assert listed["created_at"] == api.call("GET", f"/v1/jobs/{job}").json["created_at"]


def test_a_list_is_bounded_and_its_questions_are_judged(api: Api) -> None:
    for query in (f"limit={MAX_PAGE + 1}", "limit=0", "state=lost", "cursor=x", "tag=", "subject=%00", "nope=1"):
        said = api.call("GET", f"/v1/jobs?{query}")
        assert said.problem() == (422, "invalid")
        assert said.json["field"].partition("[")[0] == query.partition("=")[0]


# What can be asked for ------------------------------------------------------------------------------------------------


def test_analyses_and_prompts(api: Api) -> None:
    listed = api.call("GET", "/v1/analyses").json["analyses"]
    assert {one["name"] for one in listed} == set(api.services.registry.names())
    one = api.call("GET", "/v1/analyses/code_quality").json
    assert one["chain"] == [MODEL]
    assert one["result_schema"]["additionalProperties"] is False
    assert one["limits"]["max_content_bytes"] > 0
    assert api.call("GET", "/v1/analyses/completion").json["result_schema"] is None
    for name in api.services.registry.names():
        example = api.services.registry.get(name).analysis.example
        shown = api.call("GET", f"/v1/analyses/{name}").json["example"]
        assert (shown is None) is (example is None)
        assert shown is None or shown["content"]
    prompt = api.call("GET", "/v1/prompts/code_quality").json
    assert prompt == api.call("GET", f"/v1/prompts/{prompt['id']}").json
    assert prompt["fingerprint"] == one["prompts"][0]["fingerprint"]
    assert "# system" in prompt["text"]
    assert api.call("GET", "/v1/analyses/nope").problem() == (404, "no-such-analysis")
    for nothing in ("nope", "code_quality/v999", "code_quality/..%2Fv1"):
        assert api.call("GET", f"/v1/prompts/{nothing}").problem()[0] == 404


def test_providers_name_variables_and_tell_no_secret(database_url: str, redis_url: str) -> None:
    secrets = {"OPENAI_API_KEY": "sk-very-secret", "OPENAI_BASE_URL": "http://user:hidden@127.0.0.1:1/v1"}
    chosen = {"OLLAMA_BASE_URL": "http://127.0.0.1:1", "OLLAMA_MODEL": "qwen3:4b"}
    with served(database_url, redis_url, env={"ASSAYLINE_FAKE": "1", **secrets, **chosen}) as api:
        said = api.call("GET", "/v1/providers")
    assert not any(secret in said.body for secret in (b"very-secret", b"hidden"))
    providers = {one["name"]: one for one in said.json["providers"]}
    assert providers["fake"]["configured"] is True
    assert providers["openai"]["configured"] is True
    assert "ollama/qwen3:4b" in [model["name"] for model in providers["ollama"]["models"]]
    bare = {name: one["missing"] for name, one in providers.items() if not one["configured"]}
    assert bare["local"] == ["ASSAYLINE_LOCAL_BASE_URL"]
    assert all(one["price"] is None or one["price"]["input_per_mtok_usd"] >= 0 for one in providers["openai"]["models"])


# Who may come in, and what everybody meets ----------------------------------------------------------------------------


def test_only_who_has_the_key_is_served(api: Api) -> None:
    for path in ("/v1/jobs", "/v1/providers", "/openapi.json", "/nothing", "/health/"):
        for key, header in ((None, {}), ("wrong", {}), (None, {"Authorization": f"Basic {KEY}"}), (KEY + "x", {})):
            said = api.call("GET", path, key=key, **header)
            assert said.problem() == (401, "unauthorized")
            assert said.headers["www-authenticate"].startswith("Bearer")
    assert api.call("POST", "/v1/jobs", b"x" * (MAX_BODY_BYTES + 1), key=None).problem() == (401, "unauthorized")
    for path in ("/health", "/health/ready"):
        assert api.call("GET", path, key=None).status == 200
    assert api.call("GET", "/v1/jobs", key=None, Authorization=f"bearer  {KEY}").status == 200


def test_no_page_and_no_method(api: Api) -> None:
    for path in ("/", "/docs", "/redoc", "/v1/jobs/", "/v1//jobs", "/v1/jobs/x/y"):
        assert api.call("GET", path).problem() == (404, "not-found")
    for method, path, allowed in (
        ("PUT", "/v1/jobs", "GET, POST"),
        ("DELETE", f"/v1/jobs/{uuid4()}", "GET"),
        ("OPTIONS", "/v1/jobs", "GET, POST"),
        ("GET", f"/v1/jobs/{uuid4()}/cancel", "POST"),
        ("POST", "/health", "GET"),
    ):
        said = api.call(method, path)
        assert said.problem() == (405, "method-not-allowed")
        assert said.headers["allow"] == allowed
        assert "access-control-allow-origin" not in said.headers


def test_the_callers_request_id_comes_back_unless_it_is_odd(api: Api) -> None:
    assert api.call("GET", "/health", X_Request_ID="abc-1.2_3").headers["x-request-id"] == "abc-1.2_3"
    for odd in ("x" * 65, "a b", "a/b", ""):
        assert api.call("GET", "/health", X_Request_ID=odd).headers["x-request-id"] != odd
    assert api.call("GET", "/nope", X_Request_ID="mine").json["request_id"] == "mine"


def test_the_log_names_the_request_and_no_query(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "api.access")
    api.call("GET", "/v1/jobs?subject=ann", X_Request_ID="logged")
    api.call("GET", "/health")
    record = eventually(lambda: next((one for one in caplog.records if one.name == "api.access"), None))
    assert record.getMessage() == "GET /v1/jobs"
    assert (vars(record)["status"], vars(record)["request_id"]) == (200, "logged")
    # The provider double of another test turns uvicorn's own log on again, for all servers of this process.
    assert "ann" not in "".join(one.getMessage() for one in caplog.records if one.name != "uvicorn.access")
    assert "/health" not in caplog.text


def test_a_fault_shows_nothing_of_the_inside(own: Api, caplog: pytest.LogCaptureFixture) -> None:
    own.link.execute("ALTER TABLE assayline.jobs RENAME COLUMN tags TO labels")
    said = own.call("GET", "/v1/jobs")
    assert said.problem() == (500, "fault")
    assert b"labels" not in said.body
    assert b"SELECT" not in said.body
    wanted = said.json["request_id"]
    eventually(lambda: any(record.exc_info and vars(record)["request_id"] == wanted for record in caplog.records))


def test_when_all_places_are_taken_the_next_is_sent_away(database_url: str, redis_url: str) -> None:
    mirror_into(database_url)
    with served(database_url, redis_url, max_in_flight=1) as api:
        waiting(api, api.enqueue())
        said = api.call("GET", "/v1/jobs")
        assert said.problem() == (503, "busy")
        assert int(said.headers["retry-after"]) > 0
        assert api.call("GET", "/health").status == 200


def test_who_has_no_key_takes_no_place(database_url: str, redis_url: str) -> None:
    with served(database_url, redis_url, max_in_flight=1) as api:
        for path in ("/health", "/health/ready", "/v1/jobs"):
            api.start("POST", path, b"{", key=None, Content_Length="100")
        assert api.call("GET", "/v1/analyses").status == 200


# Readiness, and stores that are not there -----------------------------------------------------------------------------


def unready(api: Api) -> str:
    said = api.call("GET", "/health/ready")
    assert said.problem() == (503, "not-ready")
    assert said.headers["retry-after"]
    return str(said.json["detail"])


def test_ready_means_a_job_would_be_taken(api: Api) -> None:
    assert api.call("GET", "/health/ready").json == {
        "status": "ready", "postgres": "ok", "redis": "ok", "catalog": "ok",
    }  # fmt: skip


def test_without_a_dispatchers_catalog_it_is_not_ready(database_url: str, redis_url: str) -> None:
    with served(database_url, redis_url) as api:
        assert unready(api).startswith("catalog:")


def test_an_older_schema_is_not_ready(database_url: str, redis_url: str) -> None:
    mirror_into(database_url)
    with served(database_url, redis_url, revision="9999_later") as api:
        assert "9999_later" in unready(api)


def test_a_database_without_assayline_is_told_so(empty_database_url: str, redis_url: str) -> None:
    with served(empty_database_url, redis_url) as api:
        assert "assayline migrate" in unready(api)
        calls: list[Callable[[], Any]] = [
            lambda: api.call("POST", "/v1/jobs", {"analysis": "code_quality", "content": "x"}),
            lambda: api.call("GET", f"/v1/jobs/{uuid4()}"),
            lambda: api.call("GET", "/v1/jobs"),
        ]
        for call in calls:
            said = call()
            assert said.problem() == (503, "not-migrated")
            assert said.headers["retry-after"]


def test_without_postgres_it_lives_and_says_so(own: Api, postgres_admin_url: str, database_url: str) -> None:
    job_id = own.enqueue()
    shut(postgres_admin_url, database_url)
    for path in ("/v1/jobs", f"/v1/jobs/{job_id}"):
        said = own.call("GET", path)
        assert said.problem() == (503, "store-away")
        assert said.headers["retry-after"]
    said = own.call("POST", "/v1/jobs", {"analysis": "code_quality", "content": "x"})
    assert said.problem() == (503, "store-away")
    assert "postgres" in unready(own)
    assert own.call("GET", "/health").status == 200


def shut(admin_url: str, database_url: str) -> None:
    """Nobody gets into this database any more, and who is in is put out: to its users the server is gone."""
    name = database_url.rpartition("/")[2]
    with psycopg.connect(admin_url, autocommit=True) as link:
        link.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        link.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
