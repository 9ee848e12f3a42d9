"""Publishing to RabbitMQ: all messages of a batch first, then the wait until RabbitMQ has confirmed every one.

A message counts as published once a majority of the queue's replicas has it on disk. Kombu's own `confirm_publish`
waits after each message, and on every channel of the connection: a round trip and an fsync for each, Flower's events
included.

Messages are `mandatory`: where the queue is gone (somebody deleted it), RabbitMQ returns them, and they count as not
published.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CONFIRMED_WITHIN_S = 10.0
"""For a batch. A busy disk takes milliseconds; a RabbitMQ that is out of memory or disk confirms nothing."""
WRITTEN_WITHIN_S = 5.0
"""For one message's bytes to go: a RabbitMQ that blocks publishers stops reading."""


class Unconfirmed(OSError):
    """RabbitMQ has not taken the whole batch, or has not said so. The message says why; it names queues, no content."""


class Returned(Unconfirmed):
    """It has answered for every message, and some came back: there is no such queue."""


class Confirms:
    """Implements `drivers.Publishing` for one connection, whose default channel is ours alone."""

    def __init__(self, producer: Any, declare: Callable[[str], None], *, within_s: float = CONFIRMED_WITHIN_S) -> None:
        """Ask for confirms on the producer's channel.

        Args:
            producer: kombu's; nobody else publishes on its channel.
            declare: declares a queue, without waiting for the reply.
            within_s: for all confirms of a batch.
        """
        self._producer, self._declare, self._within_s = producer, declare, within_s
        self._declared: set[str] = set()
        self._sent = 0
        self._open: set[int] = set()
        """Numbers of the messages that wait for their confirm; RabbitMQ counts as we do, from 1."""
        self._refused = False
        self._gone = ""
        self._blocked = False
        channel = producer.channel
        self._connection = channel.connection
        self._connection.on_blocked = self._on_blocked
        self._connection.on_unblocked = self._on_unblocked
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        channel.confirm_select(nowait=True)

    @contextmanager
    def batch(self) -> Iterator[Callable[..., object]]:
        """See `drivers.Publishing.batch`."""
        self._refused, self._gone = False, ""
        yield self._publish
        self._await_confirms()

    def _publish(self, body: Any, *, routing_key: str, **message: Any) -> None:
        if routing_key not in self._declared:
            self._declare(routing_key)
            self._declared.add(routing_key)
        self._producer.publish(body, routing_key=routing_key, mandatory=True, timeout=WRITTEN_WITHIN_S, **message)
        self._sent += 1
        self._open.add(self._sent)

    def _await_confirms(self) -> None:
        give_up_at = time.monotonic() + self._within_s
        while self._open and not self._blocked:
            left_s = give_up_at - time.monotonic()
            if left_s <= 0:
                raise Unconfirmed(f"{len(self._open)} messages were not confirmed within {self._within_s:g} s")
            try:
                self._connection.drain_events(timeout=left_s)
            except TimeoutError:
                continue
        if self._blocked:
            raise Unconfirmed("RabbitMQ blocks publishers: its memory or disk alarm is on")
        if self._refused:
            raise Unconfirmed("RabbitMQ refused messages: their queue has no majority of its replicas")
        if self._gone:
            raise Returned(f"there is no queue {self._gone}: it was deleted after it had been declared")

    def _on_ack(self, number: int, multiple: bool) -> None:
        if multiple:
            self._open = {waiting for waiting in self._open if waiting > number}
        else:
            self._open.discard(number)

    def _on_nack(self, number: int, multiple: bool) -> None:
        self._refused = True
        self._on_ack(number, multiple)

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        self._gone = routing_key
        self._declared.discard(routing_key)

    def _on_blocked(self, reason: str) -> None:
        self._blocked = True

    def _on_unblocked(self) -> None:
        self._blocked = False
