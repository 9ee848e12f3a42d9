"""Puts the dispatcher's messages into queues, through kombu, as Celery's workers expect them.

The default exchange and the queue's name as routing key: after a FLUSHALL a named exchange drops messages silently.
A batch goes out as one pipeline.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError

from tasks.job import Released
from workers.celery_settings import RUN_TASK

BATCH = 100
"""Messages per pipeline."""


class CeleryPublisher:
    """Implements `tasks.outbox.Publisher`. Publishing blocks, so it runs on a thread; one at a time."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Any = None
        self._producer: Any = None
        self._one_at_a_time = threading.Lock()

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
            self._drop()

    def _publish(self, messages: Sequence[Released]) -> None:
        with self._one_at_a_time:
            try:
                producer = self._ready_producer()
                with producer.batch(BATCH):
                    for message in messages:
                        self._send(producer, message)
            except self._refusals as error:
                self._drop()
                raise ConnectionError(f"the broker is away: {type(error).__name__}") from error

    def _send(self, producer: Any, message: Released) -> None:
        job_id = str(message.id)
        body = self._app.amqp.as_task_v2(
            f"{job_id}:{message.release}", RUN_TASK, args=(job_id, message.release), kwargs={}, root_id=job_id
        )
        producer.publish(
            body.body,
            exchange="",
            routing_key=message.queue,
            serializer="json",
            headers=body.headers,
            delivery_mode=2,
            retry=False,
            **body.properties,
        )

    def _ready_producer(self) -> Any:
        if self._producer is None:
            self._connection = self._app.connection_for_write()
            self._connection.ensure_connection(max_retries=1, timeout=5)
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
        return self._producer

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.release()
        self._connection = self._producer = None
