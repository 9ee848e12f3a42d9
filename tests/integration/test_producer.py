"""The client over every kind of connection, sync and async; waiting with Redis, without it, and while it goes away."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import psycopg
import psycopg2
import pytest
import redis
from psycopg.rows import dict_row
from psycopg2.extras import RealDictCursor
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from ops.embedded import EmbeddedValkey
from ops.migrate import sqlalchemy_url
from tasks.producer import (
    AsyncClient,
    Client,
    IdempotencyConflict,
    InvalidJob,
    Job,
    JobNotFound,
    NotMigrated,
    UnknownAnalysis,
    UnsupportedConnection,
    WaitTimeout,
)
from tasks.producer.statements import CHUNK_ROWS
from tasks.producer.watch import channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


@pytest.fixture
def url(database_url: str) -> str:
    """A database that knows one analysis."""
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO assayline.catalog_models VALUES ('one/small')")
        connection.execute("INSERT INTO assayline.catalog_analyses VALUES ('quick', '{one/small}', 'bulk', 3)")
    return database_url


def contents(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [text for (text,) in connection.execute("SELECT content FROM assayline.job_contents ORDER BY job_id")]


def settle(url: str, job_id: Any, state: str = "succeeded") -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO assayline.results SELECT id, '{\"skills\": [\"sql\"]}', NULL, false, provider, model, '1', 9,"
            " 0, 20, 0.000120, 1.5, 1, now() FROM assayline.jobs WHERE id = %s ON CONFLICT DO NOTHING",
            (job_id,),
        )
        connection.execute("UPDATE assayline.jobs SET state = %s, finished_at = now() WHERE id = %s", (state, job_id))


AWKWARD = "tab\t newline\n return\r backslash\\ \\N \\. quote\" 'x' %s grün 🌍"

# The caller's connections: each opens one that is not yet in a transaction, and says how to commit.


@contextmanager
def psycopg_plain(url: str) -> Iterator[Any]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        yield connection


@contextmanager
def psycopg2_plain(url: str) -> Iterator[Any]:
    connection = psycopg2.connect(url, cursor_factory=RealDictCursor)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def sqlalchemy_connection(url: str) -> Iterator[Any]:
    engine = create_engine(sqlalchemy_url(url))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@contextmanager
def sqlalchemy_psycopg2(url: str) -> Iterator[Any]:
    engine = create_engine(sqlalchemy_url(url, driver="psycopg2"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@contextmanager
def sqlalchemy_session(url: str) -> Iterator[Any]:
    engine = create_engine(sqlalchemy_url(url))
    with Session(engine) as session:
        yield session
    engine.dispose()


class OtherDriver:
    """A DB-API connection of a package that the client does not know: cursor, commit, rollback and no more."""

    def __init__(self, connection: Any) -> None:
        self.cursor, self.commit, self.rollback = connection.cursor, connection.commit, connection.rollback


@contextmanager
def other_driver(url: str) -> Iterator[Any]:
    with psycopg.connect(url) as connection:
        yield OtherDriver(connection)


class FakeDjango:
    """What Django's `connection` is to the client: it opens its driver's connection late."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self._url, self._stack = url, stack
        self.connection: Any = None

    def ensure_connection(self) -> None:
        if self.connection is None:
            self.connection = self._stack.enter_context(psycopg.connect(self._url))

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()


FakeDjango.__module__ = "django.db.backends.postgresql.base"


@contextmanager
def django_like(url: str) -> Iterator[Any]:
    with ExitStack() as stack:
        yield FakeDjango(url, stack)


SYNC = pytest.mark.parametrize(
    "opened",
    [
        psycopg_plain,
        psycopg2_plain,
        sqlalchemy_connection,
        sqlalchemy_psycopg2,
        sqlalchemy_session,
        other_driver,
        django_like,
    ],
)


