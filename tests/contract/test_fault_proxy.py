"""The proxy that fails on demand, over real sockets: what both sides see of each order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ClassVar

import pytest

from ops.bench.faults.proxy import Link

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[..., Awaitable[Ends]]

MUCH = b"x" * 4_000_000
"""More than all buffers on the way hold."""
SOON_S = 0.1
WITHIN_S = 10.0


class Echo(asyncio.Protocol):
    """One connection of a server that sends back what it gets."""

    made: ClassVar[list[Echo]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.made.append(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """A link to the echoing server."""
    Echo.made.clear()
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    made = Link(server.sockets[0].getsockname()[1])
    await made.listen()
    yield made
    await made.refuse()
    server.close()


@pytest.fixture
async def connect(link: Link) -> AsyncIterator[Connect]:
    """Connects to a link; what it has opened is closed at the end."""
    opened: list[asyncio.StreamWriter] = []

    async def connected(to: Link = link) -> Ends:
        reader, writer = await asyncio.open_connection("127.0.0.1", to.port)
        opened.append(writer)
        return reader, writer

    yield connected
    for writer in opened:
        writer.transport.abort()
    await asyncio.sleep(0)


async def answered(ends: Ends, said: bytes) -> bool:
    """Say something and hear it."""
    reader, writer = ends
    writer.write(said)
    async with asyncio.timeout(WITHIN_S):
        return await reader.readexactly(len(said)) == said


async def test_it_passes_on_what_comes(connect: Connect) -> None:
    first, second = await connect(), await connect()
    assert await answered(first, b"one")
    assert await answered(second, MUCH)
    assert await answered(first, b"again")


async def test_the_end_of_one_side_is_the_end_of_the_other(connect: Connect) -> None:
    ends = await connect()
    assert await answered(ends, b"one")
    Echo.made[0].transport.close()
    async with asyncio.timeout(WITHIN_S):
        assert await ends[0].read() == b""


async def test_a_reset_ends_what_is_there_and_lets_new_ones_through(link: Link, connect: Connect) -> None:
    ends = await connect()
    assert await answered(ends, b"one")
    assert await link.reset() == 2
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(WITHIN_S):
            await ends[0].read()
    assert await answered(await connect(), b"two")


async def test_who_is_refused_comes_to_the_same_port_later(link: Link, connect: Connect) -> None:
    ends = await connect()
    assert await answered(ends, b"one")
    await link.refuse()
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(WITHIN_S):
            await ends[0].read()
    with pytest.raises(ConnectionRefusedError):
        await connect()
    await link.restore()
    assert await answered(await connect(), b"two")


async def test_what_is_stalled_arrives_when_it_goes_on(link: Link, connect: Connect) -> None:
    """Of a connection that was there before, and of one that comes meanwhile."""
    old = await connect()
    assert await answered(old, b"one")
    assert await link.stall() == 2
    new = await connect()
    for _, writer in (old, new):
        writer.write(b"two")
    for reader, _ in (old, new):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON_S):
                await reader.read(1)
    await link.restore()
    for reader, _ in (old, new):
        async with asyncio.timeout(WITHIN_S):
            assert await reader.readexactly(3) == b"two"


async def test_a_server_that_is_away_is_a_reset(connect: Connect) -> None:
    nobody = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    away = Link(nobody.sockets[0].getsockname()[1])
    nobody.close()
    await nobody.wait_closed()
    await away.listen()
    reader, _ = await connect(away)
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(WITHIN_S):
            await reader.read()
    await away.refuse()
