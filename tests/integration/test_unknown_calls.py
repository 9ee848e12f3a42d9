"""Calls of which nobody knows how they ended: listed on the command line and over HTTP, counted for Prometheus."""

from __future__ import annotations

import json
import os
import re
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
from apiworld import Api, mirror_into, served
from psycopg.rows import dict_row
from typer.testing import CliRunner, Result

from api import call_answers
from gateway.journal.journal import COUNTS
from ops.cli.main import app
from tasks.unknown import COUNTED, LISTED, MOST_COUNTED, for_psycopg, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRICED = {"ASSAYLINE_FAKE": "1", "OPENAI_API_KEY": "no-key"}
NANO = ("openai", "gpt-5.4-nano")
OURS = ("ASSAYLINE_", "OPENAI_", "LLM_", "LOG_", "TRACE_")
RUNNING = "UPDATE assayline.jobs SET state = 'running', claim_no = 1 WHERE id = %s"

Cli = Callable[..., Result] if TYPE_CHECKING else Any


@pytest.fixture
def api(database_url: str, redis_url: str) -> Iterator[Api]:
    mirror_into(database_url)
    with served(database_url, redis_url, env=PRICED) as running:
        yield running


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Cli:
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    for name, value in {**PRICED, "ASSAYLINE_DATABASE_URL": database_url}.items():
        monkeypatch.setenv(name, value)
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


def called(
    api: Api, job: str, claim_no: int = 1, call_no: int = 1, *, outcome: str = "unknown", pid: int | None = None
) -> uuid.UUID:
    """Write a call to a priced model, of a worker that died; with `pid` it is still remembered."""
    incarnation = uuid.uuid4()
    api.link.execute(
        "INSERT INTO assayline.calls (job_id, claim_no, call_no, kind, outcome, tenant, analysis, provider, account,"
        " model, incarnation, started_at) SELECT id, %s, %s, %s, %s, tenant, analysis, %s, 'main', %s, %s,"
        " '2026-11-21 12:00:00.5+00' FROM assayline.jobs WHERE id = %s",
        (claim_no, call_no, "answer" if call_no == 1 else "repair", outcome, *NANO, incarnation, job),
    )
    if pid is not None:
        api.link.execute(
            "INSERT INTO assayline.workers (incarnation, hostname, pid, providers, slots)"
            " VALUES (%s, 'a-host', %s, '{openai}', 4)",
            (incarnation, pid),
        )
    return incarnation


