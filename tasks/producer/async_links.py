"""Connections of all async kinds, brought to the shape that `links` has for the sync ones."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import Any, Protocol

from .errors import UnsupportedConnection
from .links import package_of
from .statements import STAGE_COPY, Chunk, Params

Rows = Sequence[Sequence[Any]]


class AsyncLink(Protocol):
    """What the client needs of an async connection."""

    async def fetch(self, sql: str, params: Params = ()) -> Rows:
        """Run one statement and return its rows."""
        ...

    async def stage(self, chunk: Chunk) -> None:
        """Put a chunk into the staging table."""
        ...

    def atomic(self) -> AbstractAsyncContextManager[Any]:
        """All or nothing inside: a transaction where there is none, else a part of the caller's."""
        ...


class AsyncPsycopgLink:
    """psycopg 3's AsyncConnection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def _cursor(self) -> Any:
        from psycopg import AsyncCursor
        from psycopg.rows import tuple_row

        return AsyncCursor(self._connection, row_factory=tuple_row)

    async def fetch(self, sql: str, params: Params = ()) -> Rows:
        """Run one statement and return its rows."""
        async with self._cursor() as cursor:
            await cursor.execute(sql, params)
            return await cursor.fetchall()  # type: ignore[no-any-return]

    async def stage(self, chunk: Chunk) -> None:
        """Put a chunk into the staging table."""
        async with self._cursor() as cursor, cursor.copy(STAGE_COPY) as copy:
            await copy.write(chunk.copy_text())

    @asynccontextmanager
    async def atomic(self) -> AsyncIterator[None]:
        """All or nothing inside, without ending a transaction of the caller's."""
        if not self._connection.autocommit:
            await self.fetch("SELECT 1")  # see links.PsycopgLink.atomic
        async with self._connection.transaction():
            yield


class AsyncpgLink:
    """An asyncpg connection, or a pool's proxy of one."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, sql: str, params: Params = ()) -> Rows:
        """Run one statement and return its rows."""
        return [tuple(row) for row in await self._connection.fetch(numbered(sql), *params)]

    async def stage(self, chunk: Chunk) -> None:
        """Put a chunk into the staging table."""
        await self._connection.copy_to_table(
            "assayline_staging",
            schema_name="pg_temp",
            columns=("ord", "analysis", "content", "options"),
            source=io.BytesIO(chunk.copy_text()),
            format="text",
            encoding="UTF8",
        )

    def atomic(self) -> AbstractAsyncContextManager[Any]:
        """All or nothing inside, without ending a transaction of the caller's."""
        return self._connection.transaction()  # type: ignore[no-any-return]


class AsyncSqlalchemyLink:
    """A SQLAlchemy AsyncConnection or AsyncSession; see `links.SqlalchemyLink`."""

    def __init__(self, given: Any) -> None:
        self._given = given

    async def _connection(self) -> Any:
        # An AsyncSession hands out its AsyncConnection; an AsyncConnection is one.
        return self._given if hasattr(self._given, "exec_driver_sql") else await self._given.connection()

    async def _driver(self) -> AsyncLink:
        raw = await (await self._connection()).get_raw_connection()
        return async_link_for(raw.driver_connection)

    async def fetch(self, sql: str, params: Params = ()) -> Rows:
        """Run one statement and return its rows."""
        connection = await self._connection()
        wanted = numbered(sql) if connection.dialect.driver == "asyncpg" else sql
        return (await connection.exec_driver_sql(wanted, params or None)).fetchall()  # type: ignore[no-any-return]

    async def stage(self, chunk: Chunk) -> None:
        """Put a chunk into the staging table."""
        await (await self._driver()).stage(chunk)

    @asynccontextmanager
    async def atomic(self) -> AsyncIterator[None]:
        """All or nothing inside, without ending a transaction of the caller's."""
        connection = await self._connection()
        autocommit = (await connection.get_raw_connection()).dbapi_connection.autocommit
        async with (await self._driver()).atomic() if autocommit else connection.begin_nested():
            yield


def numbered(sql: str) -> str:
    """Write `$1`, `$2`, … for the placeholders `%s`."""
    numbers = count(1)
    return re.sub("%s", lambda _: f"${next(numbers)}", sql)


_KINDS: dict[str, Callable[[Any], AsyncLink]] = {
    "psycopg": AsyncPsycopgLink,
    "asyncpg": AsyncpgLink,
    "sqlalchemy": AsyncSqlalchemyLink,
}


def async_link_for(connection: Any) -> AsyncLink:
    """Bring the caller's async connection to the shape of an AsyncLink.

    Raises:
        UnsupportedConnection: it is sync, or of a driver that is not known.
    """
    package = package_of(connection, _KINDS)
    if package is None:
        raise UnsupportedConnection(f"{type(connection).__name__} is none of {', '.join(_KINDS)}'s async connections")
    # asyncpg's Connection is no context manager, but knows no other colour either.
    if package != "asyncpg" and not hasattr(connection, "__aenter__"):
        raise UnsupportedConnection(f"{type(connection).__name__} is sync: use Client")
    return _KINDS[package](connection)
