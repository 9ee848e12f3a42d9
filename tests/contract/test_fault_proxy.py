"""The proxy that fails on demand, over real sockets: what both sides see of each order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ops.bench.faults.proxy import Link

MUCH = b"x" * 4_000_000
"""More than all buffers on the way hold."""
SOON_S = 0.1
WITHIN_S = 10.0


class Echo:
    """A server that sends back what it gets, and knows who is connected."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.seen = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.seen.set()
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def link(echo: Echo) -> AsyncIterator[Link]:
    """A link to the echoing server."""
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    made = Link(server.sockets[0].getsockname()[1])
    await made.listen()
    yield made
    await made.refuse()
    server.close()


async def connected(link: Link) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", link.port)


async def answered(ends: tuple[asyncio.StreamReader, asyncio.StreamWriter], said: bytes) -> bool:
    """Say something and hear it."""
    reader, writer = ends
    writer.write(said)
    async with asyncio.timeout(WITHIN_S):
        return await reader.readexactly(len(said)) == said


async def test_it_passes_on_what_comes(link: Link) -> None:
    first, second = await connected(link), await connected(link)
    assert await answered(first, b"one")
    assert await answered(second, MUCH)
    assert await answered(first, b"again")
    first[1].close()
    second[1].close()


async def test_the_end_of_one_side_is_the_end_of_the_other(link: Link, echo: Echo) -> None:
    ends = await connected(link)
    assert await answered(ends, b"one")
    echo.writers[0].close()
    async with asyncio.timeout(WITHIN_S):
        assert await ends[0].read() == b""
    ends[1].close()


async def test_a_reset_ends_what_is_there_and_lets_new_ones_through(link: Link) -> None:
    ends = await connected(link)
    assert await answered(ends, b"one")
    assert await link.reset() == 2
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(WITHIN_S):
            await ends[0].read()
    assert await answered(await connected(link), b"two")


async def test_who_is_refused_comes_to_the_same_port_later(link: Link) -> None:
    ends = await connected(link)
    assert await answered(ends, b"one")
    await link.refuse()
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(WITHIN_S):
            await ends[0].read()
    with pytest.raises(ConnectionRefusedError):
        await connected(link)
    await link.restore()
    assert await answered(await connected(link), b"two")


async def test_what_is_stalled_arrives_when_it_goes_on(link: Link) -> None:
    """Of a connection that was there before, and of one that comes meanwhile."""
    old = await connected(link)
    assert await answered(old, b"one")
    assert await link.stall() == 2
    new = await connected(link)
    for _, writer in (old, new):
        writer.write(b"two")
    for reader, _ in (old, new):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON_S):
                await reader.read(1)
    await link.restore()
    for reader, writer in (old, new):
        async with asyncio.timeout(WITHIN_S):
            assert await reader.readexactly(3) == b"two"
        writer.close()


async def test_a_server_that_is_away_is_a_reset() -> None:
    nobody = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    link = Link(nobody.sockets[0].getsockname()[1])
    nobody.close()
    await nobody.wait_closed()
    await link.listen()
    reader, _ = await connected(link)
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(WITHIN_S):
            await reader.read()
    await link.refuse()
