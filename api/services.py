"""What the routes work with, put together once per process. Opens connections; reads no environment of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.ends import Ends
from api.limits import PLANS_AT_ONCE, STORE_WITHIN_S
from api.problems import refused
from gateway.analyses.registry import AnalysisRegistry
from gateway.catalog import Catalog
from gateway.redis_clients import client as redis_client
from gateway.redis_line import RedisLine
from tasks.announce import Announcer
from tasks.engine import create_engine
from tasks.producer import AsyncClient
from tasks.producer.errors import translated

REDIS_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Services:
    """One process's connections and catalog.

    `env` is the environment that the catalog was loaded with; `revision` the schema revision that this version needs
    (None: any that has our functions); `plans` the places for replays that are being planned.
    """

    engine: AsyncEngine
    redis: Redis
    catalog: Catalog
    registry: AnalysisRegistry
    env: Mapping[str, str] = field(repr=False)
    ends: Ends
    line: RedisLine
    client: AsyncClient
    revision: str | None = None
    plans: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PLANS_AT_ONCE))

    @property
    def announcer(self) -> Announcer:
        """Tells those who wait of an end."""
        return Announcer(self.line)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which each statement commits by itself; raises as `transaction`."""
        async with asyncio.timeout(STORE_WITHIN_S):
            with translated():
                async with self.engine.connect() as connection:
                    yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end.

        Raises:
            TimeoutError: Postgres took longer than 10 s, waiting for a connection included.
            AssaylineError: it refused; other faults come as SQLAlchemy's.
        """
        async with asyncio.timeout(STORE_WITHIN_S):
            with translated():
                async with self.engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
                    yield connection

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen to Redis inside; everything is closed afterwards."""
        listening = asyncio.create_task(self.ends.listen())
        try:
            yield
        finally:
            listening.cancel()
            await asyncio.wait([listening])
            await self.line.aclose()
            await self.redis.aclose()
            await self.engine.dispose()


def build_services(
    database_url: str,
    redis_url: str,
    catalog: Catalog,
    registry: AnalysisRegistry,
    env: Mapping[str, str],
    revision: str | None = None,
) -> Services:
    """Put a process's services together; nothing connects before the first request."""
    redis = redis_client(
        redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S, socket_keepalive=True
    )
    return Services(
        engine=create_engine(database_url),
        redis=redis,
        catalog=catalog,
        registry=registry,
        env=env,
        ends=Ends(redis),
        line=RedisLine.from_url(redis_url),
        client=AsyncClient(),
        revision=revision,
    )


def no_parameters(request: Request) -> None:
    """Refuse query parameters where there are none to give."""
    for name in request.query_params:
        raise refused(name, "is no parameter of this address")


def services_of(request: Request) -> Services:
    """The services of the application that answers this request."""
    found: Services = request.app.state.services
    return found


Here = Annotated[Services, Depends(services_of)]
