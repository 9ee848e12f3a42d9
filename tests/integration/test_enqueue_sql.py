"""`assayline_enqueue` and its batch: every option, every refusal, and that the two doors are one."""

from __future__ import annotations

import json
import re
import threading
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tasks.producer.errors import MAX_BYTES, MAX_LEVELS
from tasks.producer.jobs import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Connection = psycopg.Connection[Any]
Outcome = tuple[UUID, bool]
Item = tuple[Any, Any, Any]

KEYED = {"idempotency_key": "k"}


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        fill_catalog(connection)
        yield connection


def fill_catalog(connection: Connection) -> None:
    connection.execute("INSERT INTO assayline.catalog_models VALUES ('one/small'), ('one/large'), ('two/deep/model')")
    connection.execute(
        "INSERT INTO assayline.catalog_analyses VALUES ('quick', '{one/small,two/deep/model}', 'interactive', 3),"
        " ('slow', '{one/large}', 'bulk', 5), ('orphan', '{}', 'bulk', 3)"
    )


def enqueue(connection: Connection, analysis: str | None, content: str | None, options: Any = None) -> Outcome:
    row = connection.execute(
        "SELECT job_id, created FROM assayline_enqueue(%s, %s, %s)", (analysis, content, Jsonb(options or {}))
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def enqueue_staged(connection: Connection, *items: Item, first: int = 0) -> list[Outcome]:
    with connection.transaction():
        connection.execute("SELECT assayline_stage()")
        for place, (analysis, content, options) in enumerate(items, first):
            connection.execute(
                "INSERT INTO assayline_staging VALUES (%s, %s, %s, %s)", (place, analysis, content, Jsonb(options))
            )
        rows = connection.execute("SELECT ord, job_id, created FROM assayline_enqueue_staged()").fetchall()
    assert [row[0] for row in rows] == list(range(first, first + len(items)))
    return [(row[1], row[2]) for row in rows]


def enqueue_as_batch(connection: Connection, analysis: str | None, content: str | None, options: Any = None) -> Outcome:
    """The same request through the other door, between two harmless ones."""
    fill: Item = ("slow", "filling", {})
    return enqueue_staged(connection, fill, (analysis, content, options or {}), fill)[1]


DOORS = pytest.mark.parametrize("door", [enqueue, enqueue_as_batch])


def stored(connection: Connection, job_id: UUID) -> dict[str, Any]:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            "SELECT j.*, c.content, c.context, c.messages, c.schema FROM assayline.jobs j"
            " JOIN assayline.job_contents c ON c.job_id = j.id WHERE j.id = %s",
            (job_id,),
        ).fetchone()
    assert row is not None
    return row


def count(connection: Connection, table: str = "jobs") -> int:
    row = connection.execute(f"SELECT count(*) FROM assayline.{table}").fetchone()
    assert row is not None
    return int(row[0])


def refused(connection: Connection, door: Any, analysis: Any, content: Any, options: Any) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        door(connection, analysis, content, options)
    assert count(connection) == count(connection, "job_contents") == count(connection, "idempotency_keys") == 0
    return caught.value


# What is accepted

GIVEN: dict[str, Any] = {
    "context": {"language": "python", "nested": [1, {"a": None}]},
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
    "tenant": "acme",
    "subject": "dev-7",
    "source": "review-app",
    "lane": "bulk",
    "priority": 0,
    "provider": "two",
    "model": "deep/model",
    "prompt_version": "3",
    "output_format": "json",
    "schema": {"type": "object"},
    "max_tokens": 512,
    "temperature": 0.5,
    "max_cost_usd": "0.25",
    "max_attempts": 7,
    "use_cache": False,
    "use_fallback": False,
    "not_before": "2026-11-05T08:00:00Z",
    "deadline_at": "2026-11-05T09:30:00.5+01:00",
    "expires_at": "2026-11-06 08:00+00",
    "idempotency_key": "commit:1",
    "tags": ["nightly", "x"],
}
KEPT = GIVEN | {
    "model": "deep/model",
    "chain": ["two/deep/model"],
    "max_cost_usd": Decimal("0.25"),
    "not_before": datetime.fromisoformat("2026-11-05T08:00:00+00:00"),
    "deadline_at": datetime.fromisoformat("2026-11-05T08:30:00.5+00:00"),
    "expires_at": datetime.fromisoformat("2026-11-06T08:00:00+00:00"),
}