@SYNC
def test_jobs_belong_to_the_callers_transaction(url: str, opened: Any) -> None:
    client = Client()
    with opened(url) as connection:
        one = client.enqueue("quick", AWKWARD, connection=connection, context={"path": "C:\\x\n"})
        many = list(
            client.enqueue_many([Job("quick", AWKWARD), Job("quick", "b", context={"a": "\\n"})], connection=connection)
        )
        assert client.get(one.id, connection=connection).state == "scheduled"
        assert client.cancel(one.id, connection=connection) == "cancelled"
        assert contents(url) == [], "not committed yet"
        connection.commit()
    assert contents(url) == [AWKWARD, AWKWARD, "b"]
    assert [(receipt.item, receipt.created) for receipt in [one, *many]] == [(0, True), (0, True), (1, True)]


@SYNC
def test_a_batch_goes_with_the_callers_rollback(url: str, opened: Any) -> None:
    with opened(url) as connection:
        list(Client().enqueue_many([Job("quick", "a")], connection=connection))
        connection.rollback()
    assert contents(url) == []


@SYNC
def test_refusals_are_ours_whatever_the_driver(url: str, opened: Any) -> None:
    client = Client()
    with opened(url) as connection:
        first = client.enqueue("quick", "a", idempotency_key="k", connection=connection)
        connection.commit()
        with pytest.raises(UnknownAnalysis) as unknown:
            client.enqueue("nope", "a", connection=connection)
        connection.rollback()
        with pytest.raises(IdempotencyConflict) as conflict:
            client.enqueue("quick", "b", idempotency_key="k", connection=connection)
        connection.rollback()
        with pytest.raises(InvalidJob) as invalid:
            list(client.enqueue_many([Job("quick", "a"), Job("quick", "a", priority=77)], connection=connection))
        connection.rollback()
    assert (unknown.value.field, conflict.value.job_id) == ("analysis", first.id)
    assert (invalid.value.field, invalid.value.item) == ("priority", 1)
    assert unknown.value.__cause__ is not None


