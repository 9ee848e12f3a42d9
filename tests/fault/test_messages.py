"""Messages that come twice, late, never, or to a worker taken for dead: a wrong one costs one refused statement."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from nodes.cluster import MODEL
from nodes.entries import DispatcherPlan
from nodes.steps import Step
from nodes.waiting import eventually

from tasks.dispatch_policy import Policy

if TYPE_CHECKING:
    from uuid import UUID

    from nodes.cluster import AssaylineSetup

BY_HAND = DispatcherPlan(policy=Policy(republish_after_s=3600, poll_s=0.2))
"""A dispatcher that publishes nothing a second time."""


def assert_paid_once(setup: AssaylineSetup, job: UUID, marker: str) -> None:
    assert setup.store.calls(job) == [(1, 1, "succeeded")]
    assert setup.wire.calls(marker) == 1
    assert setup.store.job(job)["attempts_used"] == 1
    assert len(setup.store.results(job)) == 1


def test_five_copies_and_an_old_number_are_one_call(celery_setup: AssaylineSetup) -> None:
    """All copies lie in the queue before a worker comes: four slots take them at once."""
    setup = celery_setup
    setup.store.mirror([MODEL], "text_classification", [MODEL])
    job, marker = setup.enqueue()
    release = setup.store.release(job)
    setup.publish((job, release - 1), *[(job, release)] * 5)
    assert setup.waiting_messages() == 6

    worker = setup.workers.start()
    eventually(lambda: len(worker.endings(job)) == 6)

    assert sorted(worker.endings(job)) == [(release - 1, "stale"), *[(release, "stale")] * 4, (release, "succeeded")]
    assert_paid_once(setup, job, marker)


def test_a_copy_that_comes_during_the_call_is_refused(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    setup.start_dispatcher(BY_HAND)
    worker = setup.workers.start()
    job, marker = setup.enqueue(held=True)
    eventually(lambda: setup.wire.calls(marker))

    setup.publish((job, 1))
    eventually(lambda: worker.endings(job) == [(1, "stale")])
    setup.wire.release(marker)

    eventually(lambda: worker.endings(job) == [(1, "stale"), (1, "succeeded")])
    assert_paid_once(setup, job, marker)


def test_an_old_number_does_not_run_a_job_released_again(celery_setup: AssaylineSetup) -> None:
    """The message of the first release is lost and found again after the second: only one of the two runs."""
    setup = celery_setup
    setup.start_dispatcher()
    sleeper = setup.workers.start(slots=1, halt_at=Step.BEFORE_CLAIM)
    job, marker = setup.enqueue()
    sleeper.container.reached(Step.BEFORE_CLAIM)
    setup.workers.start()
    release = setup.ended(job)["release"]

    sleeper.container.go_on()
    eventually(lambda: sleeper.endings(job)[:1] == [(1, "stale")])

    assert release > 1
    assert_paid_once(setup, job, marker)


def test_a_zombie_cannot_end_a_job_that_was_taken_from_it(celery_setup: AssaylineSetup) -> None:
    """Stopped in mid-call, taken for dead, awake again: its end is refused, and what it paid is on record."""
    setup = celery_setup
    setup.start_dispatcher()
    zombie = setup.workers.start(slots=1)
    job, marker = setup.enqueue(held=True)
    eventually(lambda: setup.wire.calls(marker) == 1)

    os.kill(zombie.container.pid, signal.SIGSTOP)
    setup.wire.release(marker)
    setup.store.give_up(zombie.container.pid)
    setup.workers.start()
    setup.ended(job)
    [result] = setup.store.results(job)
    assert setup.store.calls(job) == [(1, 1, "unknown"), (2, 1, "succeeded")]

    os.kill(zombie.container.pid, signal.SIGCONT)
    eventually(lambda: setup.store.calls(job) == [(1, 1, "succeeded"), (2, 1, "succeeded")])
    eventually(lambda: zombie.endings(job) == [(1, "fenced")])

    assert setup.store.call(job, 1)["cost_usd"] == setup.store.call(job, 2)["cost_usd"] > 0
    assert [result] == setup.store.results(job)
    assert setup.wire.calls(marker) == 2
    row = setup.store.job(job)
    assert (row["state"], row["claim_no"], row["attempts_used"]) == ("succeeded", 2, 2)


def test_a_dispatcher_killed_between_commit_and_publish(celery_setup: AssaylineSetup) -> None:
    """The job is `queued` and no message exists: another dispatcher publishes it under a new number."""
    setup = celery_setup
    first = setup.start_dispatcher(DispatcherPlan(halt_at=Step.BEFORE_PUBLISH))
    setup.workers.start()
    job, marker = setup.enqueue()
    first.container.reached(Step.BEFORE_PUBLISH)
    first.kill_and_wait()
    assert setup.store.state(job) == "queued"
    assert setup.waiting_messages() == 0

    setup.start_dispatcher()

    assert setup.ended(job)["release"] == 2
    assert_paid_once(setup, job, marker)


def test_a_flushed_broker_loses_messages_and_no_job(celery_setup: AssaylineSetup) -> None:
    """Every queued job ends, though nothing was left of queues and bindings."""
    setup = celery_setup
    dispatcher = setup.start_dispatcher()
    worker = setup.workers.start(slots=2)
    held, marker = setup.enqueue(held=True)
    eventually(lambda: setup.wire.calls(marker) == 1)
    os.kill(worker.container.pid, signal.SIGSTOP)
    jobs = [setup.enqueue()[0] for _ in range(4)]
    eventually(lambda: setup.store.states().get("queued") == len(jobs))
    eventually(lambda: setup.waiting_messages() >= 1)

    setup.queues.lose_all()
    os.kill(worker.container.pid, signal.SIGCONT)
    setup.wire.release(marker)

    for job in (held, *jobs):
        setup.ended(job)
    assert setup.store.calls(held) == [(1, 1, "succeeded")]
    assert dispatcher.container.status == worker.container.status == "running"


def test_a_job_that_kills_its_workers_is_buried(celery_setup: AssaylineSetup) -> None:
    """After `max_attempts` deaths it is a dead letter with a cause for each, and takes no further worker with it."""
    setup = celery_setup
    setup.start_dispatcher()
    job, marker = setup.enqueue(held=True, max_attempts=2)
    for death in (1, 2):
        worker = setup.workers.start()
        eventually(lambda n=death: setup.wire.calls(marker) == n)  # type: ignore[misc]
        worker.kill_and_wait()
        setup.store.give_up(worker.container.pid)

    row = setup.ended(job, "failed")

    assert row["reason"] == "bury"
    assert [cause["move"] for cause in row["causes"]] == ["rescue", "bury"]
    assert {cause["error"] for cause in row["causes"]} == {"worker_lost"}
    assert setup.store.calls(job) == [(1, 1, "unknown"), (2, 1, "unknown")]
    assert setup.wire.calls(marker) == 2
    assert setup.store.results(job) == []


def test_a_job_that_kills_three_workers_is_poison_and_one_beside_it_comes_through(
    celery_setup: AssaylineSetup,
) -> None:
    """With an attempt left. The one beside it dies with the first worker, and is answered by the second."""
    setup = celery_setup
    setup.start_dispatcher()
    job, marker = setup.enqueue(held=True)
    beside, other = setup.enqueue(held=True)
    for death in (1, 2, 3):
        worker = setup.workers.start()
        eventually(lambda n=death: setup.wire.calls(marker) == n)  # type: ignore[misc]
        if death == 1:
            eventually(lambda: setup.wire.calls(other) == 1)
        elif death == 2:
            setup.wire.release(other)
            setup.ended(beside)
        worker.kill_and_wait()
        setup.store.give_up(worker.container.pid)

    row = setup.ended(job, "failed")

    assert (row["reason"], row["attempts_used"], row["max_attempts"]) == ("poison", 3, 4)
    assert [cause["error"] for cause in row["causes"]] == ["worker_lost", "worker_lost", "poison"]
    assert setup.store.calls(job) == [(n, 1, "unknown") for n in (1, 2, 3)]
    assert setup.store.calls(beside) == [(1, 1, "unknown"), (2, 1, "succeeded")]
