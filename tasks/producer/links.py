"""Connections of all sync kinds, brought to one small shape: run a statement, stage a chunk, do both as a whole.

No driver is imported before it is met. The caller's transaction stays the caller's: a link never commits what it did
not begin.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, Protocol

from .errors import UnsupportedConnection
from .statements import STAGE_COPY, STAGE_INSERT, Chunk, Params

Rows = Sequence[Sequence[Any]]


class Link(Protocol):
    """What the client needs of a connection."""

    def fetch(self, sql: str, params: Params = ()) -> Rows:
        """Run one statement and return its rows."""
        ...

    def stage(self, chunk: Chunk) -> None:
        """Put a chunk into the staging table."""
        ...

    def atomic(self) -> AbstractContextManager[Any]:
        """All or nothing inside: a transaction where there is none, else a part of the caller's."""
        ...


class PsycopgLink:
    """psycopg 3. Its own cursors, whatever factories the caller has set."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def _cursor(self) -> Any:
        from psycopg import Cursor
        from psycopg.rows import tuple_row

        return Cursor(self._connection, row_factory=tuple_row)

    def fetch(self, sql: str, params: Params = ()) -> Rows:
        """Run one statement and return its rows."""
        with self._cursor() as cursor:
            return cursor.execute(sql, params).fetchall()  # type: ignore[no-any-return]

    def stage(self, chunk: Chunk) -> None:
        """Put a chunk into the staging table."""
        with self._cursor() as cursor, cursor.copy(STAGE_COPY) as copy:
            copy.write(chunk.copy_text())

    def atomic(self) -> AbstractContextManager[Any]:
        """All or nothing inside, without ending a transaction of the caller's."""
        if not self._connection.autocommit:
            # Opens the caller's transaction if it is not open yet: the block below is then a savepoint in it, where on
            # an idle connection it would be a transaction of its own, and commit.
            self.fetch("SELECT 1")
        return self._connection.transaction()  # type: ignore[no-any-return]


class DbApiLink:
    """Any DB-API 2 driver with `%s` placeholders, by plain INSERTs."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        cursor = self._connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def fetch(self, sql: str, params: Params = ()) -> Rows:
        """Run one statement and return its rows."""
        with self._cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall()  # type: ignore[no-any-return]

    def stage(self, chunk: Chunk) -> None:
        """Put a chunk into the staging table."""
        with self._cursor() as cursor:
            cursor.executemany(STAGE_INSERT, list(chunk.params()))

    def atomic(self) -> AbstractContextManager[Any]:
        """All or nothing inside, without ending a transaction of the caller's."""
        return self._own_transaction() if getattr(self._connection, "autocommit", False) else nullcontext()

    @contextmanager
    def _own_transaction(self) -> Iterator[None]:
        with self._cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                yield
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")


class Psycopg2Link(DbApiLink):
    """psycopg2, by COPY."""

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        with self._connection.cursor(cursor_factory=import_module("psycopg2.extensions").cursor) as cursor:
            yield cursor

    def atomic(self) -> AbstractContextManager[Any]:
        """All or nothing inside, without ending a transaction of the caller's."""
        # An autocommit connection may still stand in a transaction that the caller began by hand.
        idle_status = import_module("psycopg2.extensions").TRANSACTION_STATUS_IDLE
        idle = self._connection.get_transaction_status() == idle_status
        return self._own_transaction() if self._connection.autocommit and idle else nullcontext()

    def stage(self, chunk: Chunk) -> None:
        """Put a chunk into the staging table."""
        with self._cursor() as cursor:
            cursor.copy_expert(STAGE_COPY, io.BytesIO(chunk.copy_text()))


class SqlalchemyLink:
    """A SQLAlchemy Connection. Statements go through it, so it knows of its transaction; COPY through its driver."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def fetch(self, sql: str, params: Params = ()) -> Rows:
        """Run one statement and return its rows."""
        return self._connection.exec_driver_sql(sql, params or None).fetchall()  # type: ignore[no-any-return]

    def _driver(self) -> Link:
        return link_for(self._connection.connection.driver_connection)

    def stage(self, chunk: Chunk) -> None:
        """Put a chunk into the staging table."""
        self._driver().stage(chunk)

    def atomic(self) -> AbstractContextManager[Any]:
        """All or nothing inside, without ending a transaction of the caller's."""
        if self._connection.connection.dbapi_connection.autocommit:
            return self._driver().atomic()
        return self._connection.begin_nested()  # type: ignore[no-any-return]


def _sqlalchemy(given: Any) -> Link:
    # A Session hands out its Connection; a Connection is one.
    return SqlalchemyLink(given if hasattr(given, "exec_driver_sql") else given.connection())


def _django(given: Any) -> Link:
    given.ensure_connection()
    return link_for(given.connection)


_KINDS: dict[str, Callable[[Any], Link]] = {
    "psycopg": PsycopgLink,
    "psycopg2": Psycopg2Link,
    "sqlalchemy": _sqlalchemy,
    "django": _django,
}


def package_of(connection: Any, known: dict[str, Any]) -> str | None:
    """The first of the `known` packages that a class in the connection's ancestry comes from."""
    packages = (kind.__module__.partition(".")[0] for kind in type(connection).__mro__)
    return next((package for package in packages if package in known), None)


def link_for(connection: Any) -> Link:
    """Bring the caller's connection to the shape of a Link.

    Raises:
        UnsupportedConnection: it is async, or no DB-API connection.
    """
    package = package_of(connection, _KINDS)
    if hasattr(connection, "__aenter__"):
        raise UnsupportedConnection(f"{type(connection).__name__} is async: use AsyncClient")
    if package is not None:
        return _KINDS[package](connection)
    if not hasattr(connection, "cursor"):
        raise UnsupportedConnection(f"{type(connection).__name__} is no DB-API or SQLAlchemy connection")
    return DbApiLink(connection)
