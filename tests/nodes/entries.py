"""What the nodes' processes run: the real worker and dispatcher, with a place to halt at where the test wants one."""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any

import workers.dispatcher
import workers.worker
from nodes.steps import Step, halt_runner, halting
from tasks.dispatch import Policy
from workers.build import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

    from tasks.run import Runner
    from workers.runtime import Services

PRELOADED = [
    "__main__",
    "nodes.entries",
    "gateway.providers.openai_compatible",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "kombu.transport.redis",
    "psycopg",
]
"""Imported once, by the server that forks the nodes."""

TETHER = "tether"
"""Name of the thread that ends a node whose test session was killed."""


@dataclass(frozen=True)
class WorkerPlan:
    """How a worker is to run. `provoke`: contents holding one of these words raise that BaseException's kind."""

    slots: int = 4
    grace_s: float = 10.0
    heartbeat_s: float = 0.5
    halt_at: Step | None = None
    provoke: bool = False


@dataclass(frozen=True)
class DispatcherPlan:
    """How a dispatcher is to run: faster than in life, but with room for a busy machine."""

    halt_at: Step | None = None
    policy: Policy = field(
        default_factory=lambda: Policy(
            poll_s=0.2, dead_after_s=4.0, republish_after_s=1.0, rescue_every_s=0.1, republish_every_s=0.1
        )
    )


def work(env: Mapping[str, str], log: str, plan: WorkerPlan, pipe: Connection) -> None:
    """Be a worker process."""
    _enter(env, log)
    built = workers.worker.build_worker

    async def build(*args: Any, **kwargs: Any) -> Services:
        services = await built(*args, **kwargs)
        if plan.halt_at:
            halt_runner(services.runner, plan.halt_at, pipe)
        if plan.provoke:
            _provoke(services.runner)
        return services

    workers.worker.build_worker = build
    workers.worker.Runtime = partial(workers.worker.Runtime, heartbeat_s=plan.heartbeat_s)  # type: ignore[misc,assignment]
    options = workers.worker.WorkerOptions(slots=plan.slots, grace_s=plan.grace_s)
    code = workers.worker.run_worker(*load(), options)
    _leave(code)


def dispatch(env: Mapping[str, str], log: str, plan: DispatcherPlan, pipe: Connection) -> None:
    """Be a dispatcher process."""
    _enter(env, log)
    if plan.halt_at:
        publisher = workers.dispatcher.CeleryPublisher
        publisher.publish = halting(publisher.publish, plan.halt_at, pipe, before=True)  # type: ignore[method-assign]
    workers.dispatcher.run_dispatcher(*load(), plan.policy)
    _leave(0)


def _enter(env: Mapping[str, str], log: str) -> None:
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.clear()
    os.environ.update(env)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    threading.Thread(target=_end_with_the_session, name=TETHER, daemon=True).start()


def _leave(code: int) -> None:
    """Say which threads are left. Python joins those of them that are no daemons, so one that hangs is seen."""
    left = [thread.name for thread in threading.enumerate() if thread.name not in ("MainThread", TETHER)]
    logging.getLogger("nodes").info("threads left: %s", left)
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
}


def _provoke(runner: Runner) -> None:
    analyze = runner.analyst.analyze

    async def provoked(claim: Any, ledger: Any) -> Any:
        for word, kind in PROVOCATIONS.items():
            if word in claim.content:
                raise kind
        return await analyze(claim, ledger)

    runner.analyst.analyze = provoked  # type: ignore[method-assign]