def documents(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_call_is_told_with_all_that_is_known_of_it(api: Api, cli: Cli) -> None:
    job = api.enqueue(content="x = 1\n" * 1_000, tenant="acme")
    incarnation = called(api, job, pid=4711)
    api.settle(api.enqueue())

    said = api.call("GET", "/v1/calls?outcome=unknown").json
    [call] = said["calls"]
    assert said["next"] is None
    assert set(call) == set(call_answers.UnknownCall.model_fields)
    assert (call["job_id"], call["claim_no"], call["call_no"], call["kind"]) == (job, 1, 1, "answer")
    assert (call["tenant"], call["provider"], call["model"], call["account"]) == ("acme", *NANO, "main")
    assert (call["incarnation"], call["worker"]) == (str(incarnation), {"hostname": "a-host", "pid": 4711})
    assert (call["started_at"], call["job_state"]) == ("2026-11-21T12:00:00.5+00:00", "scheduled")
    assert 0.0001 < call["worst_usd"] < 0.01, "two thousand tokens of content, and the longest answer"

    [told] = documents(cli("jobs", "--unknown", "--json"))
    assert {**told, "worst_usd": float(told["worst_usd"])} == call
    shown = cli("jobs", "--unknown")
    for word in (job, "openai/gpt-5.4-nano", "a-host:4711", f"${Decimal(str(call['worst_usd'])).normalize():f}"):
        assert word in shown.stdout
    assert "1 call, $" in shown.stderr


def test_a_call_that_is_open_or_ended_is_not_unknown(api: Api, cli: Cli) -> None:
    job = api.enqueue()
    called(api, job)
    called(api, job, 1, 2, outcome="succeeded")
    api.link.execute(RUNNING, (job,))
    assert api.call("GET", "/v1/calls").json == {"calls": [], "next": None}
    assert cli("jobs", "--unknown").stderr.strip() == "no call is unknown"
    called(api, job, 2)
    api.link.execute("UPDATE assayline.jobs SET claim_no = 2 WHERE id = %s", (job,))
    [call] = api.call("GET", "/v1/calls").json["calls"]
    assert (call["claim_no"], call["worker"]) == (1, None)


def test_pages_and_filters(api: Api, cli: Cli) -> None:
    jobs = [api.enqueue(tenant="acme" if number % 2 else "other") for number in range(5)]
    for job in jobs:
        called(api, job)
    called(api, jobs[4], 2)
    seen: list[str] = []
    address: str | None = "/v1/calls?limit=2"
    while address:
        said = api.call("GET", address)
        seen += [call["job_id"] for call in said.json["calls"]]
        address = said.json["next"]
        assert said.headers.get("link") == (f'<{address}>; rel="next"' if address else None)
    assert seen == [jobs[4], *jobs[::-1]]

    assert [call["job_id"] for call in documents(cli("jobs", "--unknown", "--json", "--limit", 2))] == seen[:3]
    assert f"more: --after {jobs[3]}" in cli("jobs", "--unknown", "--limit", 2).stderr
    later = documents(cli("jobs", "--unknown", "--json", "--after", jobs[3]))
    assert [call["job_id"] for call in later] == seen[3:]
    for query, found in {
        "tenant=acme": 2,
        "analysis=code_quality": 6,
        "analysis=completion": 0,
        "provider=fake": 0,
    }.items():
        assert len(api.call("GET", f"/v1/calls?{query}").json["calls"]) == found
    assert len(documents(cli("jobs", "--unknown", "--json", "--tenant", "acme"))) == 2


REFUSED = {
    "outcome=failed": "outcome",
    "limit=0": "limit",
    "cursor=x": "cursor",
    "state=failed": "state",
    "limit=1&limit=2": "limit",
}


def test_what_cannot_be_asked_for_is_named(api: Api, cli: Cli) -> None:
    for query, field in REFUSED.items():
        said = api.call("GET", f"/v1/calls?{query}")
        assert said.problem() == (422, "invalid")
        assert said.json["field"] == field
    assert api.call("GET", "/v1/calls", key=None).problem() == (401, "unauthorized")
    assert api.call("GET", "/metrics", key=None).problem() == (401, "unauthorized")
    told = cli("jobs", "--unknown", "--state", "failed")
    assert (told.exit_code, "--state" in told.stderr) == (3, True)


def test_what_no_catalog_knows_any_more_has_no_price(api: Api, cli: Cli) -> None:
    job = api.enqueue()
    called(api, job)
    api.link.execute("UPDATE assayline.calls SET model = 'gone' WHERE job_id = %s", (job,))
    [call] = api.call("GET", "/v1/calls").json["calls"]
    assert call["worst_usd"] is None
    assert "1 of which nobody knows the price" in cli("jobs", "--unknown").stderr


def test_prometheus_reads_them(api: Api, redis_url: str) -> None:
    job = api.enqueue()
    for claim_no in (1, 2):
        called(api, job, claim_no)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(COUNTS, mapping={"found": 7, "what nobody counts": 1})
    said = api.call("GET", "/metrics")
    assert (said.status, said.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = said.body.decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'assayline_unknown_calls{provider="fake"} 0',
        'assayline_unknown_calls{provider="openai"} 2',
        'assayline_journal_answers_total{what="found"} 7',
        'assayline_journal_answers_total{what="unusable"} 0',
        'assayline_journal_answers_total{what="too_large"} 0',
    ]
    assert [line for line in lines if line.startswith("# TYPE")] == [
        "# TYPE assayline_unknown_calls gauge",
        "# TYPE assayline_journal_answers_total counter",
    ]


def test_without_redis_the_other_figures_are_told(database_url: str) -> None:
    mirror_into(database_url)
    with served(database_url, "redis://127.0.0.1:1/0", env=PRICED) as api:
        said = api.call("GET", "/metrics")
    assert said.status == 200
    assert b"assayline_unknown_calls{" in said.body
    assert b"assayline_journal_answers_total{" not in said.body


def test_neither_reads_the_ledger(database_url: str) -> None:
    """Ten thousand calls have ended; the few that have not are found by an index of their own."""
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as link:
        for open_calls in (0, 500):
            assert_found_by_index(link, open_calls)


def assert_found_by_index(link: psycopg.Connection[dict[str, Any]], open_calls: int) -> None:
    link.execute(
        "INSERT INTO assayline.calls (job_id, claim_no, call_no, kind, outcome, tenant, analysis, provider, account,"
        " model, incarnation, started_at) SELECT assayline.uuid7(), 1, 1, 'answer',"
        " CASE WHEN n <= %s THEN 'unknown' ELSE 'succeeded' END, 't', 'a', 'openai', 'main', 'm', gen_random_uuid(),"
        " now() FROM generate_series(1, 10000) n",
        (open_calls,),
    )
    link.execute("ANALYZE assayline.calls")
    for statement, given in ((COUNTED, {"most": MOST_COUNTED}), (LISTED, wanted(jobs=20))):
        rows = link.execute(f"EXPLAIN (ANALYZE) {for_psycopg(statement)}".encode(), given).fetchall()
        plan = "\n".join(str(row["QUERY PLAN"]) for row in rows)
        this_month = f"calls_{datetime.now(UTC):%Y_%m}"
        assert re.search(f"(using|on) {this_month}_job_id_claim_no_call_no_idx", plan), plan
        assert f"Seq Scan on {this_month}" not in plan
