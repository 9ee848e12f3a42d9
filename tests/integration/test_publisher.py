"""The publisher against a real broker that dies under it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from celery import Celery

from ops.embedded import EmbeddedValkey
from tasks.job import Released
from workers.celery_settings import for_broker
from workers.publisher import CeleryPublisher


def app(url: str) -> Celery:
    made = Celery("publisher-test", set_as_current=False)
    made.conf.update(for_broker(url))
    return made


def messages(count: int) -> list[Released]:
    return [Released(uuid4(), 1, "one", "bulk") for _ in range(count)]


async def test_a_broker_that_dies_and_comes_back(tmp_path: Path):
    server = EmbeddedValkey(tmp_path / "valkey")
    url = server.start()
    publisher = CeleryPublisher(app(url))
    try:
        await publisher.publish(messages(3))
        with redis.Redis.from_url(url) as client:
            pid = int(client.info("server")["process_id"])
            assert client.llen("one.bulk") == 3
        os.kill(pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await publisher.publish(messages(1))
        server.stop()
        assert server.start() == url
        await publisher.publish(messages(2))
        with redis.Redis.from_url(url) as client:
            assert client.llen("one.bulk") >= 2
    finally:
        publisher.close()
        server.stop()


async def test_a_broker_without_memory_is_a_broker_that_is_away(redis_url: str, valkey_url: str):
    publisher = CeleryPublisher(app(redis_url))
    with redis.Redis.from_url(valkey_url) as client:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(ConnectionError):
                await publisher.publish(messages(1))
        finally:
            client.config_set("maxmemory", "0")
            publisher.close()
