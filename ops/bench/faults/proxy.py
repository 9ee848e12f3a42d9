"""A TCP proxy that can be told to fail: it stands between a worker and a server, one port for each link.

`python -m ops.bench.faults.proxy '{"redis": 6379, …}'` takes, by the link's name, the port on loopback where its server
listens. It prints one line of JSON, {"control": port, "redis": port, …}, and serves until SIGTERM. A line sent to the
control port, `NAME reset|refuse|stall|pass`, is done to a link and answered with how many connections it struck:

    reset   all connections end with RST, at both ends; new ones are let through
    refuse  the same, and nobody listens any more
    stall   nothing more is passed on, either way, over new connections neither; nobody is told
    pass    listen again; pass on what has waited
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ops.supervisor.ports import LOOPBACK, pick

RST_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of zero: socket(7)."""
STALLED, FULL = "stalled", "full"
"""Why a side is not read from."""


class Side(asyncio.Protocol):
    """One of the two connections of a pair."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._transport: Any = None
        self._holds: set[str] = set()
        self.other: Side | None = None

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._transport is None or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Belong to the link; read nothing before there is somebody to pass it on to."""
        self._transport = transport
        self._link.sides.add(self)
        self.hold(STALLED)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        assert self.other is not None
        if not self.other.gone:
            self.other._transport.write(data)

    def pause_writing(self) -> None:
        """Whoever sends faster than this side takes it waits."""
        if self.other is not None:
            self.other.hold(FULL)

    def resume_writing(self) -> None:
        """Go on."""
        if self.other is not None:
            self.other.let_go(FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side, once it has sent what is on its way."""
        self._link.sides.discard(self)
        if self.other is not None and not self.other.gone:
            self.other._transport.close()

    def hold(self, why: str) -> None:
        """Read no more, for this reason beside others."""
        if not self._holds and not self.gone:
            self._transport.pause_reading()
        self._holds.add(why)

    def let_go(self, why: str) -> None:
        """Read again, where no other reason is left."""
        if why in self._holds:
            self._holds.discard(why)
            if not self._holds and not self.gone:
                self._transport.resume_reading()

    def reset(self) -> None:
        """End with RST."""
        if not self.gone:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
            self._transport.abort()


class Link:
    """One port, and the server behind it."""

    def __init__(self, server_port: int) -> None:
        self.sides: set[Side] = set()
        self.port = pick()
        self._server_port = server_port
        self._listening: asyncio.Server | None = None
        self._stalled = False
        self._joining: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Listen, always on the same port."""
        if self._listening is None:
            loop = asyncio.get_running_loop()
            self._listening = await loop.create_server(lambda: Client(self), LOOPBACK, self.port)

    def join(self, client: Side) -> None:
        """Connect a client to the server."""
        task = asyncio.get_running_loop().create_task(self._join(client))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def reset(self) -> int:
        """See the module."""
        struck = [side for side in self.sides if not side.gone]
        for side in struck:
            side.reset()
        return len(struck)

    async def refuse(self) -> int:
        """See the module."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        return await self.reset()

    async def stall(self) -> int:
        """See the module."""
        self._stalled = True
        for side in self.sides:
            side.hold(STALLED)
        return len(self.sides)

    async def restore(self) -> int:
        """See the module, `pass`."""
        self._stalled = False
        await self.listen()
        for side in tuple(self.sides):
            if side.other is not None:
                side.let_go(STALLED)
        return len(self.sides)

    async def _join(self, client: Side) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, server = await loop.create_connection(lambda: Side(self), LOOPBACK, self._server_port)
        except OSError:
            client.reset()
            return
        client.other, server.other = server, client
        if client.gone:
            server.reset()
        elif not self._stalled:
            client.let_go(STALLED)
            server.let_go(STALLED)


class Client(Side):
    """The side that came to us."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look for the other side."""
        super().connection_made(transport)
        self._link.join(self)


ORDERS: Mapping[str, Callable[[Link], Any]] = {
    "reset": Link.reset,
    "refuse": Link.refuse,
    "stall": Link.stall,
    "pass": Link.restore,
}


async def serve(server_ports: Mapping[str, int], say: Callable[[str], object]) -> None:
    """Serve until SIGTERM; `say` is told the ports, as one line."""
    links = {name: Link(port) for name, port in server_ports.items()}
    for link in links.values():
        await link.listen()

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            name, order = line.decode().split()
            writer.write(f"{await ORDERS[order](links[name])}\n".encode())
            await writer.drain()
        writer.close()

    control = await asyncio.start_server(obey, LOOPBACK, 0)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    say(
        json.dumps({"control": control.sockets[0].getsockname()[1]} | {name: link.port for name, link in links.items()})
    )
    await stop.wait()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1]), _say))
