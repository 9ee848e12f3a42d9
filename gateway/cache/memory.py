"""The layer in the process's own memory: a bounded table of recent entries, and the queue behind each leader.

Entries are bytes: nobody's changes to a result reach the next one's, and their size is known. Lives on one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from gateway.cache.entry import MAX_ENTRY_BYTES
from gateway.cache.layer import Kept

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ENTRIES = 1_000
LONGEST_S = 300.0
"""The seeds' `TTLCache(maxsize=1000, ttl=300)`."""
MAX_BYTES = 16 * 1024 * 1024
"""A thousand usual entries are one megabyte; this bounds a thousand unusual ones."""


class MemoryLayer:
    """Implements `Layer`. The least recently used entries make room."""

    def __init__(
        self,
        *,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        longest_s: float = LONGEST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries, self._max_bytes, self._longest_s = max_entries, max_bytes, longest_s
        self._clock = clock
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        """Bytes and the time they end at, least recently used first."""
        self._queues: dict[str, deque[asyncio.Future[Kept | None]]] = {}
        """Who waits behind the leader of a key; a key is here as long as somebody leads."""
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def take(self, key: str, lead_s: float) -> Kept | None:
        """See `Layer.take`. A lead lasts until it is ended, however long that takes: its task lives on this loop."""
        found = self._find(key)
        if found is not None:
            return found
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = deque()
            return None
        return await self._turn(key, queue)

    def keep(self, key: str, raw: bytes, ttl_s: float) -> None:
        """See `Layer.keep`. What is too large for the table is handed on all the same."""
        self._drop(key)
        ttl_s = min(ttl_s, self._longest_s)
        if ttl_s > 0 and len(raw) <= min(MAX_ENTRY_BYTES, self._max_bytes):
            self._entries[key] = (raw, self._clock() + ttl_s)
            self.size_bytes += len(raw)
            self._make_room()
        for waiting in self._queues.pop(key, ()):
            if not waiting.done():
                waiting.set_result(Kept(raw, ttl_s))

    def forget(self, key: str, raw: bytes) -> None:
        """Drop an entry that cannot be used, unless another has taken its place."""
        if self._entries.get(key, (b"", 0.0))[0] == raw:
            self._drop(key)

    def give_up(self, key: str) -> None:
        """See `Layer.give_up`."""
        queue = self._queues[key]
        while queue:
            following = queue.popleft()
            if not following.done():
                following.set_result(None)
                return
        del self._queues[key]

    async def _turn(self, key: str, queue: deque[asyncio.Future[Kept | None]]) -> Kept | None:
        """Wait behind a leader. A turn that comes in the moment of a cancellation goes to the next one."""
        turn: asyncio.Future[Kept | None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result() is None:
                self.give_up(key)
            raise

    def _find(self, key: str) -> Kept | None:
        raw, until = self._entries.get(key, (b"", 0.0))
        left_s = until - self._clock()
        if not raw or left_s <= 0:
            return None
        self._entries.move_to_end(key)
        return Kept(raw, left_s)

    def _drop(self, key: str) -> None:
        raw, _ = self._entries.pop(key, (b"", 0.0))
        self.size_bytes -= len(raw)

    def _make_room(self) -> None:
        while len(self._entries) > self._max_entries or self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))
