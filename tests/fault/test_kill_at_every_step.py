"""A worker killed with -9 at each step of a job, one by one: the job ends well, once, and the ledger is true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nodes.steps import Step
from nodes.waiting import eventually

if TYPE_CHECKING:
    from uuid import UUID

    from nodes.cluster import AssaylineSetup, WorkerNode

UNKNOWN_THEN_PAID = [(1, 1, "unknown"), (2, 1, "succeeded")]
PAID_ONCE = [(1, 1, "succeeded")]


def killed_at(setup: AssaylineSetup, worker: WorkerNode, step: Step) -> None:
    worker.container.reached(step)
    worker.kill_and_wait()
    setup.store.give_up(worker.container.pid)


def assert_ended_once(setup: AssaylineSetup, job: UUID, ledger: list[tuple[int, int, str]]) -> None:
    row = setup.ended(job)
    assert setup.store.calls(job) == ledger
    assert row["attempts_used"] == len(ledger)
    [result] = setup.store.results(job)
    assert result["data"]["label"] == "invoice"
    assert result["calls"] == 1


@pytest.mark.parametrize(
    ("step", "ledger", "calls_made"),
    [
        pytest.param(Step.BEFORE_CLAIM, PAID_ONCE, 1, id="message-received"),
        pytest.param(Step.AFTER_CLAIM, UNKNOWN_THEN_PAID, 1, id="claimed"),
        pytest.param(Step.BEFORE_FINISH, UNKNOWN_THEN_PAID, 2, id="answered"),
    ],
)
def test_killed_before_the_end_is_written(
    celery_setup: AssaylineSetup, step: Step, ledger: list[tuple[int, int, str]], calls_made: int
) -> None:
    """Another worker runs the job again; a call that may have been made stays `unknown`."""
    setup = celery_setup
    setup.start_dispatcher()
    first = setup.workers.start(halt_at=step)
    job, marker = setup.enqueue()

    killed_at(setup, first, step)
    setup.workers.start()

    assert_ended_once(setup, job, ledger)
    assert setup.wire.calls(marker) == calls_made
    eventually(lambda: setup.announced(job))


def test_killed_in_mid_call(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    setup.start_dispatcher()
    first = setup.workers.start()
    job, marker = setup.enqueue(held=True)

    eventually(lambda: setup.wire.calls(marker) == 1)
    first.kill_and_wait()
    setup.wire.release(marker)
    setup.store.give_up(first.container.pid)
    setup.workers.start()

    assert_ended_once(setup, job, UNKNOWN_THEN_PAID)
    assert setup.wire.calls(marker) == 2
    [cause] = setup.store.job(job)["causes"]
    assert (cause["move"], cause["error"]) == ("rescue", "worker_lost")


@pytest.mark.parametrize(
    ("step", "announced"),
    [
        pytest.param(Step.BEFORE_ANNOUNCE, False, id="finished"),
        pytest.param(Step.AFTER_ANNOUNCE, True, id="announced"),
    ],
)
def test_killed_once_the_end_is_written(celery_setup: AssaylineSetup, step: Step, announced: bool) -> None:
    """Nobody runs the job again, and a second copy of its message finds nothing to do."""
    setup = celery_setup
    setup.start_dispatcher()
    first = setup.workers.start(halt_at=step)
    job, marker = setup.enqueue()

    killed_at(setup, first, step)
    second = setup.workers.start()
    release = setup.store.job(job)["release"]
    setup.publish((job, release))
    eventually(lambda: second.endings(job) == [(release, "stale")])

    assert_ended_once(setup, job, PAID_ONCE)
    assert setup.wire.calls(marker) == 1
    assert setup.announced(job) is announced
