"""The client for asyncio programs; each method means what it means in `Client`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Unpack
from uuid import UUID

from .async_links import AsyncLink, AsyncPsycopgLink, async_link_for
from .cancelling import PORTION, Cancelled, Walk, Which, portion_of, which_json
from .ears import AsyncEar
from .errors import AssaylineError, translated
from .http_words import Service, is_service
from .jobs import Job, JobFields
from .receipts import AsyncReceipts
from .records import Receipt, StoredJob, as_id, receipts, state_after_cancel, stored_job
from .shelf import Shelf, libpq_url, psycopg_module, reusable
from .statements import (
    CANCEL,
    CANCEL_JOBS,
    COUNT_CANCELLABLE,
    ENQUEUE,
    ENQUEUE_STAGED,
    GET,
    STAGE,
    Chunk,
    Chunker,
    enqueue_params,
    lookup_params,
)
from .watch import Watch, no_sentinels, redis_module, redis_settings

if TYPE_CHECKING:
    from .http_api import AsyncHttpApi


class AsyncClient:
    """Hands jobs over to Assayline and asks after them. Belongs to one event loop.

    Args: as of `Client`; `redis` is a client of `redis.asyncio`. Each call takes `connection`: the caller's psycopg
    AsyncConnection, asyncpg connection, or SQLAlchemy AsyncConnection or AsyncSession.
    """

    def __init__(
        self,
        database_url: str | None = None,
        redis_url: str | None = None,
        *,
        redis: Any = None,
        api_key: str | None = None,
    ) -> None:
        self._database_url = database_url
        self._http = _service(database_url, api_key) if is_service(database_url) else None
        self._redis = redis
        self._own_redis = _redis_client(redis_url) if redis is None and redis_url else None
        self._shelf: Shelf[Any] = Shelf()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections that the client opened itself."""
        for connection in self._shelf.clear():
            await connection.close()
        if self._own_redis is not None:
            await self._own_redis.aclose()

    async def enqueue(
        self, analysis: str, content: str | bytes, *, connection: Any = None, **fields: Unpack[JobFields]
    ) -> Receipt:
        """Enqueue one job: see `Client.enqueue`."""
        if self._http is not None and connection is None:
            return await self._http.enqueue(Job(analysis, content, **fields))
        params = enqueue_params(Job(analysis, content, **fields))
        async with self._link(connection) as link:
            return receipts(await link.fetch(ENQUEUE, params))[0]

    def enqueue_many(self, jobs: Iterable[Job] | AsyncIterable[Job], *, connection: Any = None) -> AsyncReceipts:
        """Enqueue any number of jobs in chunks, as the result is iterated: see `Client.enqueue_many`."""
        if self._http is not None and connection is None:
            return AsyncReceipts(self._http.enqueue_many(_each(jobs)))
        return AsyncReceipts(self._sending(jobs, connection))

    async def _sending(self, jobs: Iterable[Job] | AsyncIterable[Job], connection: Any) -> AsyncIterator[Receipt]:
        chunker = Chunker()
        async for job in _each(jobs):
            if chunk := chunker.add(job):
                for receipt in await self._send(chunk, connection):
                    yield receipt
        if chunk := chunker.rest():
            for receipt in await self._send(chunk, connection):
                yield receipt

    async def _send(self, chunk: Chunk, connection: Any) -> list[Receipt]:
        async with self._link(connection) as link, link.atomic():
            await link.fetch(STAGE)
            await link.stage(chunk)
            return receipts(await link.fetch(ENQUEUE_STAGED))

    async def get(self, job_id: UUID | str, *, tenant: str | None = None, connection: Any = None) -> StoredJob:
        """A job as it stands: see `Client.get`."""
        wanted = as_id(job_id)
        if self._http is not None and connection is None:
            return await self._http.get(wanted, tenant)
        async with self._link(connection) as link:
            return stored_job(await link.fetch(GET, lookup_params(wanted, tenant)), wanted)

    async def cancel(self, job_id: UUID | str, *, tenant: str | None = None, connection: Any = None) -> str:
        """Cancel a job that has not ended: see `Client.cancel`."""
        wanted = as_id(job_id)
        if self._http is not None and connection is None:
            return await self._http.cancel(wanted, tenant)
        async with self._link(connection) as link:
            return state_after_cancel(await link.fetch(CANCEL, lookup_params(wanted, tenant)), wanted)

    async def cancel_many(
        self, *, on_portion: Callable[[Cancelled], object] | None = None, connection: Any = None, **which: Unpack[Which]
    ) -> Cancelled:
        """Cancel all jobs that a filter means, in portions: see `Client.cancel_many`."""
        if self._http is not None and connection is None:
            return await self._http.cancel_many(which, on_portion)
        wanted, walk = which_json(which), Walk(one_go=connection is not None)
        while not walk.done:
            async with self._link(connection) as link:
                pause_s = walk.took(portion_of(await link.fetch(CANCEL_JOBS, (wanted, PORTION, walk.after))))
            if on_portion is not None:
                on_portion(walk.so_far)
            await asyncio.sleep(pause_s)
        return walk.so_far

    async def cancellable(self, *, connection: Any = None, **which: Unpack[Which]) -> dict[str, int]:
        """How many jobs `cancel_many` would cancel, by the states that they are in: see `Client.cancellable`."""
        if self._http is not None and connection is None:
            return await self._http.cancellable(which)
        async with self._link(connection) as link:
            return {row[0]: row[1] for row in await link.fetch(COUNT_CANCELLABLE, (which_json(which),))}

    async def wait(
        self, job_id: UUID | str, timeout_s: float = 60.0, *, tenant: str | None = None, connection: Any = None
    ) -> StoredJob:
        """Wait until a job has ended: see `Client.wait`."""
        wanted = as_id(job_id)
        if self._http is not None and connection is None:
            return await self._http.wait(wanted, timeout_s, tenant)
        watch = Watch(wanted, timeout_s, time.monotonic())
        async with AsyncEar(self._redis or self._own_redis, wanted) as ear:
            while not (job := await self.get(wanted, tenant=tenant, connection=connection)).ended:
                await ear.listen(watch.pause_s(time.monotonic(), job.state, hearing=ear.hearing))
        return job

    @asynccontextmanager
    async def _link(self, given: Any) -> AsyncIterator[AsyncLink]:
        with translated():
            if given is not None:
                yield async_link_for(given)
                return
            connection = await self._connection()
            try:
                yield AsyncPsycopgLink(connection)
            finally:
                if not (reusable(connection) and self._shelf.put(connection, time.monotonic())):
                    await connection.close()

    async def _connection(self) -> Any:
        kept, stale = self._shelf.take(time.monotonic())
        for connection in stale:
            await connection.close()
        if kept is not None:
            return kept
        if self._database_url is None:
            raise AssaylineError("no database: give AsyncClient a database_url, or this call a connection")
        connect = psycopg_module().AsyncConnection.connect
        return await connect(libpq_url(self._database_url), autocommit=True)


async def _each(jobs: Iterable[Job] | AsyncIterable[Job]) -> AsyncIterator[Job]:
    if isinstance(jobs, AsyncIterable):
        async for job in jobs:
            yield job
    else:
        for job in jobs:
            yield job


def _service(url: str | None, api_key: str | None) -> AsyncHttpApi:
    from .http_api import AsyncHttpApi

    return AsyncHttpApi(Service.at(str(url), api_key))


def _redis_client(url: str) -> Any:
    redis_module()
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Redis.from_url(no_sentinels(url), **redis_settings(Retry(NoBackoff(), 0)))
