"""Waiting for what may hang, no longer than until an instant of `time.monotonic()`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def by(at: float, work: Awaitable[T]) -> T:
    """Await something until `at`. What takes longer is cancelled, and waited for no more.

    `asyncio.timeout` would wait for what it has cancelled: psycopg tries for ten seconds to tell a Postgres that hangs.

    Raises:
        TimeoutError: it takes longer.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=max(0.0, at - time.monotonic()))
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()


def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel them all."""
    for task in tuple(tasks):
        task.cancel()