@DOORS
def test_every_option_is_kept(connection: Connection, door: Any) -> None:
    assert {*GIVEN, "chain"} == set(OPTIONS)
    job_id, created = door(connection, "quick", "text", GIVEN)
    row = stored(connection, job_id)
    assert created
    assert {name: row[name] for name in KEPT} == KEPT
    assert (row["content"], row["analysis"], row["state"], row["reason"]) == ("text", "quick", "scheduled", "enqueued")


@DOORS
def test_what_is_not_said_is_the_analysiss(connection: Connection, door: Any) -> None:
    row = stored(connection, door(connection, "quick", "text")[0])
    assert (row["chain"], row["provider"], row["model"]) == (["one/small", "two/deep/model"], "one", "small")
    assert (row["lane"], row["max_attempts"], row["priority"], row["tenant"]) == ("interactive", 3, 5, "default")
    assert (row["use_cache"], row["use_fallback"], row["tags"], row["context"]) == (True, True, [], {})
    assert [name for name in GIVEN if row[name] is None] == [
        "messages", "subject", "source", "prompt_version", "output_format", "schema", "max_tokens", "temperature",
        "max_cost_usd", "deadline_at", "expires_at", "idempotency_key",
    ]  # fmt: skip
    assert row["not_before"] == row["created_at"]


@DOORS
def test_null_means_not_said(connection: Connection, door: Any) -> None:
    kinds = connection.execute("SELECT name FROM assayline.job_options WHERE 'null' = ANY (kinds)").fetchall()
    row = stored(connection, door(connection, "quick", "text", {name: None for (name,) in kinds})[0])
    plain = stored(connection, door(connection, "quick", "text")[0])
    born = {"id", "created_at", "not_before"}
    assert {k: v for k, v in row.items() if k not in born} == {k: v for k, v in plain.items() if k not in born}


@DOORS
@pytest.mark.parametrize(
    ("options", "chain"),
    [
        ({"model": "one/large"}, ["one/large"]),
        ({"model": "large", "provider": "one"}, ["one/large"]),
        ({"model": "one/large", "provider": "one"}, ["one/large"]),
        ({"chain": ["two/deep/model", "one/small"]}, ["two/deep/model", "one/small"]),
        ({"chain": ["two/deep/model", "one/small"], "provider": "one"}, ["one/small"]),
        ({"provider": "two"}, ["two/deep/model"]),
    ],
)
def test_the_chain_follows_what_is_named(connection: Connection, door: Any, options: Any, chain: list[str]) -> None:
    row = stored(connection, door(connection, "quick", "text", options)[0])
    assert row["chain"] == chain
    assert f"{row['provider']}/{row['model']}" == chain[0]


def test_a_provider_outside_the_analysiss_chain_serves_with_a_model_of_its_own(connection: Connection) -> None:
    assert stored(connection, enqueue(connection, "slow", "text", {"provider": "two"})[0])["chain"] == [
        "two/deep/model"
    ]


