"""A worker killed with -9 at each step of a job, one by one: the job ends well, once, and the ledger is true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nodes.steps import Step
from nodes.waiting import eventually
from nodes.wire import INPUT_TOKENS, OUTPUT_TOKENS

if TYPE_CHECKING:
    from uuid import UUID

    from nodes.cluster import AssaylineSetup, WorkerCluster, WorkerNode

UNKNOWN_THEN_PAID = [(1, 1, "unknown"), (2, 1, "succeeded")]
PAID_THEN_FOUND = [(1, 1, "succeeded"), (2, 1, "not_called")]
PAID_ONCE = [(1, 1, "succeeded")]


def killed_at(setup: AssaylineSetup, worker: WorkerNode, step: Step) -> None:
    worker.container.reached(step)
    worker.kill_and_wait()
    setup.store.give_up(worker.container.pid)


def assert_ended_once(
    setup: AssaylineSetup, job: UUID, ledger: list[tuple[int, int, str]], *, answers: int = 1
) -> None:
    row = setup.ended(job)
    assert setup.store.calls(job) == ledger
    assert row["attempts_used"] == sum(outcome != "not_called" for _, _, outcome in ledger)
    [result] = setup.store.results(job)
    assert result["data"]["label"] == "invoice"
    assert result["calls"] == answers
    assert result["input_tokens"] == answers * INPUT_TOKENS


@pytest.mark.parametrize(
    ("step", "ledger", "calls_made"),
    [
        pytest.param(Step.BEFORE_CLAIM, PAID_ONCE, 1, id="message-received"),
        pytest.param(Step.AFTER_CLAIM, UNKNOWN_THEN_PAID, 1, id="claimed"),
        pytest.param(Step.ANSWERED, UNKNOWN_THEN_PAID, 2, id="answered, and not yet on the way to the journal"),
        pytest.param(Step.BEFORE_FINISH, PAID_THEN_FOUND, 1, id="answered"),
        pytest.param(Step.BEFORE_STORE, PAID_THEN_FOUND, 1, id="judged"),
    ],
)
def test_killed_before_the_end_is_written(
    celery_setup: AssaylineSetup, step: Step, ledger: list[tuple[int, int, str]], calls_made: int
) -> None:
    """Another worker runs the job again; an answer is found in the journal, and a call without one stays `unknown`."""
    setup = celery_setup
    setup.start_dispatcher()
    first = setup.workers.start(halt_at=step)
    job, marker = setup.enqueue()

    killed_at(setup, first, step)
    setup.workers.start()

    assert_ended_once(setup, job, ledger)
    assert setup.wire.calls(marker) == calls_made
    eventually(lambda: setup.announced(job))
    assert setup.journalled() == []


def test_what_was_found_is_on_record_with_its_price(celery_setup: AssaylineSetup) -> None:
    """The claim that found it dies too, and the next one finds it again: three claims, one call."""
    setup = celery_setup
    setup.start_dispatcher()
    job, marker = setup.enqueue(use_cache=False)
    for _ in range(2):
        worker = setup.workers.start(halt_at=Step.BEFORE_FINISH)
        killed_at(setup, worker, Step.BEFORE_FINISH)
    setup.workers.start()

    assert_ended_once(setup, job, [(1, 1, "succeeded"), (2, 1, "unknown"), (3, 1, "not_called")])
    assert setup.wire.calls(marker) == 1
    paid, found = setup.store.call(job, 1), setup.store.call(job, 3)
    [result] = setup.store.results(job)
    assert paid["cost_usd"] == result["cost_usd"] > 0
    assert (paid["input_tokens"], paid["output_tokens"]) == (INPUT_TOKENS, OUTPUT_TOKENS)
    assert (paid["finish_reason"], paid["provider_request_id"]) == ("stop", "chatcmpl-test")
    assert (found["cost_usd"], found["error_message"]) == (0, "the answer of claim 1, call 1 was in the journal")


def test_killed_in_mid_repair_the_first_answer_is_not_bought_again(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    setup.start_dispatcher()
    first = setup.workers.start()
    job, marker = setup.enqueue(held=True, spoilt=True)
    eventually(lambda: setup.wire.calls(marker) == 2)

    first.kill_and_wait()
    setup.store.give_up(first.container.pid)
    setup.wire.release(marker)
    setup.workers.start()

    assert_ended_once(setup, job, [(1, 1, "succeeded"), (1, 2, "unknown"), (2, 1, "succeeded")], answers=2)
    assert setup.wire.calls(marker) == 3
    assert setup.store.call(job, 2)["kind"] == "repair"
    assert setup.journalled() == []


def test_killed_after_a_repair_neither_answer_is_bought_again(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    setup.start_dispatcher()
    first = setup.workers.start(halt_at=Step.BEFORE_STORE)
    job, marker = setup.enqueue(spoilt=True)

    killed_at(setup, first, Step.BEFORE_STORE)
    setup.workers.start()

    ledger = [(1, 1, "succeeded"), (1, 2, "succeeded"), (2, 1, "not_called")]
    assert_ended_once(setup, job, ledger, answers=2)
    assert setup.wire.calls(marker) == 2


def test_without_the_journal_the_answer_is_bought_again(
    celery_worker_cluster: WorkerCluster, celery_setup: AssaylineSetup
) -> None:
    setup = celery_setup
    celery_worker_cluster.switch(ASSAYLINE_JOURNAL="off")
    setup.start_dispatcher()
    first = setup.workers.start(halt_at=Step.BEFORE_FINISH)
    job, marker = setup.enqueue(use_cache=False)

    killed_at(setup, first, Step.BEFORE_FINISH)
    assert setup.journalled() == []
    setup.workers.start()

    assert_ended_once(setup, job, UNKNOWN_THEN_PAID)
    assert setup.wire.calls(marker) == 2


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
