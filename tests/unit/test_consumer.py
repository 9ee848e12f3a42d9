"""Our changes to Celery's consumer, held against the Celery that is installed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker.consumer import Consumer as StockConsumer
from kombu import Connection

from workers.celery_settings import SETTINGS
from workers.consumer import LONGEST_PAUSE_S, Consumer, sooner


def test_it_is_the_one_that_workers_use() -> None:
    module, _, name = SETTINGS["worker_consumer"].partition(":")
    assert (module, name) == (Consumer.__module__, Consumer.__name__)


def test_no_queues_are_declared_for_delayed_messages() -> None:
    """Celery's step of that name would declare 28 of them as soon as it sees a quorum queue."""
    stock, ours = set(StockConsumer.Blueprint.default_steps), set(Consumer.Blueprint.default_steps)
    assert stock - ours == {"celery.worker.consumer.delayed_delivery:DelayedDelivery"}
    assert ours <= stock
    assert Consumer.Blueprint.name == StockConsumer.Blueprint.name


def test_a_broker_that_is_away_is_asked_every_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's own pauses grow by two seconds each time, up to half a minute."""
    pauses: list[float] = []
    monkeypatch.setattr("kombu.utils.functional.sleep", pauses.append)
    connection = Connection("redis://127.0.0.1:1/0", connect_timeout=1)

    with pytest.raises(connection.recoverable_connection_errors):
        sooner(connection.ensure_connection)(max_retries=6, reraise_as_library_errors=False)

    assert sum(pauses) == pytest.approx(0.5 + 1 + 1.5 + 3 * LONGEST_PAUSE_S)


def test_a_broker_that_refuses_is_not_asked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("workers.consumer.time", SimpleNamespace(sleep=pauses.append))
    monkeypatch.setattr(StockConsumer, "on_connection_error_before_connected", lambda *_: None)
    consumer: Any = object.__new__(Consumer)

    consumer.on_connection_error_before_connected(ConnectionError())

    assert pauses == [LONGEST_PAUSE_S]