@DOORS
def test_limits_are_inclusive(connection: Connection, door: Any) -> None:
    deep: Any = "leaf"
    for _ in range(MAX_LEVELS):
        deep = {"in": deep}
    options = {"context": deep, "priority": 9, "max_tokens": 1_000_000, "temperature": 2, "max_attempts": 20,
               "tags": ["t" * 100] * 50, "tenant": "t" * 200, "subject": "s" * 500, "source": "s" * 200,
               "idempotency_key": "k" * 255, "max_cost_usd": 0.000001, "chain": ["one/small"] * 10}  # fmt: skip
    row = stored(connection, door(connection, "quick", "ü" * (MAX_BYTES // 2), options)[0])
    assert (row["context"], len(row["content"].encode())) == (deep, MAX_BYTES)


# What is refused


def too_deep() -> dict[str, Any]:
    value: Any = "leaf"
    for _ in range(MAX_LEVELS + 1):
        value = [value]
    return {"context": {"in": value}}


@DOORS
@pytest.mark.parametrize(
    ("sqlstate", "message", "analysis", "content", "options"),
    [
        ("AL001", "analysis: 'nope' is not known", "nope", "x", {}),
        ("AL001", "analysis: NULL is not known", None, "x", {}),
        ("AL001", "analysis: no configured provider serves 'orphan'", "orphan", "x", {}),
        ("AL001", "model: 'one/none' is not in the catalog of configured", "quick", "x", {"model": "one/none"}),
        ("AL001", "model: 'three/x' is not in", "quick", "x", {"chain": ["one/small", "three/x"]}),
        ("AL001", "provider: 'three' is not configured", "quick", "x", {"provider": "three"}),
        ("AL002", "content: must be text, not null", "quick", None, {}),
        ("AL002", "options: must be a JSON object, not array", "quick", "x", [1]),
        ("AL002", "options: must be a JSON object, not string", "quick", "x", "{}"),
        ("AL002", "prioritty: unknown option", "quick", "x", {"prioritty": 1}),
        ("AL002", "context: must be object, not array; priority: must be number, not string", "quick", "x",
         {"context": [1], "priority": "1"}),
        ("AL002", "tags: must be array, not string; tenant: must be string, not number", "quick", "x",
         {"tags": "a", "tenant": 7}),
        ("AL002", "messages: must be array, not object", "quick", "x", {"messages": {"role": "user"}}),
        ("AL002", "use_cache: must be boolean, not null", "quick", "x", {"use_cache": None}),
        ("AL002", "tenant: 1 to 200 characters", "quick", "x", {"tenant": ""}),
        ("AL002", "subject: at most 500 characters", "quick", "x", {"subject": "s" * 501}),
        ("AL002", "source: at most 200 characters", "quick", "x", {"source": "s" * 201}),
        ("AL002", "prompt_version: at most 100 characters", "quick", "x", {"prompt_version": "s" * 101}),
        ("AL002", "output_format: at most 50 characters", "quick", "x", {"output_format": "s" * 51}),
        ("AL002", "idempotency_key: 1 to 255 characters", "quick", "x", {"idempotency_key": "k" * 256}),
        ("AL002", "lane: interactive or bulk, not 'fast'", "quick", "x", {"lane": "fast"}),
        ("AL002", "chain: 1 to 10 strings", "quick", "x", {"chain": []}),
        ("AL002", "chain: 1 to 10 strings", "quick", "x", {"chain": ["one/small", None]}),
        ("AL002", "chain: 1 to 10 strings", "quick", "x", {"chain": ["one/small"] * 11}),
        ("AL002", "tags: at most 50", "quick", "x", {"tags": ["t"] * 51}),
        ("AL002", "tags: each a string of 1 to 100 characters", "quick", "x", {"tags": [1]}),
        ("AL002", "tags: each a string of 1 to 100 characters", "quick", "x", {"tags": [""]}),
        ("AL002", "priority: must be a whole number from 0 to 9, not 3.7", "quick", "x", {"priority": 3.7}),
        ("AL002", "priority: must be a whole number from 0 to 9, not 10", "quick", "x", {"priority": 10}),
        ("AL002", "priority: must be a whole number from 0 to 9, not -1", "quick", "x", {"priority": -1}),
        ("AL002", "max_tokens: must be a whole number from 1 to 1000000, not 1000000000000", "quick", "x",
         {"max_tokens": 1e12}),
        ("AL002", "max_attempts: must be a whole number from 1 to 20, not 0", "quick", "x", {"max_attempts": 0}),
        ("AL002", "temperature: must be a number from 0 to 2, not 2.1", "quick", "x", {"temperature": 2.1}),
        ("AL002", "temperature: must be a number from 0 to 2, not 1000", "quick", "x", {"temperature": 1e300}),
        ("AL002", "max_cost_usd: must be a number from 0.000001 to 999999, not 0", "quick", "x", {"max_cost_usd": 0}),
        ("AL002", "max_cost_usd: must be a number from 0.000001 to 999999, not much", "quick", "x",
         {"max_cost_usd": "much"}),
        ("AL002", "max_cost_usd: must be a number from 0.000001 to 999999, not NaN", "quick", "x",
         {"max_cost_usd": "NaN"}),
        ("AL002", "not_before: must be an ISO 8601 time with its offset", "quick", "x", {"not_before": "tomorrow"}),
        ("AL002", "not_before: must be an ISO 8601 time with its offset", "quick", "x",
         {"not_before": "2026-11-05T08:00:00"}),
        ("AL002", "deadline_at: must be an ISO 8601 time with its offset", "quick", "x",
         {"deadline_at": "2026-13-45T08:00:00Z"}),
        ("AL002", "expires_at: must be an ISO 8601 time with its offset", "quick", "x", {"expires_at": "infinity"}),
        ("AL002", "expires_at: must lie after not_before", "quick", "x", {"expires_at": "2020-01-01T00:00:00Z"}),
        ("AL002", "deadline_at: must lie after not_before", "quick", "x",
         {"not_before": "2030-01-02T00:00:00Z", "deadline_at": "2030-01-01T00:00:00Z"}),
        ("AL002", "messages: number 1 must be", "quick", "x", {"messages": ["hello"]}),
        ("AL002", "messages: number 2 must be", "quick", "x",
         {"messages": [{"role": "user", "content": "a"}, {"role": "user"}]}),
        ("AL002", "messages: number 1 must be", "quick", "x", {"messages": [{"role": "tool", "content": "a"}]}),
        ("AL002", "messages: number 1 must be", "quick", "x", {"messages": [{"role": "user", "content": 7}]}),
        ("AL002", "messages: number 1 must be", "quick", "x",
         {"messages": [{"role": "user", "content": "a", "name": "b"}]}),
        ("AL003", "content: 1048577 bytes, and 1048576 (1 MiB) is the most", "quick", "x" * (MAX_BYTES + 1), {}),
        ("AL003", "options: ", "quick", "x", {"context": {"x": "y" * MAX_BYTES}}),
        ("AL003", "options: nested deeper than 32 levels", "quick", "x", too_deep()),
    ],
)  # fmt: skip
def test_refusals_name_the_field_and_leave_nothing(
    connection: Connection, door: Any, sqlstate: str, message: str, analysis: Any, content: Any, options: Any
) -> None:
    error = refused(connection, door, analysis, content, options)
    said = (error.diag.message_primary or "").removeprefix("item 1: " if door is enqueue_as_batch else "")
    assert said.startswith(message)
    assert error.sqlstate == sqlstate
    assert len(said) < 300


@pytest.mark.parametrize("call", ["assayline_enqueue('quick', 'x', '{}', 2)", "assayline_enqueue_staged(2)"])
def test_another_version_is_refused(connection: Connection, call: str) -> None:
    with pytest.raises(psycopg.Error, match="version: 1 is the only version here, not 2") as caught:
        connection.execute(f"SELECT {call}")
    assert caught.value.sqlstate == "AL002"


# Idempotency


@DOORS
def test_a_replay_returns_the_earlier_job(connection: Connection, door: Any) -> None:
    first = enqueue(connection, "quick", "text", GIVEN)
    again = door(connection, "quick", "text", GIVEN)
    assert (first[1], again) == (True, (first[0], False))


@DOORS
@pytest.mark.parametrize(
    ("content", "change"),
    [("other", {}), *(("text", {name: value}) for name, value in {
        "context": {"language": "go"}, "messages": [{"role": "user", "content": "Bye"}], "subject": "dev-8",
        "source": "b",
        "lane": "interactive", "priority": 1, "model": "two/deep/model", "prompt_version": "4", "output_format": "text",
        "schema": {"type": "array"}, "max_tokens": 513, "temperature": 0.6, "max_cost_usd": "0.26", "max_attempts": 8,
        "use_cache": True, "use_fallback": True, "not_before": "2026-11-05T08:00:01Z",
        "deadline_at": "2026-11-05T10:00:00Z",
        "expires_at": "2026-11-07T08:00:00Z", "tags": ["x", "nightly"],
    }.items())],
)  # fmt: skip
def test_any_difference_is_a_conflict(connection: Connection, door: Any, content: str, change: dict[str, Any]) -> None:
    job_id, _ = enqueue(connection, "quick", "text", GIVEN)
    with pytest.raises(psycopg.Error) as caught:
        door(connection, "quick", content, GIVEN | change)
    assert caught.value.sqlstate == "AL409"
    assert f"idempotency_key: 'commit:1' was used for another request (job {job_id})" in str(caught.value)


def test_a_key_belongs_to_its_tenant(connection: Connection) -> None:
    one = enqueue(connection, "quick", "text", KEYED | {"tenant": "one"})
    two = enqueue(connection, "quick", "other", KEYED | {"tenant": "two"})
    assert (one[1], two[1]) == (True, True)
    assert one[0] != two[0]


def test_equal_keys_in_a_batch_are_one_job(connection: Connection) -> None:
    item = ("quick", "text", KEYED)
    outcome = enqueue_staged(connection, item, ("slow", "x", {}), item, item, first=5)
    assert [created for _, created in outcome] == [True, True, False, False]
    assert outcome[0][0] == outcome[2][0] == outcome[3][0]
    assert count(connection) == count(connection, "job_contents") == 2


def test_a_conflict_within_a_batch_names_the_later_item(connection: Connection) -> None:
    with pytest.raises(psycopg.Error, match=r"^item 1: idempotency_key: 'k' was used for another request"):
        enqueue_staged(connection, ("quick", "text", KEYED), ("quick", "other", KEYED))
    assert count(connection) == 0


def test_requests_without_a_key_are_all_jobs(connection: Connection) -> None:
    assert [created for _, created in enqueue_staged(connection, *[("quick", "text", {})] * 3)] == [True] * 3


@DOORS
def test_two_sessions_with_one_key_at_once_make_one_job(connection: Connection, database_url: str, door: Any) -> None:
    """The second waits for the first's transaction, and then finds its job."""
    outcome: list[Outcome] = []
    with psycopg.connect(database_url) as first, psycopg.connect(database_url, autocommit=True) as second:
        begun = enqueue(first, "quick", "text", KEYED)
        other = threading.Thread(target=lambda: outcome.append(door(second, "quick", "text", KEYED)))
        other.start()
        wait_until_blocked(connection, second.info.backend_pid)
        first.commit()
        other.join(timeout=30)
    assert outcome == [(begun[0], False)]


def test_the_key_is_free_again_when_its_first_taker_rolls_back(connection: Connection, database_url: str) -> None:
    outcome: list[Outcome] = []
    with psycopg.connect(database_url) as first, psycopg.connect(database_url, autocommit=True) as second:
        enqueue(first, "quick", "text", KEYED)
        other = threading.Thread(target=lambda: outcome.append(enqueue(second, "quick", "another", KEYED)))
        other.start()
        wait_until_blocked(connection, second.info.backend_pid)
        first.rollback()
        other.join(timeout=30)
    assert [created for _, created in outcome] == [True]
    assert count(connection) == 1


def wait_until_blocked(connection: Connection, pid: int) -> None:
    """Until the other session waits for a lock; pytest's timeout bounds it."""
    while connection.execute("SELECT cardinality(pg_blocking_pids(%s))", (pid,)).fetchone() == (0,):
        pass


# Batches


def test_a_batch_of_mixed_shapes_keeps_each_jobs_own(connection: Connection) -> None:
    items = [
        (
            ("quick", "slow")[n % 2],
            f"text {n}",
            {"subject": f"s{n}", "priority": n % 3, "tags": [str(n)], "context": {"n": n}},
        )
        for n in range(50)
    ]
    rows = [stored(connection, job_id) for job_id, _ in enqueue_staged(connection, *items)]
    assert [
        (r["analysis"], r["content"], {name: r[name] for name in ("subject", "priority", "tags", "context")})
        for r in rows
    ] == items
    assert [r["id"] for r in rows] == sorted(r["id"] for r in rows), "first in, first out"


def test_a_transaction_may_stage_again(connection: Connection) -> None:
    with connection.transaction():
        one = enqueue_staged(connection, ("quick", "a", KEYED))
        two = enqueue_staged(connection, ("quick", "a", KEYED), ("quick", "b", {}))
    assert (one[0][0], [created for _, created in two]) == (two[0][0], [False, True])


def test_staging_survives_discard_all(connection: Connection) -> None:
    """Poolers run it between two clients."""
    enqueue_staged(connection, ("quick", "a", {}))
    connection.execute("DISCARD ALL")
    assert enqueue_staged(connection, ("quick", "b", {}))[0][1]


def test_an_empty_batch_is_no_error(connection: Connection) -> None:
    assert enqueue_staged(connection) == []


# Waking the dispatcher


def notified(database_url: str, connection: Connection, act: Callable[[], object]) -> list[str]:
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute("LISTEN assayline_due")
        act()
        connection.execute("SELECT pg_notify('assayline_due', 'end')")
        heard: list[str] = []
        for notice in listener.notifies(timeout=30):
            if notice.payload == "end":
                return heard
            heard.append(notice.payload)
    raise AssertionError("the end was never heard")


def test_interactive_jobs_wake_their_queue_once(connection: Connection, database_url: str) -> None:
    quick: Item = ("quick", "x", {})
    other: Item = ("quick", "x", {"provider": "two"})
    assert notified(database_url, connection, lambda: enqueue(connection, *quick)) == ["one.interactive"]
    heard = notified(database_url, connection, lambda: enqueue_staged(connection, quick, quick, other, quick))
    assert sorted(heard) == ["one.interactive", "two.interactive"]


def test_bulk_jobs_and_replays_wake_nobody(connection: Connection, database_url: str) -> None:
    keyed = ("quick", "x", KEYED)
    enqueue(connection, *keyed)

    def act() -> None:
        enqueue(connection, "slow", "x")
        enqueue(connection, *keyed)
        enqueue_staged(connection, ("slow", "x", {}), keyed)

    assert notified(database_url, connection, act) == []


# Reading and cancelling


def test_get_tells_the_job_with_result_and_ledger(connection: Connection) -> None:
    job_id, _ = enqueue(connection, "quick", "text", GIVEN)
    connection.execute(
        "INSERT INTO assayline.calls (job_id, claim_no, call_no, kind, outcome, tenant, analysis, provider, account,"
        " model, incarnation, started_at, cost_usd) SELECT %s, 1, n, 'answer', 'failed', 'acme', 'quick', 'two', 'key',"
        " 'deep/model', gen_random_uuid(), now(), 0.000012 FROM generate_series(2, 1, -1) n",
        (job_id,),
    )
    connection.execute(
        "INSERT INTO assayline.results VALUES (%s, '{\"skills\": []}', NULL, false, 'two', 'deep/model', '3', 10, 0, 5,"
        " 0.000024, 1.5, 2, now())",
        (job_id,),
    )
    said = get(connection, job_id)
    assert said is not None
    assert (said["id"], said["state"], said["tags"], said["created_at"][-6:]) == (
        str(job_id), "scheduled", ["nightly", "x"], "+00:00",
    )  # fmt: skip
    assert (said["result"]["data"], said["result"]["cost_usd"]) == ({"skills": []}, 0.000024)
    assert [(call["call_no"], call["outcome"], call["cost_usd"]) for call in said["calls"]] == [
        (1, "failed", 0.000012), (2, "failed", 0.000012),
    ]  # fmt: skip


def get(connection: Connection, job_id: UUID, tenant: str | None = None) -> dict[str, Any] | None:
    row = connection.execute("SELECT assayline_get(%s, %s)::text", (job_id, tenant)).fetchone()
    assert row is not None
    return None if row[0] is None else json.loads(row[0])


def test_get_before_any_call(connection: Connection) -> None:
    said = get(connection, enqueue(connection, "quick", "text")[0])
    assert said is not None
    assert (said["result"], said["calls"]) == (None, [])


def test_a_job_is_shown_and_cancelled_for_its_tenant_only(connection: Connection) -> None:
    job_id, _ = enqueue(connection, "quick", "text", {"tenant": "acme"})
    cancel = "SELECT assayline_cancel(%s, %s)"
    assert get(connection, job_id, "other") is None
    assert get(connection, job_id, "acme") is not None
    assert connection.execute(cancel, (job_id, "other")).fetchone() == (None,)
    assert stored(connection, job_id)["state"] == "scheduled"
    assert connection.execute(cancel, (job_id, "acme")).fetchone() == ("cancelled",)
    assert stored(connection, job_id)["finished_at"] is not None


def test_a_job_that_has_ended_is_not_cancelled(connection: Connection) -> None:
    job_id, _ = enqueue(connection, "quick", "text")
    connection.execute("UPDATE assayline.jobs SET state = 'succeeded', reason = 'done' WHERE id = %s", (job_id,))
    assert connection.execute("SELECT assayline_cancel(%s)", (job_id,)).fetchone() == ("succeeded",)
    assert stored(connection, job_id)["reason"] == "done"


# Agreement


def test_the_database_and_the_client_know_the_same_options(connection: Connection) -> None:
    rows = connection.execute("SELECT name FROM assayline.job_options").fetchall()
    assert {name for (name,) in rows} == set(OPTIONS)


def test_the_clients_limits_are_the_databases() -> None:
    sql = (Path(__file__).parents[2] / "ops/migrations/sql/0002_enqueue.up.sql").read_text(encoding="utf-8")
    assert set(re.findall(r"\) > (\d{6,})", sql)) == {str(MAX_BYTES)}
    assert re.findall(r"\$\.\*\*\{(\d+)\}", sql) == [str(MAX_LEVELS + 2)]


def test_a_session_goes_on_staging_after_jobs_has_got_a_column(connection: Connection, database_url: str) -> None:
    """As a revision gives it one, while a web app's pooled session lives."""
    assert enqueue_staged(connection, ("quick", "text", {}))[0][1]
    with psycopg.connect(database_url, autocommit=True) as migrating:
        migrating.execute("ALTER TABLE assayline.jobs ADD COLUMN more text")
    assert enqueue_staged(connection, ("quick", "text", {}))[0][1]
    assert enqueue(connection, "quick", "text")[1]
