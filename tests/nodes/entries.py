"""What the nodes' processes run: the real worker and dispatcher, with a place to halt at where the test wants one."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from sqlalchemy import event

from gateway.cache.shared import SharedLayer
from nodes.steps import Step, halt_runner, halting
from tasks.dispatch_policy import Policy
from workers.build import build_worker, load
from workers.departure import Departure
from workers.dispatcher import run_dispatcher
from workers.health.server import Address
from workers.health.thresholds import Thresholds
from workers.leaving import Leaving
from workers.publisher import CeleryPublisher
from workers.runtime import Runtime
from workers.worker import WorkerOptions, run_worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection
    from uuid import UUID

    from tasks.run import Ending, Runner
    from workers.runtime import Services

log = logging.getLogger("nodes")

PRELOADED = [
    "__main__",
    "nodes.entries",
    "gateway.providers.openai.chat",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "kombu.transport.pyamqp",
    "kombu.transport.redis",
    "psycopg",
]
"""Imported once, by the server that forks the nodes."""

TETHER = "tether"
"""Name of the thread that ends a node whose test session was killed."""


@dataclass(frozen=True)
class WorkerPlan:
    """How a worker is to run.

    `provoke`: a content with a word of `PROVOCATIONS` raises what belongs to it, one with `BLOCK` blocks the loop.
    `alive_s`: how soon a killed worker's leases in the answer cache fall. `grace_s`, `writes_s`: see `Departure`;
    `let_go_s`: how long Celery has to end. The machine may be busy: both are longer than in life.
    """

    slots: int = 4
    grace_s: float = 10.0
    writes_s: float = 30.0
    let_go_s: float = 15.0
    heartbeat_s: float = 0.5
    alive_s: float = 2.0
    halt_at: Step | None = None
    provoke: bool = False
    health_port: int | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True)
class DispatcherPlan:
    """How a dispatcher is to run: faster than in life, but with room for a busy machine.

    `gone_within_s`: how long it has to end, whatever hangs.
    """

    halt_at: Step | None = None
    gone_within_s: float = 60.0
    health_port: int | None = None
    policy: Policy = field(
        default_factory=lambda: Policy(
            poll_s=0.2, dead_after_s=4.0, republish_after_s=1.0, rescue_every_s=0.1, republish_every_s=0.1
        )
    )


class ToldRuntime(Runtime):
    """Writes into the log how each message ended."""

    def run_job(self, job_id: UUID, release: int, provider: str) -> Ending:
        """See `Runtime.run_job`."""
        ending = super().run_job(job_id, release, provider)
        log.info("%s %d %s", job_id, release, ending)
        return ending


def work(env: Mapping[str, str], log_path: str, plan: WorkerPlan, pipe: Connection) -> None:
    """Be a worker process."""
    _enter(env, log_path)

    async def build(*args: Any, **kwargs: Any) -> Services:
        services = await build_worker(*args, **kwargs)
        event.listen(services.runner.store._engine.sync_engine, "before_cursor_execute", _tell_statement)
        if plan.halt_at:
            halt_runner(services.runner, plan.halt_at, pipe)
        if plan.provoke:
            _provoke(services.runner)
        return services

    told = partial(ToldRuntime, heartbeat_s=plan.heartbeat_s)
    shared = partial(SharedLayer, alive_s=plan.alive_s)
    leaving = partial(Leaving, let_go_s=plan.let_go_s)
    with (
        patch.multiple("workers.worker", build_worker=build, Runtime=told, Leaving=leaving),
        patch("gateway.build.SharedLayer", shared),
    ):
        options = WorkerOptions(
            slots=plan.slots,
            departure=Departure(plan.grace_s, plan.writes_s),
            health=Address(plan.health_port) if plan.health_port else None,
            thresholds=plan.thresholds,
        )
        code = run_worker(*load(), options)
    _leave(code)


def dispatch(env: Mapping[str, str], log_path: str, plan: DispatcherPlan, pipe: Connection) -> None:
    """Be a dispatcher process."""
    _enter(env, log_path)
    publish = CeleryPublisher.publish
    if plan.halt_at:
        publish = halting(publish, plan.halt_at, pipe, before=True)
    with (
        patch.object(CeleryPublisher, "publish", publish),
        patch("workers.dispatcher.GONE_WITHIN_S", plan.gone_within_s),
    ):
        health = Address(plan.health_port) if plan.health_port else None
        run_dispatcher(*load(), plan.policy, health=health)
    _leave(0)


def _tell_statement(_connection: object, _cursor: object, statement: str, *_: object) -> None:
    log.info("statement %s", statement.partition("\n")[0])


def _enter(env: Mapping[str, str], log_path: str) -> None:
    os.setsid()
    descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.clear()
    os.environ.update(env)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    threading.Thread(target=_end_with_the_session, name=TETHER, daemon=True).start()


def _leave(code: int) -> None:
    """Say which threads are left. Python joins those of them that are no daemons, so one that hangs is seen."""
    left = [thread.name for thread in threading.enumerate() if thread.name not in ("MainThread", TETHER)]
    log.info("threads left: %s", left)
    sys.exit(code)


def _end_with_the_session() -> None:
    session = parent_process()
    assert session is not None
    session.join()
    os._exit(1)


PROVOCATIONS: dict[str, type[BaseException]] = {
    "provoke-exit": SystemExit,
    "provoke-interrupt": KeyboardInterrupt,
    "provoke-generator": GeneratorExit,
    "provoke-cancelled": asyncio.CancelledError,
}


BLOCK = "provoke-block"
BLOCKED_S = 60.0
"""Longer than any test waits: its teardown kills the process."""


def _provoke(runner: Runner) -> None:
    analyze = runner.analyst.analyze

    async def provoked(claim: Any, ledger: Any) -> Any:
        if BLOCK in claim.content:
            time.sleep(BLOCKED_S)  # noqa: ASYNC251  the loop is to stand still
        for word, kind in PROVOCATIONS.items():
            if word in claim.content:
                raise kind
        return await analyze(claim, ledger)

    runner.analyst.analyze = provoked  # type: ignore[method-assign]
