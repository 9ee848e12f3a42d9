"""How a command does what the rooms below do asynchronously: on a loop and an engine of its own, closed afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ops.cli import target

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")


def visit(directory: Path, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Do something over one connection."""

    async def connected(engine: AsyncEngine) -> T:
        async with engine.connect() as connection:
            return await work(connection)

    return visit_often(directory, connected)


def visit_often(directory: Path, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """Do something that takes a connection whenever it needs one: it may outlast a restart of Postgres."""
    from tasks.engine import create_engine

    async def working() -> T:
        engine = create_engine(target.database_url(directory), pool_size=1)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(working())
