"""Celery's consumer, which connects again sooner: a broker that is back should not wait for its workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer as StockConsumer

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 2.0
"""Between two tries to connect. Celery's own pauses grow to half a minute; one try costs next to nothing."""


class Consumer(StockConsumer):  # type: ignore[misc]  # untyped
    """Connects again every two seconds at the latest, whatever the broker said before."""

    class Blueprint(StockConsumer.Blueprint):  # type: ignore[misc]  # untyped
        """Celery's steps, without the one that declares 28 queues for delayed messages: delays live in Postgres."""

        default_steps = tuple(step for step in StockConsumer.Blueprint.default_steps if "delayed_delivery" not in step)

    def ensure_connected(self, conn: Any) -> Any:
        """See Celery's."""
        conn.ensure_connection = sooner(conn.ensure_connection)
        return super().ensure_connected(conn)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Say it, and wait: a broker that answers and refuses (a wrong password) is no reason to ask without end."""
        super().on_connection_error_before_connected(exc)
        time.sleep(LONGEST_PAUSE_S)


def sooner(ensure_connection: Callable[..., Any]) -> Callable[..., Any]:
    """Return kombu's `Connection.ensure_connection`, with our pauses."""
    pauses = {"interval_start": FIRST_PAUSE_S, "interval_step": FIRST_PAUSE_S, "interval_max": LONGEST_PAUSE_S}
    return partial(ensure_connection, **pauses)
