"""Celery's consumer tells when it holds a connection."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks

from workers.runtime import current_runtime


class Consuming(bootsteps.StartStopStep):  # type: ignore[misc]
    """Notes in the process's pulse whether messages are asked for: each connection begins and ends here."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """A connection stands, and messages are asked for."""
        current_runtime().pulse.consuming = True

    def stop(self, consumer: Any) -> None:
        """The connection is lost, or the worker ends."""
        current_runtime().pulse.consuming = False
