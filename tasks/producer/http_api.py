"""The client over HTTP, sync and async: the standard library alone carries the bytes.

Each request has a connection of its own. A kept one may be closed by the service just as a job is handed over, and then
nobody could say whether it is in.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from .cancelling import Cancelled, Walk
from .errors import InvalidJob, ServiceRefused
from .http_words import (
    MAX_ANSWER_BYTES,
    Ask,
    Said,
    Service,
    Turns,
    cancel_ask,
    cancel_many_ask,
    cancellable_from,
    enqueue_ask,
    get_ask,
    job_of,
    portion_from,
    receipt_of,
    state_of,
)
from .jobs import Job
from .records import Receipt, StoredJob

TIMEOUT_S = 30.0
"""For an answer, beyond what it may be kept back on purpose; the service's own bound for Postgres is 10 s."""


class HttpApi:
    """What `Client` does over HTTP."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def enqueue(self, job: Job, item: int = 0) -> Receipt:
        """See `Client.enqueue`."""
        return receipt_of(self._say(enqueue_ask(job)), item)

    def enqueue_many(self, jobs: Iterable[Job]) -> Iterator[Receipt]:
        """See `Client.enqueue_many`; each job is a transaction of its own."""
        for item, job in enumerate(jobs):
            yield receipt_of(self._say(_placed(job, item)), item)

    def get(self, job_id: UUID, tenant: str | None, wait_s: int = 0) -> StoredJob:
        """See `Client.get`."""
        return job_of(self._say(get_ask(job_id, tenant, wait_s)), job_id)

    def cancel(self, job_id: UUID, tenant: str | None) -> str:
        """See `Client.cancel`."""
        return state_of(self._say(cancel_ask(job_id, tenant)), job_id)

    def cancel_many(self, which: Mapping[str, Any], on_portion: Callable[[Cancelled], object] | None) -> Cancelled:
        """See `Client.cancel_many`."""
        walk = Walk()
        while not walk.done:
            pause_s = walk.took(portion_from(self._say(cancel_many_ask(which, walk.after))))
            if on_portion is not None:
                on_portion(walk.so_far)
            time.sleep(pause_s)
        return walk.so_far

    def cancellable(self, which: Mapping[str, Any]) -> dict[str, int]:
        """See `Client.cancellable`."""
        return cancellable_from(self._say(cancel_many_ask(which, None, dry_run=True)))

    def wait(self, job_id: UUID, timeout_s: float, tenant: str | None) -> StoredJob:
        """See `Client.wait`."""
        turns = Turns(job_id, timeout_s, time.monotonic())
        while not (job := self.get(job_id, tenant, turns.wait_s(time.monotonic()))).ended:
            time.sleep(turns.pause_s(time.monotonic(), job.state))
        return job

    def _say(self, ask: Ask) -> Said:
        service = self._service
        kind = http.client.HTTPSConnection if service.secure else http.client.HTTPConnection
        connection = kind(service.host, service.port, timeout=TIMEOUT_S + ask.wait_s)
        try:
            connection.request(ask.method, service.prefix + ask.path, ask.body, _headers(service, ask))
            return _read(connection.getresponse())
        finally:
            connection.close()


class AsyncHttpApi:
    """What `AsyncClient` does over HTTP."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def enqueue(self, job: Job, item: int = 0) -> Receipt:
        """See `Client.enqueue`."""
        return receipt_of(await self._say(enqueue_ask(job)), item)

    async def enqueue_many(self, jobs: AsyncIterator[Job]) -> AsyncIterator[Receipt]:
        """See `Client.enqueue_many`; each job is a transaction of its own."""
        item = 0
        async for job in jobs:
            yield receipt_of(await self._say(_placed(job, item)), item)
            item += 1

    async def get(self, job_id: UUID, tenant: str | None, wait_s: int = 0) -> StoredJob:
        """See `Client.get`."""
        return job_of(await self._say(get_ask(job_id, tenant, wait_s)), job_id)

    async def cancel(self, job_id: UUID, tenant: str | None) -> str:
        """See `Client.cancel`."""
        return state_of(await self._say(cancel_ask(job_id, tenant)), job_id)

    async def cancel_many(
        self, which: Mapping[str, Any], on_portion: Callable[[Cancelled], object] | None
    ) -> Cancelled:
        """See `Client.cancel_many`."""
        walk = Walk()
        while not walk.done:
            pause_s = walk.took(portion_from(await self._say(cancel_many_ask(which, walk.after))))
            if on_portion is not None:
                on_portion(walk.so_far)
            await asyncio.sleep(pause_s)
        return walk.so_far

    async def cancellable(self, which: Mapping[str, Any]) -> dict[str, int]:
        """See `Client.cancellable`."""
        return cancellable_from(await self._say(cancel_many_ask(which, None, dry_run=True)))

    async def wait(self, job_id: UUID, timeout_s: float, tenant: str | None) -> StoredJob:
        """See `Client.wait`."""
        turns = Turns(job_id, timeout_s, time.monotonic())
        while True:
            job = await self.get(job_id, tenant, turns.wait_s(time.monotonic()))
            if job.ended:
                return job
            await asyncio.sleep(turns.pause_s(time.monotonic(), job.state))

    async def _say(self, ask: Ask) -> Said:
        service = self._service
        tls = ssl.create_default_context() if service.secure else None
        async with asyncio.timeout(TIMEOUT_S + ask.wait_s):
            reader, writer = await asyncio.open_connection(service.host, service.port, ssl=tls)
            try:
                writer.write(_written(service, ask))
                await writer.drain()
                answer = await _until_closed(reader)
            finally:
                writer.close()
        response = http.client.HTTPResponse(_Socket(answer))  # type: ignore[arg-type]  # all it asks for is makefile
        response.begin()
        return _read(response)


class _Socket:
    """Bytes that came from a socket, for the standard library's reader of answers."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        """As `socket.makefile`."""
        return io.BytesIO(self._data)


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while part := await reader.read(65_536):
        data += part
        if len(data) > MAX_ANSWER_BYTES:
            raise _too_long(0)
    return bytes(data)


def _placed(job: Job, item: int) -> Ask:
    try:
        return enqueue_ask(job)
    except InvalidJob as error:
        error.item = item
        raise


def _headers(service: Service, ask: Ask) -> dict[str, str]:
    return {**service.headers, **({} if ask.body is None else {"Content-Type": "application/json"})}


def _written(service: Service, ask: Ask) -> bytes:
    host = f"[{service.host}]" if ":" in service.host else service.host
    body = ask.body or b""
    headers = {**_headers(service, ask), "Host": f"{host}:{service.port}", "Content-Length": str(len(body))}
    lines = [
        f"{ask.method} {service.prefix}{ask.path} HTTP/1.1",
        *(f"{name}: {text}" for name, text in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _read(response: http.client.HTTPResponse) -> Said:
    with response:
        body = response.read(MAX_ANSWER_BYTES + 1)
        if len(body) > MAX_ANSWER_BYTES:
            raise _too_long(response.status)
        if response.length:
            raise http.client.IncompleteRead(body, response.length)
        return Said(response.status, response.getheader("Retry-After"), body)


def _too_long(status: int) -> ServiceRefused:
    return ServiceRefused(status, "not-assayline", f"the answer is longer than {MAX_ANSWER_BYTES} bytes", None)
