"""What differs between kombu's drivers: a queue's arguments, and how a batch of messages is published.

Every message goes through the default exchange with its queue's name as routing key: there is no binding that could be
lost (a FLUSHALL takes those of named exchanges away, and their messages are then dropped silently).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from kombu.entity import Exchange, Queue

from workers.brokers.confirms import Confirms

REDIS, AMQP = "redis", "amqp"
"""kombu's `driver_type`s; Sentinels lead to a `redis`."""

BATCH = 100
"""Messages per pipeline."""

LONGEST_HELD_MS = 2 * 3_600_000
"""How long RabbitMQ waits for a message's acknowledgement. Its default of 30 minutes is less than the hour that one
call may be given (`timeout_s` in the catalog); beyond it the worker's channel is closed, or its consumer cancelled."""

Publish = Callable[..., object]
"""`kombu.Producer.publish`, with a body and keywords, `routing_key` among them."""


class Publishing(Protocol):
    """One connection's way of publishing."""

    def batch(self) -> AbstractContextManager[Publish]:
        """Publish inside; at the end the broker has all of it.

        Raises:
            OSError: it has not, or nobody knows; so do kombu's own errors say.
        """
        ...


class Pipelines:
    """Redis: a batch is one pipeline, or a few."""

    def __init__(self, producer: Any, declare: Callable[[str], None]) -> None:
        """Make one. `declare` is not needed: a list is there as soon as something is in it."""
        self._producer = producer

    @contextmanager
    def batch(self) -> Iterator[Publish]:
        """See `Publishing.batch`."""
        with self._producer.batch(BATCH):
            yield self._producer.publish


@dataclass(frozen=True, slots=True)
class Driver:
    """One of kombu's drivers, as we use it."""

    queue_arguments: Mapping[str, Any]
    publishing: Callable[[Any, Callable[[str], None]], Publishing]


DRIVERS: Mapping[str, Driver] = {
    REDIS: Driver({}, Pipelines),
    # Whoever comes first declares the queue, so dispatcher, worker and beat must say the same of it.
    AMQP: Driver({"x-queue-type": "quorum", "x-consumer-timeout": LONGEST_HELD_MS}, Confirms),
}


def queue(name: str, driver: str) -> Queue:
    """A queue of that name, bound to nothing."""
    # On the default exchange: nothing to bind, so nothing that a FLUSHALL could unbind.
    arguments = dict(DRIVERS[driver].queue_arguments) or None
    return Queue(name, Exchange(""), routing_key=name, queue_arguments=arguments)  # type: ignore[no-untyped-call]


def publishing(producer: Any) -> Publishing:
    """The way of publishing over a producer's connection."""
    connection = producer.connection
    driver = connection.transport.driver_type

    def declare(name: str) -> None:
        queue(name, driver)(producer.channel).declare(nowait=True)  # type: ignore[no-untyped-call]

    return DRIVERS[driver].publishing(producer, declare)
