"""Starts an `assayline` process with one of its mechanisms switched off, so that a bench can show what it is worth.

`python -m ops.bench.without MECHANISM worker …`. What stands in for the mechanism is what one would have without it:
stock parts and the usual advice, no artificial slowness.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from celery.signals import worker_process_init, worker_process_shutdown
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from gateway.breaker.health import Health
from gateway.calls import admission
from gateway.calls.admission import Admission
from ops.bench.processes import BenchFailure
from ops.migrate import sqlalchemy_url
from tasks import dispatch_policy, store
from tasks.dispatch import Dispatcher
from tasks.headroom import NoLimits
from tasks.run import Ending
from tasks.sql import statement
from workers import build, dispatcher, worker
from workers.app import app
from workers.departure import Departure
from workers.events import EventBatches
from workers.health.pulse import Pulse
from workers.runtime import Runtime, install_runtime

FENCE = re.compile(
    r"WHERE id = :id AND (?:release = :release|claim_no = :claim_no)"
    r" AND state IS NOT DISTINCT FROM '(?:queued|running)'"
)
"""How a write on one job is kept from those who do not own it: the condition that `without_fence` takes away."""
UNFENCED: dict[str, TextClause] = {}


class LoopPerJob(Runtime):
    """A loop of its own for each job, as `asyncio.run` in a task makes it: no connection outlives it."""

    def run_job(self, job_id: UUID, release: int, provider: str) -> Ending:
        """Run the job on a new loop, in the calling thread."""
        return asyncio.run(self._alone(job_id, release, provider))

    async def _alone(self, job_id: UUID, release: int, provider: str) -> Ending:
        services = await self._build()
        # The process's incarnation has the heartbeat; a new one would count as dead.
        services.runner.incarnation = self._built.runner.incarnation
        try:
            return await services.runner.run(job_id, release, provider)
        finally:
            assert services.close is not None
            await services.close()


class RuntimePerProcess:
    """Under a prefork pool: nothing in the parent, a runtime in each child, made after the fork."""

    def __init__(self, build_services: Callable[[], Any], *, pulse: Pulse) -> None:
        self._build = build_services
        self.pulse = pulse
        self._runtime: Runtime | None = None

    def start(self) -> None:
        """Wait for the children."""
        worker_process_init.connect(self._begin, weak=False)
        worker_process_shutdown.connect(self._end, weak=False)

    def begin_stop(self, departure: Departure) -> None:
        """Nothing runs in the parent."""

    def await_end(self, within_s: float) -> None:
        """Nothing runs in the parent."""

    def leave(self, within_s: float) -> None:
        """The parent is on no list."""

    def stop(self) -> None:
        """Nothing runs in the parent."""

    def _begin(self, **_: Any) -> None:
        self._runtime = Runtime(self._build, pulse=self.pulse)
        self._runtime.start()
        install_runtime(self._runtime)

    def _end(self, **_: Any) -> None:
        if self._runtime is not None:
            self._runtime.stop()


def without_aiohttp() -> None:
    """The SDK's default transport: httpx2's own pool, unlimited as ours is."""
    import httpx2
    from openai import DefaultAsyncHttpxClient

    from gateway.providers.openai import client

    def pool(*, limits: httpx2.Limits, **rest: Any) -> Any:
        unlimited = httpx2.Limits(max_connections=None, keepalive_expiry=limits.keepalive_expiry)
        return DefaultAsyncHttpxClient(limits=unlimited, **rest)

    _replace(client, "DefaultAioHttpClient", pool)


def without_batches() -> None:
    """Celery's own sending of task events: what it has, at each turn of its loop."""
    _replace(EventBatches, "start", lambda *_: None)


def without_breaker() -> None:
    """A failure says nothing of its provider, so none opens a breaker; retries, their budget and fallback stay."""
    _replace(admission, "health_of", lambda _: Health.SILENT)


def without_fence() -> None:
    """Whoever has a message runs the job, and whoever has run it writes its end, whosesoever it is by now."""
    for name in ("claim", "succeed", "fail", "reschedule"):
        unfenced, fences = FENCE.subn("WHERE id = :id", statement(name).text)
        if not fences:
            raise BenchFailure(f"{name}.sql has another fence than this bench knows: it would stay on unnoticed")
        UNFENCED[name] = text(unfenced)
    _replace(store, "statement", lambda name: UNFENCED[name] if name in UNFENCED else statement(name))


def without_headroom() -> None:
    """The dispatcher releases by slots alone, and the workers' calls are admitted as ever."""
    _replace(dispatcher, "LimitHeadroom", lambda *_: NoLimits())


def without_limiter() -> None:
    """Every call goes at once, and the dispatcher releases by slots alone: what is left is the provider's 429."""
    _replace(build, "Admission", lambda *_, **__: Admission())
    _replace(dispatcher, "LimitHeadroom", lambda *_: NoLimits())


def without_loop() -> None:
    """A loop per job. Its connections to Postgres are not kept either (the usual advice for it is NullPool)."""
    _replace(build, "create_engine", _unpooled)
    _replace(worker, "Runtime", LoopPerJob)


def without_portions() -> None:
    """A release moves one job."""
    _replace(dispatch_policy, "Policy", partial(dispatch_policy.Policy, most_per_pass=1))


def without_republish() -> None:
    """A message is sent once: what nobody claims stays `queued`."""

    async def nothing(_: Dispatcher) -> int:
        return 0

    _replace(Dispatcher, "republish", nothing)


def without_threads() -> None:
    """Celery's default pool: prefork, as many processes as the machine has cores, one job in each at a time."""
    threaded = app.Worker

    def prefork(**options: Any) -> Any:
        return threaded(**options | {"pool": "prefork", "concurrency": None})

    _replace(app, "Worker", prefork)
    _replace(worker, "Runtime", RuntimePerProcess)


def _replace(owner: object, name: str, stand_in: object) -> None:
    getattr(owner, name)  # a mechanism that was renamed must not stay on unnoticed
    setattr(owner, name, stand_in)


def _unpooled(database_url: str, **_: Any) -> AsyncEngine:
    return create_async_engine(sqlalchemy_url(database_url), isolation_level="AUTOCOMMIT", poolclass=NullPool)


MECHANISMS: dict[str, Callable[[], None]] = {
    "aiohttp": without_aiohttp,
    "batches": without_batches,
    "breaker": without_breaker,
    "fence": without_fence,
    "headroom": without_headroom,
    "limiter": without_limiter,
    "loop": without_loop,
    "portions": without_portions,
    "republish": without_republish,
    "threads": without_threads,
}


if __name__ == "__main__":
    MECHANISMS[sys.argv.pop(1)]()
    from ops.cli.main import main

    main()
