"""Puts the dispatcher's messages into queues, through kombu, as Celery's workers expect them.

The default exchange and the queue's name as routing key. How a batch goes out is the broker's (`workers.brokers`): as
one pipeline to Redis, with a confirm for each message by RabbitMQ.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError

from tasks.job import Released
from workers.brokers.drivers import Publish, Publishing, publishing
from workers.celery_settings import RUN_TASK

log = logging.getLogger(__name__)


class CeleryPublisher:
    """Implements `tasks.outbox.Publisher`. Publishing blocks, so it runs on a thread; one at a time."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Any = None
        self._publishing: Publishing | None = None
        self._one_at_a_time = threading.Lock()
        self._told = False

    @property
    def _refusals(self) -> tuple[type[Exception], ...]:
        """What means that the broker takes no message now: away, frozen, out of memory, a failed batch."""
        transport = self._app.connection_for_write()
        return (KombuError, OSError, *transport.connection_errors, *transport.channel_errors)

    async def publish(self, messages: Sequence[Released]) -> None:
        """See `Publisher.publish`."""
        await asyncio.to_thread(self._publish, messages)

    def close(self) -> None:
        """Close the connection."""
        with self._one_at_a_time:
            if self._connection is not None:
                self._connection.release()
            self._connection = self._publishing = None

    def _publish(self, messages: Sequence[Released]) -> None:
        with self._one_at_a_time:
            try:
                with self._ready().batch() as publish:
                    for message in messages:
                        self._send(publish, message)
            except self._refusals as error:
                self._tell(error)
                self._drop()
                raise ConnectionError(f"the broker is away: {type(error).__name__}") from error
            self._told = False

    def _send(self, publish: Publish, message: Released) -> None:
        job_id = str(message.id)
        body = self._app.amqp.as_task_v2(
            f"{job_id}:{message.release}", RUN_TASK, args=(job_id, message.release), kwargs={}, root_id=job_id
        )
        publish(
            body.body,
            exchange="",
            routing_key=message.queue,
            serializer="json",
            headers=body.headers,
            delivery_mode=2,
            retry=False,
            **body.properties,
        )

    def _ready(self) -> Publishing:
        if self._publishing is None:
            self._connection = self._app.connection_for_write()
            self._connection.ensure_connection(max_retries=1, timeout=5)
            self._publishing = publishing(self._app.amqp.Producer(self._connection, auto_declare=False))
        return self._publishing

    def _tell(self, error: Exception) -> None:
        """Say once why nothing can be published: who retries knows only that it failed."""
        if not self._told:
            log.warning("the broker takes no messages: %s: %s", type(error).__name__, error)
        self._told = True

    def _drop(self) -> None:
        """Let go of the connection without a word to the broker, which may have stopped reading."""
        if self._connection is not None:
            self._connection.collect()
        self._connection = self._publishing = None
