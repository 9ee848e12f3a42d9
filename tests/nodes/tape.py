"""Celery's events, recorded."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nodes.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodes.cluster import AssaylineSetup


class Tape(threading.Thread):
    """Celery's events, as whoever listens gets them."""

    def __init__(self, setup: AssaylineSetup) -> None:
        super().__init__(name="tape")
        self._app = setup.app
        self.events: list[dict[str, Any]] = []
        self.messages: list[tuple[float, str]] = []
        """When each message came (monotonic, seconds) and its routing key. A message holds many events."""
        self._receiver: Any = None

    def run(self) -> None:
        with self._app.connection() as connection:
            receiver = self._receiver = self._app.events.Receiver(connection, handlers={"*": self.events.append})
            stock = receiver._receive

            def receive(body: Any, message: Any) -> None:
                self.messages.append((time.monotonic(), message.delivery_info["routing_key"]))
                stock(body, message)

            receiver._receive = receive
            receiver.capture(limit=None, timeout=None, wakeup=True)

    def of(self, task_id: str) -> dict[str, dict[str, Any]]:
        """A task's events by type."""
        return {event["type"]: event for event in self.events if event.get("uuid") == task_id}

    def stop(self) -> None:
        self._receiver.should_stop = True
        self.join()


@contextmanager
def taped(setup: AssaylineSetup) -> Iterator[Tape]:
    """Record events from the first one of a running worker on."""
    tape = Tape(setup)
    tape.start()
    try:
        eventually(lambda: tape.events)
        yield tape
    finally:
        tape.stop()
