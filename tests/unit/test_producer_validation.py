"""What the client judges before anything is sent, and how it reads refusals, chunks and waits."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType, SimpleNamespace
from typing import Any, get_type_hints
from uuid import UUID, uuid4

import pytest

from tasks.producer import (
    AsyncClient,
    Client,
    IdempotencyConflict,
    InvalidJob,
    Job,
    JobFields,
    NotMigrated,
    TooLarge,
    UnknownAnalysis,
    UnknownModel,
    UnsupportedConnection,
    WaitTimeout,
)
from tasks.producer.async_links import async_link_for, numbered
from tasks.producer.errors import MAX_BYTES, MAX_LEVELS, from_database
from tasks.producer.jobs import OPTIONS, wire
from tasks.producer.links import link_for
from tasks.producer.records import ENDED
from tasks.producer.shelf import FRESH_S, KEPT, Shelf, libpq_url
from tasks.producer.statements import CHUNK_BYTES, CHUNK_ROWS, Chunker
from tasks.producer.watch import HEARING_S, POLL_S, Watch, channel, says_ended
from tasks.states import TERMINAL


def options(**fields: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(wire(Job("a", "c", **fields)).options)
    return said


def nested(levels: int) -> Any:
    value: Any = "leaf"
    for _ in range(levels):
        value = {"in": value}
    return value


def test_only_what_was_said_is_sent() -> None:
    assert options() == {}
    assert options(priority=0, use_cache=False, tags=[]) == {"priority": 0, "use_cache": False, "tags": []}


def test_values_that_json_lacks_are_written_in_a_form_the_database_reads() -> None:
    berlin = datetime(2026, 11, 5, 9, 30, tzinfo=timezone(timedelta(hours=1)))
    assert options(
        not_before=berlin, max_cost_usd=Decimal("0.10"), context=MappingProxyType({"at": berlin}), tags=("x",)
    ) == {
        "not_before": "2026-11-05T09:30:00+01:00",
        "max_cost_usd": "0.10",
        "context": {"at": "2026-11-05T09:30:00+01:00"},
        "tags": ["x"],
    }


def test_bytes_are_content_if_they_are_utf8() -> None:
    assert wire(Job("a", "grün".encode())).content == "grün".encode()
    with pytest.raises(InvalidJob, match="content: is not UTF-8 at byte 2"):
        wire(Job("a", b"gr\xfcn"))


@pytest.mark.parametrize("fields", [{"analysis": 7}, {"analysis": b"a"}, {"content": None}, {"content": 7}])
def test_what_is_no_text_is_refused_by_name(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(InvalidJob) as caught:
        wire(Job(**{"analysis": "a", "content": "c"} | fields))
    assert caught.value.field == name


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
@pytest.mark.parametrize(
    ("field", "wrap"),
    [
        ("analysis", lambda text: text),
        ("content", lambda text: text),
        ("subject", lambda text: text),
        ("context", lambda text: {"deep": [{"in": text}]}),
        ("context", lambda text: {text: 1}),
        ("messages", lambda text: [{"role": "user", "content": text}]),
    ],
)
def test_text_that_postgres_cannot_hold_is_refused_by_name(field: str, wrap: Any, text: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        wire(Job(**{"analysis": "a", "content": "c", field: wrap(text)}))
    assert caught.value.field == field


def test_an_escape_that_is_only_written_out_is_text_like_any_other() -> None:
    assert options(context={"regex": r"\u0000"}) == {"context": {"regex": r"\u0000"}}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, datetime(2026, 1, 1), b"x"])
def test_what_is_no_json_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InvalidJob) as caught:
        wire(Job("a", "c", tenant="t", context={"value": value}))
    assert caught.value.field == "context"


def test_a_circle_is_refused() -> None:
    circle: list[Any] = []
    circle += [circle, circle]
    with pytest.raises(InvalidJob, match="context: Circular"):
        wire(Job("a", "c", context={"value": circle}))


def test_a_naive_time_is_refused_by_name() -> None:
    with pytest.raises(InvalidJob, match="not_before: a time without an offset"):
        wire(Job("a", "c", not_before=datetime(2026, 1, 1)))


def test_content_may_have_a_mebibyte_and_no_byte_more() -> None:
    assert len(wire(Job("a", "ü" * (MAX_BYTES // 2))).content) == MAX_BYTES
    with pytest.raises(TooLarge, match=r"content: 1048577 bytes, and 1048576 \(1 MiB\) is the most") as caught:
        wire(Job("a", "x" * (MAX_BYTES + 1)))
    assert (caught.value.field, caught.value.limit) == ("content", MAX_BYTES)


def test_options_may_have_a_mebibyte() -> None:
    with pytest.raises(TooLarge) as caught:
        wire(Job("a", "c", context={"x": "y" * MAX_BYTES}))
    assert caught.value.field == "options"


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 500, 100_000])
def test_deep_json_is_refused_by_name(levels: int) -> None:
    with pytest.raises(TooLarge) as caught:
        wire(Job("a", "c", tenant="t", context=nested(levels)))
    assert (caught.value.field, caught.value.limit) == ("context", MAX_LEVELS)


def test_deep_and_wide_json_is_taken_up_to_the_limit() -> None:
    assert options(context=nested(MAX_LEVELS)) == {"context": nested(MAX_LEVELS)}
    assert len(options(context={"wide": [[] for _ in range(100)]})["context"]["wide"]) == 100


def test_the_two_lists_of_fields_are_one() -> None:
    assert set(get_type_hints(JobFields)) == set(OPTIONS)


def test_the_states_that_end_a_job_are_the_state_tables() -> None:
    assert {state.value for state in TERMINAL} == ENDED


# Chunks


def test_chunks_close_by_rows() -> None:
    chunker = Chunker()
    chunks = [chunk for _ in range(CHUNK_ROWS + 1) if (chunk := chunker.add(Job("a", "c")))]
    rest = chunker.rest()
    assert rest is not None
    assert [(c.first, len(c.rows)) for c in [*chunks, rest]] == [(0, CHUNK_ROWS), (CHUNK_ROWS, 1)]
    assert chunker.rest() is None


def test_chunks_close_by_bytes() -> None:
    chunker = Chunker()
    chunks = [chunk for _ in range(20) if (chunk := chunker.add(Job("a", "c" * MAX_BYTES)))]
    assert [len(chunk.rows) for chunk in chunks] == [CHUNK_BYTES // MAX_BYTES] * 2


def test_a_bad_job_of_a_stream_is_named_by_its_place() -> None:
    chunker = Chunker()
    for _ in range(CHUNK_ROWS + 3):
        chunker.add(Job("a", "c"))
    with pytest.raises(InvalidJob, match=f"^item {CHUNK_ROWS + 3}: content: has U\\+0000") as caught:
        chunker.add(Job("a", "\0"))
    assert caught.value.item == CHUNK_ROWS + 3


def test_a_batch_that_nobody_reads_says_so() -> None:
    batch = Client().enqueue_many([Job("a", "c")])
    with pytest.warns(RuntimeWarning, match="never iterated"):
        del batch


# Refusals


class Refusal(Exception):
    def __init__(self, sqlstate: str | None, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


JOB = "018f0000-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("sqlstate", "message", "kind", "facts"),
    [
        ("AL001", "analysis: 'x' is not known", UnknownAnalysis, {"field": "analysis", "item": None}),
        ("AL001", "item 3: model: 'x/y' is not in the catalog", UnknownModel, {"field": "model", "item": 3}),
        ("AL002", "item 17: tags: at most 50", InvalidJob, {"field": "tags", "item": 17, "problem": "at most 50"}),
        ("AL003", "content: 9 bytes, and 8 is the most", TooLarge, {"field": "content", "limit": MAX_BYTES}),
        ("AL003", "options: nested deeper than 32 levels", TooLarge, {"limit": MAX_LEVELS}),
        ("AL409", f"item 0: idempotency_key: 'a (job {uuid4()})\nb' was used (job {JOB})", IdempotencyConflict,
         {"item": 0, "job_id": UUID(JOB)}),
        ("42883", "function public.assayline_enqueue(text) does not exist", NotMigrated, {}),
        ("22P05", "unsupported Unicode escape sequence", InvalidJob, {"field": "options"}),
        ("22003", "value overflows: numeric", InvalidJob, {"field": "options"}),
    ],
)  # fmt: skip
def test_refusals_become_errors_with_facts(sqlstate: str, message: str, kind: type, facts: dict[str, Any]) -> None:
    error = from_database(Refusal(sqlstate, message))
    assert type(error) is kind
    assert {name: getattr(error, name) for name in facts} == facts


def test_the_drivers_exception_is_found_inside_sqlalchemys() -> None:
    outer = Refusal(None, "(psycopg.errors.RaiseException) item 1: x")
    outer.orig = SimpleNamespace(sqlstate=None, pgcode="AL002", __cause__=None, message="tenant: 1 to 200 characters")  # type: ignore[attr-defined]
    error = from_database(outer)
    assert isinstance(error, InvalidJob)
    assert error.field == "tenant"


@pytest.mark.parametrize(
    "error", [Refusal("40P01", "deadlock: detected"), Refusal("42P01", "no such table"), OSError("gone: away")]
)
def test_other_faults_stay_the_drivers(error: Exception) -> None:
    assert from_database(error) is None


# Connections


@pytest.mark.parametrize("link", [link_for, async_link_for])
def test_what_is_no_connection_is_refused(link: Any) -> None:
    with pytest.raises(UnsupportedConnection):
        link("postgresql://")


def test_numbered_placeholders() -> None:
    assert numbered("SELECT %s::text, %s") == "SELECT $1::text, $2"


def test_sqlalchemys_spelling_of_a_url_is_taken() -> None:
    assert libpq_url("postgresql+psycopg://u:p+w@h/d") == "postgresql://u:p+w@h/d"


def test_the_shelf_gives_back_the_last_and_drops_the_stale() -> None:
    shelf: Shelf[str] = Shelf()
    shelf.put("old", now=0.0)
    shelf.put("new", now=20.0)
    assert shelf.take(now=21.0) == ("new", [])
    assert shelf.take(now=FRESH_S + 1) == (None, ["old"])


def test_the_shelf_has_an_end() -> None:
    shelf: Shelf[int] = Shelf()
    assert [shelf.put(n, now=0.0) for n in range(KEPT + 1)] == [True] * KEPT + [False]
    assert shelf.clear() == list(range(KEPT))


# Waiting


def test_pauses_grow_to_their_limit_and_stop_at_the_deadline() -> None:
    watch = Watch(UUID(JOB), 30.0, now=100.0)
    pauses = [watch.pause_s(100.0, "queued", hearing=False) for _ in range(15)]
    assert pauses[0] == POLL_S[0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == POLL_S[1]
    assert watch.pause_s(129.5, "running", hearing=False) == pytest.approx(0.5)
    with pytest.raises(WaitTimeout, match="still running after 30 s") as caught:
        watch.pause_s(130.0, "running", hearing=False)
    assert caught.value.state == "running"


def test_pauses_start_again_when_redis_goes() -> None:
    watch = Watch(UUID(JOB), 100.0, now=0.0)
    assert watch.pause_s(0.0, "queued", hearing=True) == HEARING_S[0]
    assert watch.pause_s(1.0, "queued", hearing=True) > HEARING_S[0]
    assert watch.pause_s(2.0, "queued", hearing=False) == POLL_S[0]


@pytest.mark.parametrize(
    ("message", "ended"),
    [
        (None, False),
        ({"type": "subscribe", "data": 1}, False),
        ({"type": "message", "data": b'{"id": "x", "state": "running"}'}, False),
        ({"type": "message", "data": b"\xff"}, False),
        ({"type": "message", "data": "[]"}, False),
        ({"type": "message", "data": b'{"id": "x", "state": "failed"}'}, True),
    ],
)
def test_only_the_news_of_an_end_ends_a_pause(message: dict[str, Any] | None, ended: bool) -> None:
    assert says_ended(message) is ended


def test_the_channel_is_the_contracts() -> None:
    assert channel(UUID(JOB)) == f"assayline:events:{JOB}"


def test_aware_times_keep_their_moment() -> None:
    moment = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert datetime.fromisoformat(options(expires_at=moment)["expires_at"]) == moment


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_sentinels_are_refused_with_what_to_give_instead(client: type[Client] | type[AsyncClient]) -> None:
    with pytest.raises(ValueError, match="master_for") as refused:
        client(redis_url="sentinel://:secret@one:26379/0?master_name=mine")
    assert "secret" not in str(refused.value)
