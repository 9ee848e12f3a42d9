"""What the dispatcher ends is told to those who wait: dead letters of the rescue, and what has expired."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from jobworld import PROVIDERS, JobWorld, job_world
from redis.asyncio import Redis

from gateway.journal.journal import PREFIX
from gateway.redis_line import RedisLine
from tasks.announce import AT_ONCE, Announcer, events_channel, result_key
from tasks.dispatch import Dispatcher
from tasks.dispatch_policy import Policy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as world:
        yield world


@asynccontextmanager
async def telling(world: JobWorld, redis_url: str) -> AsyncIterator[Dispatcher]:
    """A dispatcher with a line to Redis."""
    line = RedisLine.from_url(redis_url)
    try:
        yield Dispatcher(world.engine, world.broker, PROVIDERS, Policy(dead_after_s=1.0), announcer=Announcer(line))
    finally:
        await line.aclose()


@asynccontextmanager
async def hearing(redis_url: str, job: UUID) -> AsyncIterator[Any]:
    """One who waits for a job, as the client does."""
    async with Redis.from_url(redis_url) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe(events_channel(job))
        assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
        yield pubsub


async def heard(pubsub: Any) -> Any:
    message = await pubsub.get_message(timeout=5)
    return message and json.loads(message["data"])


async def test_a_dead_letter_of_the_rescue(world: JobWorld, redis_url: str) -> None:
    _, claim = await world.claimed(max_attempts=1)
    _, rescued = await world.claimed()
    world.sql("UPDATE assayline.workers SET heartbeat_at = heartbeat_at - interval '21 s'")
    async with Redis.from_url(redis_url) as redis:
        await redis.mset({f"{PREFIX}{job}": "an answer" for job in (claim.id, rescued.id)})
    async with telling(world, redis_url) as dispatcher, hearing(redis_url, claim.id) as waiting:
        assert await dispatcher.rescue() == 2
        assert await heard(waiting) == {"id": str(claim.id), "state": "failed"}
    async with Redis.from_url(redis_url) as redis:
        assert await redis.keys(f"*{claim.id}") == []
        assert await redis.keys(f"*{rescued.id}") == [f"{PREFIX}{rescued.id}".encode()]


async def test_all_that_have_expired_more_than_go_into_one_write(world: JobWorld, redis_url: str) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    jobs = [world.enqueue(expires_at=soon) for _ in range(AT_ONCE + 1)]
    world.sql("UPDATE assayline.jobs SET expires_at = now() - interval '1 s'")
    async with telling(world, redis_url) as dispatcher, hearing(redis_url, jobs[-1]) as waiting:
        assert await dispatcher.expire() == len(jobs)
        assert await heard(waiting) == {"id": str(jobs[-1]), "state": "expired"}
    async with Redis.from_url(redis_url) as redis:
        assert await redis.exists(*(result_key(job) for job in jobs)) == 0


async def test_one_that_a_release_finds_expired(world: JobWorld, redis_url: str) -> None:
    await world.worker()
    job = world.enqueue(expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    world.sql("UPDATE assayline.jobs SET expires_at = now() - interval '1 s'")
    async with telling(world, redis_url) as dispatcher, hearing(redis_url, job) as waiting:
        await dispatcher.release("one")
        assert await heard(waiting) == {"id": str(job), "state": "expired"}


async def test_without_redis_the_work_goes_on(world: JobWorld) -> None:
    job = world.enqueue(expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    world.sql("UPDATE assayline.jobs SET expires_at = now() - interval '1 s'")
    async with telling(world, "redis://127.0.0.1:1") as dispatcher:
        assert await dispatcher.expire() == 1
    assert world.job(job)["state"] == "expired"
