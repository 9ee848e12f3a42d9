"""Idle connections of a client, kept for the next call."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from .errors import DriverMissing

T = TypeVar("T")

KEPT = 4
"""Idle connections kept at most: a web process seldom enqueues from more threads at once."""

FRESH_S = 30.0
"""Seconds for which an idle connection is trusted: servers, proxies and firewalls drop the older ones unseen."""


class Shelf(Generic[T]):
    """Last in, first out. Appending to and popping from a list are atomic, so threads may share one."""

    def __init__(self) -> None:
        self._idle: list[tuple[T, float]] = []

    def take(self, now: float) -> tuple[T | None, list[T]]:
        """A connection to use, if a fresh one is there, and the stale ones met on the way: close them."""
        stale: list[T] = []
        while True:
            try:
                connection, since = self._idle.pop()
            except IndexError:
                return None, stale
            if now - since <= FRESH_S:
                return connection, stale
            stale.append(connection)

    def put(self, connection: T, now: float) -> bool:
        """Keep a connection; False where there is no room: close it."""
        if len(self._idle) >= KEPT:
            return False
        self._idle.append((connection, now))
        return True

    def clear(self) -> list[T]:
        """Give up all connections: close them."""
        taken, self._idle = self._idle, []
        return [connection for connection, _ in taken]


def psycopg_module() -> Any:
    """psycopg, which opens the client's own connections.

    Raises:
        DriverMissing: it is not installed.
    """
    try:
        import psycopg
    except ImportError as error:
        raise DriverMissing("psycopg") from error
    return psycopg


def reusable(connection: Any) -> bool:
    """Whether a psycopg connection came back whole: not lost, not in mid-statement, in no transaction."""
    return bool(connection.info.transaction_status == psycopg_module().pq.TransactionStatus.IDLE)


def libpq_url(database_url: str) -> str:
    """Take SQLAlchemy's spelling (`postgresql+psycopg://`) for libpq's (`postgresql://`)."""
    scheme, separator, rest = database_url.partition("://")
    return scheme.partition("+")[0] + separator + rest
