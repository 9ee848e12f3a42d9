"""The Celery tasks: where a message enters. Below these lines all is asynchronous and knows no Celery.

Whatever happens, nothing but a plain `Exception` leaves an entrypoint: in a threads pool a `CancelledError` or
`SystemExit` that escapes leaks its slot for ever, silently.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from tasks.run import Ending
from workers.app import app
from workers.celery_settings import RUN_TASK, TICK_TASK
from workers.runtime import current_runtime

T = TypeVar("T")

log = logging.getLogger(__name__)


class JobFailed(Exception):
    """The job ended as a dead letter. The class alone: its causes are in Postgres, not in Celery's events."""


class RunInterrupted(Exception):
    """The run was cut short by something that is no ordinary error; the dispatcher will find the job."""


@app.task(name=RUN_TASK, throws=(JobFailed,), bind=True)  # type: ignore[untyped-decorator]
def run(self: Any, job_id: str, release: int) -> str:
    """Run one released job. Fails where the job failed, so that Flower tells the truth."""
    provider = self.request.delivery_info["routing_key"].partition(".")[0]
    ending = _contained(lambda: current_runtime().run_job(UUID(job_id), release, provider))
    if ending is Ending.FAILED:
        raise JobFailed
    return str(ending.value)


@app.task(name=TICK_TASK)  # type: ignore[untyped-decorator]
def tick(name: str) -> str:
    """Do what a tick of the clock calls for. Ticks carry names, never jobs."""
    return _contained(lambda: current_runtime().tick(name))


def _contained(work: Callable[[], T]) -> T:
    try:
        return work()
    except Exception:
        raise
    except BaseException as error:
        log.warning("a run was interrupted by %s", type(error).__name__)
        raise RunInterrupted(type(error).__name__) from None
