"""Starts an `assayline` process with one of its mechanisms switched off, so that a bench can show what it is worth.

`python -m ops.bench.without MECHANISM worker …`. What stands in for the mechanism is what one would have without it: stock
parts and the usual advice, no artificial slowness.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from celery.signals import worker_process_init, worker_process_shutdown
from sqlalchemy.pool import NullPool

from tasks.run import Ending
from tasks.store import JobStore, create_engine
from workers import worker
from workers.runtime import Runtime, Services, install_runtime


class LoopPerJob(Runtime):
    """A loop of its own for each job, closed after it, as `asyncio.run` in a task does: nothing outlives it, so each job
    opens its own connections to the provider and, by the usual advice for that, each statement its own to Postgres.
    """

    def run_job(self, job_id: UUID, release: int, provider: str) -> Ending:
        """Run the job on a new loop, in the calling thread."""
        return asyncio.run(self._alone(job_id, release, provider))

    async def _alone(self, job_id: UUID, release: int, provider: str) -> Ending:
        services = await self._build()
        shared, runner = self._built.runner, services.runner
        url = shared.store._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        pooled, runner.store = runner.store, JobStore(create_engine(url, poolclass=NullPool))
        # The process's incarnation has the heartbeat; a new one would count as dead.
        runner.incarnation = shared.incarnation
        try:
            return await runner.run(job_id, release, provider)
        finally:
            await pooled.aclose()
            assert services.close is not None
            await services.close()
