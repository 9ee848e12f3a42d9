"""The receipts of a batch, as they come in: an iterator that complains when nobody reads it."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Iterator

from .records import Receipt


class _Read:
    """Knows whether it was read. Like a coroutine never awaited, a batch never read is a mistake, and a silent one."""

    _read = False

    def __del__(self) -> None:
        if not self._read:
            warnings.warn("enqueue_many was never iterated: nothing was enqueued", RuntimeWarning, stacklevel=2)


class Receipts(_Read, Iterator[Receipt]):
    """What `Client.enqueue_many` returns."""

    def __init__(self, source: Iterator[Receipt]) -> None:
        self._source = source

    def __next__(self) -> Receipt:
        self._read = True
        return next(self._source)


class AsyncReceipts(_Read, AsyncIterator[Receipt]):
    """What `AsyncClient.enqueue_many` returns."""

    def __init__(self, source: AsyncIterator[Receipt]) -> None:
        self._source = source

    async def __anext__(self) -> Receipt:
        self._read = True
        return await anext(self._source)