@contextmanager
def autocommit_psycopg(url: str) -> Iterator[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@contextmanager
def autocommit_psycopg2(url: str) -> Iterator[Any]:
    with psycopg2_plain(url) as connection:
        connection.autocommit = True
        yield connection


@contextmanager
def autocommit_sqlalchemy(url: str) -> Iterator[Any]:
    engine = create_engine(sqlalchemy_url(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.mark.parametrize("opened", [autocommit_psycopg, autocommit_psycopg2, autocommit_sqlalchemy])
def test_a_batch_over_an_autocommit_connection_is_a_transaction(url: str, opened: Any) -> None:
    client = Client()
    with opened(url) as connection:
        assert len(list(client.enqueue_many([Job("quick", "a"), Job("quick", "b")], connection=connection))) == 2
        with pytest.raises(InvalidJob):
            list(client.enqueue_many([Job("quick", "c"), Job("quick", "d", priority=77)], connection=connection))
        list(client.enqueue_many([Job("quick", "e")], connection=connection))
    assert contents(url) == ["a", "b", "e"]


async def test_a_batch_over_sqlalchemys_async_autocommit_is_a_transaction(url: str) -> None:
    engine = create_async_engine(sqlalchemy_url(url, driver="asyncpg"), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        client = AsyncClient()
        assert len([r async for r in client.enqueue_many([Job("quick", "a")] * 2, connection=connection)]) == 2
        with pytest.raises(InvalidJob):
            _ = [r async for r in client.enqueue_many([Job("quick", "b", priority=77)], connection=connection)]
    await engine.dispose()
    assert contents(url) == ["a", "a"]


@pytest.mark.parametrize("opened", [psycopg_plain, sqlalchemy_connection, sqlalchemy_session])
def test_a_refused_batch_leaves_the_callers_transaction_usable(url: str, opened: Any) -> None:
    client = Client()
    with opened(url) as connection:
        client.enqueue("quick", "kept", connection=connection)
        with pytest.raises(InvalidJob):
            list(client.enqueue_many([Job("quick", "a", priority=77)], connection=connection))
        connection.commit()
    assert contents(url) == ["kept"]


# Own connections


def test_own_connections_commit_each_chunk(url: str) -> None:
    seen: list[int] = []

    def jobs() -> Iterator[Job]:
        for n in range(2 * CHUNK_ROWS):
            if n == CHUNK_ROWS:
                seen.append(len(contents(url)))
            yield Job("quick", f"{n}")
        yield Job("quick", "bad", priority=77)

    with Client(url) as client:
        receipts: list[int] = []
        with pytest.raises(InvalidJob, match=f"^item {2 * CHUNK_ROWS}: priority"):
            receipts.extend(receipt.item for receipt in client.enqueue_many(jobs()))
        assert client.enqueue("quick", "after", idempotency_key="k").created, "the client is as good as before"
        assert not client.enqueue("quick", "after", idempotency_key="k").created
    assert seen == [CHUNK_ROWS], "the first chunk was in before the second was asked for"
    assert len(contents(url)) == 2 * CHUNK_ROWS + 1


def test_a_client_is_shared_by_threads(url: str) -> None:
    with Client(url) as client:
        threads = [
            threading.Thread(target=lambda n=n: list(client.enqueue_many([Job("quick", f"{n}")] * 50)))
            for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(contents(url)) == sorted(f"{n}" for n in range(6) for _ in range(50))


def test_batches_that_share_keys_do_not_lock_each_other_out(url: str) -> None:
    """Keys are taken in their own order, so that opposite batches wait and never in a circle."""
    jobs = [Job("quick", f"{n}", idempotency_key=f"{n}") for n in range(500)]
    made: list[int] = []
    with Client(url) as client:

        def send(batch: list[Job]) -> None:
            made.append(sum(receipt.created for receipt in client.enqueue_many(batch)))

        threads = [
            threading.Thread(target=send, args=(batch,)) for batch in (jobs, jobs[::-1], jobs[250:] + jobs[:250])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(made) == len(contents(url)) == 500


def test_a_connection_lost_while_idle_costs_one_call(url: str) -> None:
    with Client(url) as client, psycopg.connect(url, autocommit=True) as killer:
        client.enqueue("quick", "a")
        others = "pid <> pg_backend_pid() AND datname = current_database()"
        killer.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        with pytest.raises(psycopg.OperationalError):
            client.enqueue("quick", "b")
        client.enqueue("quick", "c")
    assert contents(url) == ["a", "c"]


def test_a_refusal_does_not_cost_the_connection(url: str) -> None:
    backends = (
        "SELECT array_agg(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    with Client(url) as client, psycopg.connect(url, autocommit=True) as watcher:
        client.enqueue("quick", "a")
        before = watcher.execute(backends).fetchone()
        for bad in (Job("nope", "a"), Job("quick", "a", priority=77)):
            with pytest.raises(InvalidJob):
                list(client.enqueue_many([bad]))
        with pytest.raises(UnknownAnalysis):
            client.enqueue("nope", "a")
        client.enqueue("quick", "b")
        assert watcher.execute(backends).fetchone() == before


def test_a_database_without_assayline_is_named_so(empty_database_url: str) -> None:
    with Client(empty_database_url) as client, pytest.raises(NotMigrated, match="assayline migrate"):
        client.enqueue("quick", "a")


def test_a_job_that_is_not_there(url: str) -> None:
    missing = uuid4()
    with Client(url) as client:
        for call in (client.get, client.cancel, client.wait):
            with pytest.raises(JobNotFound) as caught:
                call(missing)
            assert caught.value.job_id == missing


def test_the_result_comes_with_the_job(url: str) -> None:
    with Client(url) as client:
        receipt = client.enqueue("quick", "a", tenant="acme")
        settle(url, receipt.id)
        job = client.get(str(receipt.id), tenant="acme")
        assert job.ended
        assert job.result is not None
        assert (job.result.data, str(job.result.cost_usd), job.result.calls) == ({"skills": ["sql"]}, "0.00012", 1)
        with pytest.raises(JobNotFound):
            client.get(receipt.id, tenant="other")


# Waiting


def between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let `act` happen once, when a wait without Redis first pauses."""
    pending = [act]

    def sleep(_: float) -> None:
        for waiting in pending:
            waiting()
        pending.clear()

    monkeypatch.setattr("tasks.producer.ears.time.sleep", sleep)


def test_a_wait_without_redis_asks_postgres(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(url) as client:
        receipt = client.enqueue("quick", "a")
        between(monkeypatch, lambda: settle(url, receipt.id, "failed"))
        assert client.wait(receipt.id).state == "failed"


def test_a_wait_ends_with_its_time(url: str) -> None:
    with Client(url) as client:
        receipt = client.enqueue("quick", "a")
        with pytest.raises(WaitTimeout, match="still scheduled") as caught:
            client.wait(receipt.id, timeout_s=0.02)
    assert caught.value.timeout_s == 0.02


def finish_once_heard(url: str, redis_url: str, job_id: Any) -> None:
    """What a worker does at a job's end; as soon as somebody listens."""
    with redis.Redis.from_url(redis_url) as server:
        while server.pubsub_numsub(channel(job_id))[0][1] == 0:
            pass
        server.publish(channel(job_id), json.dumps({"id": str(job_id), "state": "running"}))
        settle(url, job_id)
        server.publish(channel(job_id), json.dumps({"id": str(job_id), "state": "succeeded"}))


LONG_S = 1_000_000.0


@pytest.fixture
def only_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """While subscribed, nothing but an event can end a pause within the test's time."""
    monkeypatch.setattr("tasks.producer.watch.HEARING_S", (LONG_S, LONG_S))


@pytest.mark.usefixtures("only_events")
def test_an_event_ends_a_wait_at_once(url: str, redis_url: str) -> None:
    with Client(url, redis_url) as client:
        receipt = client.enqueue("quick", "a")
        worker = threading.Thread(target=finish_once_heard, args=(url, redis_url, receipt.id))
        worker.start()
        assert client.wait(receipt.id, timeout_s=LONG_S).state == "succeeded"
        worker.join()


@pytest.mark.usefixtures("only_events")
def test_no_event_is_missed_between_the_look_and_the_subscription(
    url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job ends right after the first look at Postgres: the event must already find a subscriber."""
    with Client(url, redis_url) as client:
        receipt = client.enqueue("quick", "a")
        looked: list[int] = []
        look = client.get

        def look_and_finish(*args: Any, **kwargs: Any) -> Any:
            job = look(*args, **kwargs)
            if not looked:
                looked.append(1)
                finish_once_heard(url, redis_url, receipt.id)
            return job

        monkeypatch.setattr(client, "get", look_and_finish)
        assert client.wait(receipt.id, timeout_s=LONG_S).ended


@pytest.mark.usefixtures("only_events")
def test_a_wait_survives_redis_going_away(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    with Client(url, redis_url := server.start()) as client:
        receipt = client.enqueue("quick", "a")

        def stop_once_heard() -> None:
            with redis.Redis.from_url(redis_url) as probe:
                while probe.pubsub_numsub(channel(receipt.id))[0][1] == 0:
                    pass
            server.stop()

        between(monkeypatch, lambda: settle(url, receipt.id))
        stopper = threading.Thread(target=stop_once_heard)
        stopper.start()
        assert client.wait(receipt.id, timeout_s=LONG_S).ended
        stopper.join()
        assert client.wait(receipt.id).ended, "and without Redis from the start"
    assert [record.message for record in caplog.records if "asking Postgres instead" in record.message]


# Async


@asynccontextmanager
async def async_psycopg(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
        yield connection


@asynccontextmanager
async def async_sqlalchemy_psycopg(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(sqlalchemy_url(url))
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


@asynccontextmanager
async def async_sqlalchemy_asyncpg(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(sqlalchemy_url(url, driver="asyncpg"))
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


@asynccontextmanager
async def async_session_asyncpg(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(sqlalchemy_url(url, driver="asyncpg"))
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


@asynccontextmanager
async def asyncpg_pooled(url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        yield connection


ASYNC = pytest.mark.parametrize(
    "opened",
    [async_psycopg, async_sqlalchemy_psycopg, async_sqlalchemy_asyncpg, async_session_asyncpg],
)


async def use(client: AsyncClient, connection: Any) -> list[bool]:
    one = await client.enqueue("quick", AWKWARD, connection=connection)
    many = client.enqueue_many([Job("quick", AWKWARD), Job("quick", "b")], connection=connection)
    assert (await client.get(one.id, connection=connection)).state == "scheduled"
    assert await client.cancel(one.id, connection=connection) == "cancelled"
    return [one.created, *[receipt.created async for receipt in many]]


@ASYNC
async def test_async_jobs_belong_to_the_callers_transaction(url: str, opened: Any) -> None:
    async with opened(url) as connection:
        assert await use(AsyncClient(), connection) == [True] * 3
        assert contents(url) == [], "not committed yet"
        await connection.rollback()
        assert await use(AsyncClient(), connection) == [True] * 3
        await connection.commit()
    assert contents(url) == [AWKWARD, AWKWARD, "b"]


async def test_asyncpg_in_the_callers_transaction_and_without_one(url: str) -> None:
    async with asyncpg_pooled(url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await use(AsyncClient(), connection)
        await transaction.rollback()
        assert contents(url) == []
        await use(AsyncClient(), connection)
    assert contents(url) == [AWKWARD, AWKWARD, "b"]


@pytest.mark.parametrize("opened", [async_psycopg, async_sqlalchemy_asyncpg, async_session_asyncpg, asyncpg_pooled])
async def test_async_refusals_are_ours_whatever_the_driver(url: str, opened: Any) -> None:
    client = AsyncClient()
    async with opened(url) as connection:
        with pytest.raises(InvalidJob) as invalid:
            _ = [
                r
                async for r in client.enqueue_many(
                    [Job("quick", "a"), Job("quick", "a", priority=77)], connection=connection
                )
            ]
        with pytest.raises(UnknownAnalysis) as unknown:
            await client.enqueue("nope", "a", connection=connection)
    assert (invalid.value.field, invalid.value.item, unknown.value.field) == ("priority", 1, "analysis")


async def test_an_async_stream_over_own_connections(url: str) -> None:
    async def jobs() -> AsyncIterator[Job]:
        for n in range(CHUNK_ROWS + 1):
            yield Job("quick", f"{n}", idempotency_key=f"{n}")

    async with AsyncClient(url) as client:
        assert [r.created async for r in client.enqueue_many(jobs())] == [True] * (CHUNK_ROWS + 1)
        assert [r.created async for r in client.enqueue_many(jobs())] == [False] * (CHUNK_ROWS + 1)
        with pytest.raises(IdempotencyConflict):
            await client.enqueue("quick", "other", idempotency_key="1")
        await asyncio.gather(*(client.enqueue("quick", "x") for _ in range(10)))
    assert len(contents(url)) == CHUNK_ROWS + 11


@pytest.mark.usefixtures("only_events")
async def test_an_event_ends_an_async_wait_at_once(url: str, redis_url: str) -> None:
    async with AsyncClient(url, redis_url) as client:
        receipt = await client.enqueue("quick", "a")
        worker = asyncio.to_thread(finish_once_heard, url, redis_url, receipt.id)
        job, _ = await asyncio.gather(client.wait(receipt.id, timeout_s=LONG_S), worker)
        assert job.result is not None


async def test_an_async_wait_without_redis(url: str, unused_tcp_port: int) -> None:
    async with AsyncClient(url, f"redis://127.0.0.1:{unused_tcp_port}/0") as client:
        receipt = await client.enqueue("quick", "a")
        with pytest.raises(WaitTimeout):
            await client.wait(receipt.id, timeout_s=0.02)
        job, _ = await asyncio.gather(client.wait(receipt.id), asyncio.to_thread(settle, url, receipt.id))
        assert job.ended


async def test_colours_are_not_mixed(url: str) -> None:
    async with async_psycopg(url) as connection:
        with pytest.raises(UnsupportedConnection, match="use AsyncClient"):
            Client().enqueue("quick", "a", connection=connection)
    with psycopg_plain(url) as connection, pytest.raises(UnsupportedConnection, match="use Client"):
        await AsyncClient().enqueue("quick", "a", connection=connection)
