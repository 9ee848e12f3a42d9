"""The client over HTTP says what it says over SQL: the same records, the same exceptions, whichever colour."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import pytest
from apiworld import KEY, Api, mirror_into, served
from nodes.waiting import eventually

from api.limits import MAX_WAIT_S
from tasks.producer import (
    AssaylineError,
    AsyncClient,
    Client,
    IdempotencyConflict,
    InvalidJob,
    Job,
    JobNotFound,
    ServiceRefused,
    TooLarge,
    UnknownAnalysis,
    UnknownModel,
    WaitTimeout,
)
from tasks.producer.errors import MAX_BYTES, MAX_LEVELS
from tasks.producer.http_words import LONGEST_WAIT_S, PAUSE_S, Turns

ANALYSIS = "code_quality"
AWKWARD = "tab\t newline\n backslash\\ \" 'x' %s grün 🌍 \x7f \u2028"


@pytest.fixture
def api(database_url: str, redis_url: str) -> Iterator[Api]:
    mirror_into(database_url)
    with served(database_url, redis_url) as running:
        yield running


class Plain:
    """A sync client whose methods are awaited, so that one test speaks both colours."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._client, name)

        async def call(*args: Any, **more: Any) -> Any:
            return await asyncio.to_thread(method, *args, **more)

        return call

    async def enqueue_many(self, jobs: Any) -> AsyncIterator[Any]:
        for receipt in self._client.enqueue_many(jobs):
            yield receipt


@asynccontextmanager
async def sync_client(url: str, key: str | None = KEY) -> AsyncIterator[Any]:
    with Client(url, api_key=key) as client:
        yield Plain(client)


@asynccontextmanager
async def async_client(url: str, key: str | None = KEY) -> AsyncIterator[Any]:
    async with AsyncClient(url, api_key=key) as client:
        yield client


Opened = Callable[..., Any]
colours = pytest.mark.parametrize("opened", [sync_client, async_client], ids=["sync", "async"])


@colours
async def test_a_job_and_its_end_are_the_same_as_over_sql(api: Api, database_url: str, opened: Opened) -> None:
    fields: dict[str, Any] = {
        "context": {"file_path": AWKWARD}, "tenant": "acme ü&", "max_cost_usd": Decimal("0.25"), "tags": ["a"],
    }  # fmt: skip
    async with opened(api.url) as client, opened_sql(database_url) as over_sql:
        receipt = await client.enqueue(ANALYSIS, AWKWARD, **fields)
        assert receipt.created
        [row] = api.link.execute("SELECT content, context FROM assayline.job_contents").fetchall()
        assert row == {"content": AWKWARD, "context": fields["context"]}
        api.settle(str(receipt.id))
        stored = await client.get(receipt.id, tenant=fields["tenant"])
        assert stored == await over_sql.get(receipt.id)
        assert stored.result.cost_usd == Decimal("0.000120")
        assert await client.wait(str(receipt.id), 5.0) == stored
        assert await client.cancel(receipt.id) == "succeeded"
        other = await client.enqueue(ANALYSIS, b"bytes")
        assert await client.cancel(other.id) == "cancelled"


def opened_sql(database_url: str) -> Any:
    return AsyncClient(database_url)


DEEP: Any = json.loads("[" * 40 + "]" * 40)
REFUSALS: list[tuple[dict[str, Any], type[AssaylineError], dict[str, Any]]] = [
    ({"analysis": "nope"}, UnknownAnalysis, {"field": "analysis"}),
    ({"model": "openai/nope"}, UnknownModel, {"field": "model"}),
    ({"priority": 11}, InvalidJob, {"field": "priority"}),
    ({"content": "nul \0"}, InvalidJob, {"field": "content"}),
    ({"content": "x" * (MAX_BYTES + 1)}, TooLarge, {"field": "content", "limit": MAX_BYTES}),
    ({"content": "x" * 1_000_000}, TooLarge, {"field": "content", "limit": MAX_BYTES}),
    ({"context": {"a": DEEP}}, TooLarge,
     {"field": "context", "limit": MAX_LEVELS}),
]  # fmt: skip


@colours
async def test_refusals_are_the_same_exceptions(api: Api, opened: Opened) -> None:
    async with opened(api.url) as client:
        for changed, kind, facts in REFUSALS:
            given = {"analysis": ANALYSIS, "content": "x = 1", **changed}
            with pytest.raises(kind) as refused:
                await client.enqueue(**given)
            assert type(refused.value) is kind
            assert {name: getattr(refused.value, name) for name in facts} == facts
        nowhere = uuid4()
        for asked in (client.get, client.cancel, client.wait):
            with pytest.raises(JobNotFound) as missing:
                await asked(nowhere)
            assert missing.value.job_id == nowhere


