"""The brokers that a test may have: Redis, a Redis behind Sentinels, RabbitMQ; what it does with one, whichever it is.

`ASSAYLINE_TEST_BROKER` (redis, sentinel, rabbitmq) says which one all worker and fault tests go through; Redis, where
it says nothing. What must hold for each is tried in any case: `tests/fault/test_rabbitmq.py`, `test_sentinel.py`.
"""

from __future__ import annotations

import base64
import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

import amqp
import pytest
from kombu import Connection

from gateway.redis_clients import blocking_client
from nodes.rabbitmq import RabbitMq
from nodes.sentinels import SentinelSet
from workers.celery_settings import SYSTEM_QUEUE, for_broker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CHOICE = "ASSAYLINE_TEST_BROKER"
KINDS = ("redis", "sentinel", "rabbitmq")


class Broker(Protocol):
    """A running broker."""

    url: str
    """As an operator would write it."""

    def depth(self, queue: str) -> int:
        """Messages in a queue, not yet taken."""
        ...

    def messages(self, queue: str) -> list[tuple[bytes, bytes]]:
        """What lies in a queue, taken out of it: of each message its body, and all that the broker has of it."""
        ...

    def clear(self) -> None:
        """Take all messages out."""
        ...

    def lose_all(self) -> None:
        """Lose every message, and whatever else there is."""
        ...


class RedisBroker:
    """A Redis: at an address, or behind Sentinels."""

    def __init__(self, url: str) -> None:
        self.url = url

    def depth(self, queue: str) -> int:
        """See `Broker.depth`."""
        with blocking_client(self.url) as client:
            return int(client.llen(queue))

    def messages(self, queue: str) -> list[tuple[bytes, bytes]]:
        """See `Broker.messages`."""
        with blocking_client(self.url) as client:
            raw = client.lrange(queue, 0, -1)
            client.delete(queue)
        return [(base64.b64decode(json.loads(message)["body"]), message) for message in raw]

    def lose_all(self) -> None:
        """See `Broker.lose_all`."""
        with blocking_client(self.url) as client:
            client.flushdb()

    clear = lose_all


class RabbitBroker:
    """A RabbitMQ."""

    def __init__(self, url: str, queues: Sequence[str]) -> None:
        self.url = url
        self._queues = (*queues, SYSTEM_QUEUE)

    def depth(self, queue: str) -> int:
        """See `Broker.depth`."""
        with self.channel() as channel:
            try:
                return int(channel.queue_declare(queue, passive=True).message_count)
            except amqp.NotFound:
                return 0

    def messages(self, queue: str) -> list[tuple[bytes, bytes]]:
        """See `Broker.messages`."""
        found = []
        with self.channel() as channel:
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                body = message.body if isinstance(message.body, bytes) else message.body.encode()
                found.append((body, body + repr(message.properties).encode()))
        return found

    def clear(self) -> None:
        """See `Broker.clear`."""
        for queue in self._queues:
            with self.channel() as channel, suppress(amqp.NotFound):
                channel.queue_purge(queue)

    def lose_all(self) -> None:
        """See `Broker.lose_all`. The queues are gone too."""
        for queue in self._queues:
            with self.channel() as channel:
                channel.queue_delete(queue)

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """A channel on a connection of its own."""
        with Connection(for_broker(self.url)["broker_url"], connect_timeout=5) as connection:
            yield connection.channel()


def chosen() -> str:
    """The kind of broker that this run's tests go through."""
    kind = os.environ.get(CHOICE) or KINDS[0]
    assert kind in KINDS, f"{CHOICE} is one of {', '.join(KINDS)}"
    return kind


def started_rabbitmq(directory: Path) -> Iterator[RabbitMq]:
    """A RabbitMQ of one's own; the test that wants it is skipped where there is none."""
    if RabbitMq.missing():
        pytest.skip(RabbitMq.missing())
    server = RabbitMq(directory)
    server.start(timeout_s=110.0)  # four seconds on an idle machine
    yield server
    server.kill()  # a clean stop takes seconds, and nobody wants its data


def started_sentinels(directory: Path) -> Iterator[SentinelSet]:
    """A master, a replica and three Sentinels of one's own."""
    servers = SentinelSet(directory)
    servers.start()
    yield servers
    servers.stop()
