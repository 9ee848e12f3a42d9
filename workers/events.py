"""How Celery's task events are sent: together, by time.

Stock Celery sends what it has at each turn of the worker's loop. With many slots that is nearly one message per event,
three per job, each with a Redis client built for it by kombu: a fifth of the worker's CPU (`assayline bench job-cost`).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from celery import bootsteps
from celery.worker.consumer.events import Events

EVENTS_EVERY_S = 0.5
"""How late Flower may see what a task does. Its own pages ask every few seconds."""
EVENTS_AT_ONCE = 100
"""How many are sent without waiting for the time: some 40 kB."""


class EventBatches(bootsteps.StartStopStep):  # type: ignore[misc]
    """Sends task events every half second, or a hundred at once, and what is left when the worker stops."""

    requires = (Events,)

    def __init__(self, consumer: Any, **_: Any) -> None:
        super().__init__(consumer)
        self._timer: Any = None
        self._waiting: defaultdict[str, list[Any]] = defaultdict(list)
        """What waits to be sent, by group: one buffer for all connections, for between two of them tasks end too."""

    def start(self, consumer: Any) -> None:
        """Take over from the loop's turns. Each connection to the broker has an event dispatcher of its own."""
        dispatcher = consumer.event_dispatcher
        dispatcher.on_send_buffered = None
        dispatcher.buffer_limit = EVENTS_AT_ONCE
        early, dispatcher._group_buffer = dispatcher._group_buffer, self._waiting
        for group, events in early.items():
            self._waiting[group] += events
        self._timer = consumer.timer.call_repeatedly(EVENTS_EVERY_S, dispatcher.flush)

    def stop(self, consumer: Any) -> None:
        """Send what is left. Over a broken connection it is kept, and the next event dispatcher sends it."""
        if self._timer is not None:
            consumer.timer.cancel(self._timer)
            self._timer = None
        if consumer.event_dispatcher is not None:
            consumer.event_dispatcher.flush()

    shutdown = stop
    """Once more at the very end, for the tasks that were still running when the consumer stopped."""
