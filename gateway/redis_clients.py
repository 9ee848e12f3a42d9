"""Clients of Redis, however it is found: by its address, or by asking Sentinels for the master (`redis_url`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.client import Redis as BlockingRedis
from redis.retry import Retry as BlockingRetry
from redis.sentinel import Sentinel as BlockingSentinel

from gateway.redis_url import SENTINEL, Sentinels, scheme_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def connection_pool(url: str, **settings: Any) -> ConnectionPool:
    """A pool of asynchronous connections; nothing connects yet. `settings` are redis-py's, of each connection.

    Raises:
        ConfigurationError: see `Sentinels.parse`.
    """
    if scheme_of(url) != SENTINEL:
        return ConnectionPool.from_url(url, **settings)
    return _SentinelPool(Sentinels.parse(url), settings)


def client(url: str, **settings: Any) -> Redis:
    """An asynchronous client; nothing connects yet. Close it. `settings` are redis-py's, of each connection.

    Raises:
        ConfigurationError: see `Sentinels.parse`.
    """
    made: Redis = Redis.from_pool(connection_pool(url, **settings))
    return made


def blocking_client(url: str, **settings: Any) -> BlockingRedis:
    """A client for code that may block; nothing connects yet. Close it.

    Raises:
        ConfigurationError: see `Sentinels.parse`.
    """
    if scheme_of(url) != SENTINEL:
        plain: BlockingRedis = BlockingRedis.from_url(url, **settings)
        return plain
    sentinels = Sentinels.parse(url)
    found = BlockingSentinel(  # type: ignore[no-untyped-call]
        sentinels.hosts,
        sentinel_kwargs={**sentinels.sentinel_settings(), "retry": BlockingRetry(NoBackoff(), 0)},
        **{**sentinels.master_settings(), **settings},
    )
    made: BlockingRedis = found.master_for(sentinels.master_name, redis_class=_BlockingMaster)  # type: ignore[no-untyped-call]
    return made


class _SentinelPool(SentinelConnectionPool):
    """A pool of connections to the master, which closes its connections to the Sentinels too."""

    def __init__(self, sentinels: Sentinels, settings: Mapping[str, Any]) -> None:
        once = Retry(NoBackoff(), 0)  # redis-py's default tries a silent Sentinel for seconds before it asks the next
        asked = {**sentinels.sentinel_settings(), "retry": once}
        found = Sentinel(sentinels.hosts, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
        made_with = {**sentinels.master_settings(), **settings}
        super().__init__(sentinels.master_name, found, **made_with)  # type: ignore[no-untyped-call]

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close connections: the idle ones where the master has changed, else all."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.aclose()


class _BlockingMaster(BlockingRedis):
    """A client of the master, which closes its connections to the Sentinels too."""

    def close(self) -> None:
        """Close all connections."""
        super().close()
        manager = getattr(self.connection_pool, "sentinel_manager", None)
        if manager is not None:
            manager.close()
