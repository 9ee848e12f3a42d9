"""The answer cache as the gateway uses it: memory first, then Redis, then one asker for all who ask the same.

Of a hundred equal questions at once one is asked. Whoever asks it does so in its own name: its call, its deadline and
its error are its own. If it fails, is cancelled or gets an answer that may not be kept, the next one asks, one at a
time; those who wait lose nothing by it but time, of which each has its own.

The room knows entries and keys. What an answer means, and whether one may be kept, its caller knows.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from gateway.cache.entry import NotAnEntry, decoded, encoded
from gateway.errors import AnswerAwaited
from gateway.redis_line import RedisAway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.analyses.base import Analysis
    from gateway.cache.entry import Entry
    from gateway.cache.layer import Kept
    from gateway.cache.memory import MemoryLayer
    from gateway.cache.shared import SharedLayer

T = TypeVar("T")

log = logging.getLogger(__name__)


class AnswerCache:
    """A process's answer cache. Lives on one event loop.

    `shared` None: the process remembers for itself alone. `ttl_s`: seconds for all answers, None: as each analysis
    says (an analysis that says 0 is never remembered).
    """

    def __init__(self, memory: MemoryLayer, shared: SharedLayer | None = None, *, ttl_s: int | None = None) -> None:
        self._memory = memory
        self._shared = shared
        self._ttl_s = ttl_s

    def ttl_s(self, analysis: Analysis) -> int:
        """Return how long an analysis's answers are remembered, in seconds; 0: not at all."""
        return (self._ttl_s or analysis.cache_ttl_s) if analysis.cache_ttl_s else 0

    async def recall(
        self,
        key: str,
        read: Callable[[Entry], T | None],
        fetch: Callable[[], Awaitable[tuple[T, Entry | None]]],
        *,
        ttl_s: float,
        wait_s: float,
    ) -> T:
        """Return what `read` makes of the remembered answer, else what `fetch` brings.

        Args:
            key: the question's.
            read: reads an entry; None where it cannot be used, which makes it forgotten.
            fetch: brings an answer, and the entry to remember it by, None where it may not be.
            ttl_s: how long to remember it.
            wait_s: how long to wait for somebody else's answer; a lead has as much time.

        Raises:
            AnswerAwaited: the same question was being asked all that time.
            Exception: what `fetch` raises; nobody else gets it.
        """
        try:
            async with asyncio.timeout(wait_s):
                found = await self._find(key, read, wait_s)
        except TimeoutError as error:
            raise AnswerAwaited(f"the same question is being asked, unanswered for {wait_s:g} s") from error
        if found is not None:
            return found
        entry: Entry | None = None
        try:
            made, entry = await fetch()
        finally:
            self._land(key, entry, ttl_s)
        return made

    def share(self, key: str, entry: Entry, *, ttl_s: float) -> None:
        """Remember an answer that did not come by `recall`, in Redis alone: in memory somebody else may lead."""
        if self._shared is not None:
            self._shared.keep(key, encoded(key, entry), ttl_s)

    async def _find(self, key: str, read: Callable[[Entry], T | None], wait_s: float) -> T | None:
        """Return the remembered answer, or None where the caller leads in both layers."""
        while (kept := await self._memory.take(key, wait_s)) is not None:
            found = self._read(key, kept, read)
            if found is not None:
                return found
            self._memory.forget(key, kept.raw)
        if self._shared is None:
            return None
        try:
            return await self._find_shared(key, read, self._shared, wait_s)
        except RedisAway:
            return None
        except BaseException:
            self._memory.give_up(key)
            raise

    async def _find_shared(
        self, key: str, read: Callable[[Entry], T | None], shared: SharedLayer, wait_s: float
    ) -> T | None:
        unusable = b""
        while (kept := await shared.take(key, wait_s, instead_of=unusable)) is not None:
            found = self._read(key, kept, read)
            if found is not None:
                self._memory.keep(key, kept.raw, kept.ttl_s)
                return found
            unusable = kept.raw
        return None

    def _read(self, key: str, kept: Kept, read: Callable[[Entry], T | None]) -> T | None:
        try:
            found = read(decoded(key, kept.raw))
        except NotAnEntry:
            found = None
        if found is None:
            log.warning("an entry of the answer cache cannot be used, and is replaced: %s", key)
        return found

    def _land(self, key: str, entry: Entry | None, ttl_s: float) -> None:
        """End a lead in both layers."""
        raw = None if entry is None else encoded(key, entry)
        for layer in (self._shared, self._memory):
            if layer is None:
                continue
            if raw is None:
                layer.give_up(key)
            else:
                layer.keep(key, raw, ttl_s)
