"""Hearing Postgres's NOTIFY on a connection of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

RECONNECT_S = 1.0

ENDED = "assayline_ended"
"""Where the ends of jobs are told that no worker tells: `<state> <job id> …`. `0009_cancel.up.sql` has the same."""

LIVE_LINK: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""libpq's settings that notice within 25 s a server that vanished without a word; seconds, the last milliseconds."""

log = logging.getLogger(__name__)


def worker_channel(incarnation: UUID) -> str:
    """Where a worker is told what concerns it alone. `0009_cancel.up.sql` has the same."""
    return f"assayline_worker.{incarnation}"


async def listen(
    engine: AsyncEngine,
    channel: str,
    heard: Callable[[str], None],
    *,
    standing: Callable[[bool], object] = lambda stands: None,
) -> None:
    """Call `heard` with the payload of each notification, for ever; reconnects by itself.

    What is notified while the connection is down is not heard: whoever listens must look as well. `standing` is called
    with True when the connection stands and with False when it has gone, so that one knows when to.
    """
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                url, autocommit=True, application_name="assayline", connect_timeout=5, **LIVE_LINK
            ) as link:
                await link.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
                standing(True)
                async for notification in link.notifies():
                    heard(notification.payload)
        except psycopg.OperationalError as error:
            log.warning("not listening to Postgres (%s); trying again", type(error).__name__)
        finally:
            standing(False)
        await asyncio.sleep(RECONNECT_S)
