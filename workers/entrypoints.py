"""The Celery tasks: where a message enters. Below these lines all is asynchronous and knows no Celery.

Whatever happens, what leaves an entrypoint is a plain exception that says no more than a class's name: in a threads
pool a `CancelledError` or `SystemExit` that escapes leaks its slot for ever, silently; and Celery's events go to
whoever listens, so no text of an error may be in them (a database's error quotes the row).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from celery.worker.request import Request

from tasks.patience import away
from tasks.run import Ending
from tasks.whereabouts import whereabouts
from workers.app import app
from workers.celery_settings import RUN_TASK, TICK_TASK
from workers.runtime import RunInterrupted, current_runtime

T = TypeVar("T")

log = logging.getLogger(__name__)


class JobFailed(Exception):
    """The job ended as a dead letter. The class alone: its causes are in Postgres, not in Celery's events."""


class Untraced(Request):  # type: ignore[misc]
    """A request whose failure is told without its traceback: it would lead to our own `raise` and nowhere else."""

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002  Celery's name
        """See `Request.send_event`."""
        fields.pop("traceback", None)
        super().send_event(type, **fields)


OUTCOMES = (JobFailed, RunInterrupted)
"""What a task may raise; Celery needs to log none of it, we have."""


@app.task(name=RUN_TASK, throws=OUTCOMES, bind=True, Request=Untraced)  # type: ignore[untyped-decorator]
def run(self: Any, job_id: str, release: int) -> str:
    """Run one released job. Fails where the job failed, so that Flower tells the truth."""
    provider = self.request.delivery_info["routing_key"].partition(".")[0]
    ending = _contained(lambda: current_runtime().run_job(UUID(job_id), release, provider))
    if ending is Ending.FAILED:
        raise JobFailed
    return str(ending.value)


@app.task(name=TICK_TASK, throws=OUTCOMES, Request=Untraced)  # type: ignore[untyped-decorator]
def tick(name: str) -> str:
    """Do what a tick of the clock calls for. Ticks carry names, never jobs."""
    return _contained(lambda: current_runtime().tick(name))


def _contained(work: Callable[[], T]) -> T:
    try:
        return work()
    except RunInterrupted as error:
        log.warning("a run was interrupted by %s", error)
        raise
    except BaseException as error:
        if isinstance(error, Exception) and away(error):
            log.warning("Postgres is away (%s): a message is left to the dispatcher", type(error).__name__)
        else:
            log.error("a run was interrupted by %s", whereabouts(error))
        raise RunInterrupted(type(error).__name__) from None
