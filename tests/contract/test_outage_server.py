"""The endpoint that fails on demand, over the wire, as our adapter sees it; and what it writes down."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from gateway.errors import QuotaExhausted, ServerError
from gateway.messages import CompletionRequest
from gateway.providers.base import Provider
from ops.bench.outage.failures import WELL
from ops.bench.outage.server import Book, Connection


@pytest.fixture
def record() -> io.StringIO:
    """What the endpoint writes."""
    return io.StringIO()


@pytest.fixture
async def address(record: io.StringIO) -> AsyncIterator[str]:
    """A served endpoint."""
    book = Book(record)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(book), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    yield f"http://{host}:{port}"
    server.close()


async def behave(address: str, how: str) -> None:
    async with httpx2.AsyncClient() as client:
        await client.get(f"{address}/control/{how}")


@pytest.mark.parametrize(
    ("how", "error", "status"),
    [("errors", ServerError, 500), ("quota", QuotaExhausted, 429), ("hangs", TimeoutError, 0)],
)
async def test_it_fails_as_told_writes_it_down_and_is_well_again(
    how: str,
    error: type[Exception],
    status: int,
    address: str,
    record: io.StringIO,
    build: Callable[..., Provider],
    ask: Callable[..., CompletionRequest],
) -> None:
    provider = build(dialect="openai_compatible", base_url=address + "/v1")
    await behave(address, how)
    with pytest.raises(error):
        async with asyncio.timeout(None if status else 0.2):
            await provider.complete(ask())
    await behave(address, WELL)
    assert json.loads((await provider.complete(ask())).text)["label"]
    events = [json.loads(line) for line in record.getvalue().splitlines()]
    assert sorted((event, what) for event, _, what, _ in events if event == "ended") == [
        ("ended", how) for how in sorted((status, 200))
    ]
    assert [event for event, *_ in events].count("arrived") == 2
    times = [ns for *_, ns in events]
    assert times == sorted(times)