@colours
async def test_keys_repeat_and_conflict(api: Api, opened: Opened) -> None:
    async with opened(api.url) as client:
        first = await client.enqueue(ANALYSIS, "x = 1", idempotency_key="ü k")
        again = await client.enqueue(ANALYSIS, "x = 1", idempotency_key="ü k")
        assert (again.id, again.created) == (first.id, False)
        with pytest.raises(IdempotencyConflict) as conflict:
            await client.enqueue(ANALYSIS, "x = 2", idempotency_key="ü k")
        assert conflict.value.job_id == first.id


@colours
async def test_many_are_handed_over_one_by_one_and_a_refusal_names_its_place(api: Api, opened: Opened) -> None:
    jobs = [Job(ANALYSIS, "1"), Job(ANALYSIS, "2"), Job(ANALYSIS, "3", lane="fast"), Job(ANALYSIS, "4")]
    receipts: list[Any] = []

    async def hand_over(client: Any, wanted: list[Job]) -> None:
        async for receipt in client.enqueue_many(wanted):
            receipts.append(receipt)  # noqa: PERF401  those before a refusal are wanted

    async with opened(api.url) as client:
        with pytest.raises(InvalidJob) as refused:
            await hand_over(client, jobs)
        assert [receipt.item for receipt in receipts] == [0, 1]
        assert (refused.value.item, refused.value.field) == (2, "lane")
        with pytest.raises(InvalidJob) as unsendable:
            await hand_over(client, [Job(ANALYSIS, "1"), Job(ANALYSIS, "\0")])
        assert unsendable.value.item == 1
    assert api.link.execute("SELECT count(*) AS n FROM assayline.jobs").fetchone() == {"n": 3}


@colours
async def test_waiting_is_the_services(api: Api, opened: Opened) -> None:
    async with opened(api.url) as client:
        receipt = await client.enqueue(ANALYSIS, "x")
        with pytest.raises(WaitTimeout) as caught:
            await client.wait(receipt.id, 0.05)
        assert caught.value.state == "scheduled"
        waiting = asyncio.create_task(client.wait(receipt.id, 60.0))
        await asyncio.to_thread(eventually, lambda: api.services.ends.waiting and api.services.ends.hearing)
        await client.cancel(receipt.id)
        assert (await asyncio.wait_for(waiting, 10.0)).state == "cancelled"


@colours
async def test_what_the_service_will_not_do_has_its_facts(api: Api, opened: Opened) -> None:
    async with opened(api.url, "another-key-0123456789") as client:
        with pytest.raises(ServiceRefused, match="401 unauthorized") as refused:
            await client.enqueue(ANALYSIS, "x")
        assert (refused.value.status, refused.value.kind) == (401, "unauthorized")
    api.link.execute("ALTER TABLE assayline.jobs RENAME COLUMN tags TO labels")
    async with opened(api.url) as client:
        with pytest.raises(ServiceRefused, match="500 fault"):
            await client.enqueue(ANALYSIS, "x")
    api.stop()
    async with opened(api.url) as client:
        with pytest.raises(OSError, match=r"refused|Connect"):
            await client.enqueue(ANALYSIS, "x")


class Stranger(BaseHTTPRequestHandler):
    """Some other server: an HTML page for GET, half an answer for POST."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(202)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b'{"id": "')

    def log_message(self, *_: object) -> None:
        """Nothing: it is not the test's output."""


@pytest.fixture
def stranger() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@colours
async def test_an_answer_of_somebody_else_is_no_receipt(stranger: str, opened: Opened) -> None:
    from http.client import IncompleteRead

    async with opened(stranger) as client:
        with pytest.raises(ServiceRefused, match="not Assayline's"):
            await client.get(uuid4())
        with pytest.raises(IncompleteRead):
            await client.enqueue(ANALYSIS, "x")


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_a_key_is_needed_and_never_shown(make: Any) -> None:
    for key in (None, "", "two words", "ümlaut", "line\nbreak"):
        with pytest.raises(AssaylineError) as refused:
            make("http://127.0.0.1:8000", api_key=key)
        assert not key or key not in str(refused.value)
    with pytest.raises(AssaylineError, match="host"):
        make("http://", api_key=KEY)


def test_a_wait_is_asked_in_turns() -> None:
    job_id = UUID(int=1)
    turns = Turns(job_id, 130.0, now=0.0)
    assert LONGEST_WAIT_S == MAX_WAIT_S
    assert turns.wait_s(0.0) == LONGEST_WAIT_S
    assert turns.pause_s(60.0, "queued") == 0.0
    assert turns.wait_s(60.0) == LONGEST_WAIT_S
    assert turns.pause_s(61.0, "queued") == PAUSE_S  # answered early: it is being restarted
    assert turns.wait_s(129.9) == 0
    assert turns.pause_s(129.9, "queued") == pytest.approx(0.1)
    with pytest.raises(WaitTimeout):
        turns.pause_s(130.0, "queued")
