"""A server behind the proxy that fails on demand, on a loop of its own beside the test."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nodes.waiting import WITHIN_S
from ops.bench.faults.links import at
from ops.bench.faults.proxy import ORDERS, Link

if TYPE_CHECKING:
    from typing import Self

    from ops.bench.faults.links import Order


class Linked:
    """A context: within it the server of a URL is reached through the proxy, at `url`."""

    def __init__(self, server_url: str) -> None:
        port = urlsplit(server_url).port
        assert port is not None
        self._link = Link(port)
        self.url = at(server_url, self._link.port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)

    def tell(self, order: Order) -> int:
        """Do something to the link; how many connections that struck."""
        told = asyncio.run_coroutine_threadsafe(ORDERS[order](self._link), self._loop)
        return int(told.result(WITHIN_S))

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._link.listen(), self._loop).result(WITHIN_S)
        return self

    def __exit__(self, *_: object) -> None:
        """Break all connections, and listen no more."""
        self.tell("refuse")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
