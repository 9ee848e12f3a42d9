"""Pauses: what an operator has stopped. They stand in Postgres, so that they hold for all dispatchers and outlive them.

A paused job waits: it is not released, and not taken over by another provider. What runs is let run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import OperationalError

from gateway.catalog_entries import Lane
from tasks.sql import statement

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from gateway.catalog import Catalog

MOST_NAME, MOST_WHY = 200, 500
"""Characters."""

LISTED = statement("pauses")

TRIES, TRY_EVERY_S = 10, 0.1
"""How often queued jobs are asked back that another transaction has locked: a claim is over in milliseconds, what is
still locked after a second may be so for hours."""

LOCK_NOT_AVAILABLE = "55P03"


class PauseKind(StrEnum):
    """What a pause is of."""

    PROVIDER = "provider"
    QUEUE = "queue"
    ANALYSIS = "analysis"
    TENANT = "tenant"


class PauseBlocked(Exception):
    """A release, or another change of pauses, is under way and has not ended within five seconds; nothing changed."""

    def __init__(self, kind: PauseKind, name: str) -> None:
        super().__init__(
            f"{kind} {name} is as it was: a release, or another change of pauses, is under way and does not end."
            " Try again; where it goes on, end that transaction (pg_stat_activity names it)"
        )


@dataclass(frozen=True, slots=True)
class Paused:
    """What a pause did to queued jobs. jobs: how many wait again. held: how many another transaction had locked."""

    jobs: int
    held: int


@dataclass(frozen=True, slots=True)
class Pause:
    """One pause: what is stopped, why, and since when (UTC)."""

    kind: PauseKind
    name: str
    why: str
    since: datetime

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> Pause:
        """Read a row of `LISTED`. Its time comes in the session's zone."""
        return cls(PauseKind(row["kind"]), row["name"], row["why"], row["since"].astimezone(UTC))

    @property
    def fields(self) -> dict[str, Any]:
        """Its fields by name."""
        return asdict(self)


async def unknown(
    connection: AsyncConnection, kind: PauseKind, name: str, catalog: Callable[[], Catalog]
) -> tuple[str, ...] | None:
    """Return the names there are where `name` is none of them; None where it may be paused.

    Args:
        connection: where to look first: there is what the dispatcher has mirrored, which leaves out providers without a
            key. Tenants are whoever enqueues.
        kind: of what.
        name: as it was said.
        catalog: where to look then, for who pauses a provider before it gets its key; asked only if it is needed.
    """
    if kind is PauseKind.TENANT:
        return None
    rows = await connection.execute(statement("pause_names"), {"kind": kind.value})
    mirrored = set(rows.scalars())
    if name in mirrored:
        return None
    names = mirrored | _of(kind, catalog())
    return None if name in names else tuple(sorted(names))


def _of(kind: PauseKind, catalog: Catalog) -> set[str]:
    """What a catalog has of a kind, configured or not."""
    match kind:
        case PauseKind.PROVIDER:
            return set(catalog.providers)
        case PauseKind.QUEUE:
            return {f"{name}.{lane}" for name in catalog.providers for lane in Lane}
        case _:
            return set(catalog.analyses)


async def pause(connection: AsyncConnection, kind: PauseKind, name: str, why: str = "") -> Paused:
    """Stop the release of some jobs, and let what is queued of them wait again.

    Once it returns nothing more of them is released, by any dispatcher. What is paused already stays so, with the new
    remark. A queued job that another transaction keeps locked is not waited for: it may still run, unless the pause is
    made again. `connection`: each statement a transaction of its own, for while the first one's is open nothing at all
    is released.

    Raises:
        PauseBlocked: a release that is under way does not end; nothing is paused.
    """
    which = {"kind": kind.value, "name": name}
    with _told_if_blocked(kind, name):
        await connection.execute(statement("pause"), {**which, "why": why})
    jobs = held = 0
    for wait_s in (0.0, *[TRY_EVERY_S] * (TRIES - 1)):
        await asyncio.sleep(wait_s)
        row = (await connection.execute(statement("pause_queued"), which)).one()
        jobs, held = jobs + row.moved, row.held
        if not held:
            break
    return Paused(jobs, held)


async def resume(connection: AsyncConnection, kind: PauseKind, name: str) -> bool:
    """Let a pause end; the next pass of a dispatcher, within a second, releases again. False: there was none.

    Raises:
        PauseBlocked: somebody else's change of this pause is under way and does not end; it still holds.
    """
    with _told_if_blocked(kind, name):
        row = await connection.execute(statement("pause_end"), {"kind": kind.value, "name": name})
        return bool(row.scalar_one())


@contextmanager
def _told_if_blocked(kind: PauseKind, name: str) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        raise PauseBlocked(kind, name) from error


async def pauses(connection: AsyncConnection) -> list[Pause]:
    """Return all pauses."""
    return [Pause.from_row(row) for row in (await connection.execute(LISTED)).mappings()]
