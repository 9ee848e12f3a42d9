"""How a worker on RabbitMQ holds no more messages than it has slots for.

On Redis one prefetch holds for all queues together. Quorum queues know a prefetch for each queue only: a worker of ten
slots that serves three queues could hold thirty messages, and those beyond its slots would wait there while another
worker is free. So a worker opens its queues for as many messages as it has free slots, and closes them when it has
none.

Opening and closing are AMQP's `basic.consume` and `basic.cancel`: a consumer's prefetch cannot be changed. Nothing is
waited for, so both cost a few small frames. What RabbitMQ has sent before it hears of a cancel still arrives: from each
queue at most what it was opened for.
"""

from __future__ import annotations

import itertools
from typing import Any

from amqp import spec
from celery import bootsteps
from celery.worker import state
from celery.worker.consumer.tasks import Tasks

from workers.brokers.drivers import AMQP


class Intake(bootsteps.StartStopStep):  # type: ignore[misc]  # untyped
    """Opens and closes the queues of a worker's consumer, as its slots become free and are taken."""

    requires = (Tasks,)

    def __init__(self, consumer: Any, **_: Any) -> None:
        super().__init__(consumer)
        self._generations = itertools.count(1)
        self._offered = 0
        """For how many messages the queues were opened; 0: they are closed."""
        self._taken = 0
        """Messages that came since."""
        self._look: Any = None

    def include_if(self, consumer: Any) -> bool:
        """See Celery's: for RabbitMQ alone."""
        return bool(consumer.conninfo.transport.driver_type == AMQP)

    def start(self, consumer: Any) -> None:
        """Begin with what is free: after a reconnect, jobs of before still run."""
        free = max(1, _free(consumer))  # 0 would be no limit at all
        _prefetch(consumer.task_consumer.channel, free)
        self._offered, self._taken = free, 0
        consumer.on_task_message.add(self._count)
        self._look = lambda: self._look_at(consumer)
        consumer.hub.on_tick.add(self._look)

    def stop(self, consumer: Any) -> None:
        """Leave the queues to those who stop."""
        consumer.hub.on_tick.discard(self._look)
        consumer.on_task_message.discard(self._count)

    shutdown = stop

    def _count(self, *_: Any) -> None:
        self._taken += 1

    def _look_at(self, consumer: Any) -> None:
        """Close where nothing is free; open where more is free than the queues are open for."""
        free = _free(consumer)
        tasks = consumer.task_consumer
        if tasks is None or not tasks.channel.connection:
            return  # the connection broke: all begins anew with the next
        if free <= 0:
            self._close(tasks)
        elif not self._offered or self._taken >= self._offered:
            self._close(tasks)
            self._open(tasks, free)

    def _close(self, tasks: Any) -> None:
        if self._offered:
            for tag in tasks._active_tags.values():
                # The reply comes by itself, and takes the tag's callback away; until then messages may still come.
                tasks.channel.send_method(spec.Basic.Cancel, "sb", (tag, False))
            tasks._active_tags.clear()
            self._offered = 0

    def _open(self, tasks: Any, free: int) -> None:
        _prefetch(tasks.channel, free)
        generation = next(self._generations)
        for queue in tasks.queues:
            tag = tasks._active_tags[queue.name] = f"{queue.name}#{generation}"
            queue.consume(tag, tasks._receive_callback, nowait=True)
        self._offered, self._taken = free, 0


def _free(consumer: Any) -> int:
    """How many slots are free: those of jobs that still run since before a reconnect are not."""
    return int(consumer.pool.num_processes) - len(state.reserved_requests)


def _prefetch(channel: Any, count: int) -> None:
    """Set the prefetch of consumers to come, each for itself. The reply says nothing."""
    channel.send_method(spec.Basic.Qos, "lBb", (0, count, False))
