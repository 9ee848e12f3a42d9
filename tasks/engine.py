"""The engines of a process: how it is connected to Postgres."""

from __future__ import annotations

from typing import Any

from sqlalchemy.event import listens_for
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from tasks.listen import LIVE_LINK

POOL_SIZE = 8
"""Connections per process: a statement takes half a millisecond, so 8 carry thousands a second; a thousand calls in
flight hold none while they wait."""

SESSION = (
    # A web app's open transaction that cancels jobs must not hold our connections: the write is tried again.
    "SET lock_timeout TO '2s'; "
    # A process that froze, or whose host is gone, must not keep the lock its provider's release needs.
    "SET idle_in_transaction_session_timeout TO '10s'"
)


def create_engine(
    database_url: str, *, pool_size: int = POOL_SIZE, durable: bool = True, replan: bool = True
) -> AsyncEngine:
    """Build the AUTOCOMMIT engine of one process. Nothing connects before its first statement.

    Args:
        database_url: libpq style, `postgresql://…`.
        pool_size: connections kept; ten seconds of waiting for one is an error.
        durable: whether a commit waits for the disk. The dispatcher's need not: a release that a crash of Postgres
            forgets leaves a job `scheduled` and a stale message.
        replan: whether Postgres may plan a statement anew for its parameters. Of a statement on one job over all
            partitions the planning takes five times as long as the doing; the plan is always the same, by an index.
    """
    url = database_url.replace("postgres://", "postgresql://", 1).replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,  # they hold content and answers, and errors are logged
        poolclass=AsyncAdaptedQueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_use_lifo=True,  # the connection used last has its plans at hand
        pool_timeout=10,
        connect_args={"connect_timeout": 5, "application_name": "assayline", **LIVE_LINK},
    )
    settings = SESSION if durable else f"{SESSION}; SET synchronous_commit TO off"
    if not replan:
        settings += "; SET plan_cache_mode TO force_generic_plan; SET enable_seqscan TO off"

    @listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(settings)
        connection.commit()

    return engine
