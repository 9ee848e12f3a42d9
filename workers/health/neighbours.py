"""The broker and Postgres as a process's own thread sees them, over connections that its work does not use.

Asked every few seconds, so that whoever asks after the process's health never waits for them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from celery import Celery
from kombu.exceptions import ChannelError, KombuError

CONNECT_S = 3
"""How long a connection may take before its server counts as away."""

log = logging.getLogger(__name__)


class Broker:
    """Asks the broker, over one connection, how many messages wait. For one thread."""

    def __init__(self, app: Celery, queues: Sequence[str]) -> None:
        self._app = app
        self._queues = tuple(queues)
        self._connection: Any = None
        self._channel: Any = None

    def waiting(self) -> int | None:
        """How many messages lie in the queues; None where the broker does not answer."""
        transport = self._app.connection_for_read()
        try:
            return self._ask()
        except (KombuError, OSError, *transport.connection_errors, *transport.channel_errors) as error:
            log.debug("the broker does not answer: %s", type(error).__name__)
            self.close()
            return None

    def close(self) -> None:
        """Let the connection go."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with suppress(Exception):  # it may be broken in any way
                connection.release()

    def _ask(self) -> int:
        if self._connection is None:
            self._connection = self._app.connection_for_read(connect_timeout=CONNECT_S)
            self._connection.ensure_connection(max_retries=1, timeout=CONNECT_S)
            self._channel = self._connection.channel()
        return sum(self._length(queue) for queue in self._queues)

    def _length(self, queue: str) -> int:
        try:
            return int(self._channel.queue_declare(queue=queue, passive=True).message_count)
        except ChannelError:
            # There is no such queue: an empty list in Redis, or nobody has declared it yet. AMQP closes the channel.
            if not getattr(self._channel, "is_open", True):
                self._channel = self._connection.channel()
            return 0


def postgres_answers(database_url: str) -> bool:
    """Whether a new connection to Postgres can be had and answers."""
    try:
        with psycopg.connect(
            database_url, connect_timeout=CONNECT_S, application_name="assayline-health"
        ) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        log.debug("Postgres does not answer: %s", type(error).__name__)
        return False
    return True


class Since:
    """Since when something has been so without a break."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at: float | None = None

    def note(self, *, so: bool) -> None:
        """Note whether it is so now."""
        if not so:
            self._at = None
        elif self._at is None:
            self._at = self._clock()

    @property
    def for_s(self) -> float:
        """For how many seconds it has been so; 0 where it is not."""
        at = self._at
        return 0.0 if at is None else self._clock() - at


class Looks:
    """A thread that looks again and again, until it is closed."""

    def __init__(self, look: Callable[[], None], every_s: float, done: Callable[[], None]) -> None:
        self._look, self._every_s, self._done = look, every_s, done
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health-looks", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, once the look under way is over."""
        self._stop.set()
        self._thread.join(CONNECT_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except Exception as error:
                # A look that fails in a way nobody thought of must not end the looking: it would seem that all is well.
                log.warning("a look at the neighbours failed: %s", type(error).__name__)
            self._stop.wait(self._every_s)
        self._done()
