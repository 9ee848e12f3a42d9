"""SIGTERM at a worker: short calls finish, long ones are cut, written down and handed back; nothing is left behind."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from nodes.entries import PROVOCATIONS, DispatcherPlan
from nodes.link import Linked
from nodes.waiting import eventually
from nodes.wire import INPUT_TOKENS

from workers.departure import Departure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodes.cluster import AssaylineSetup, WorkerNode

QUICKLY_S = 5.0
"""With nothing to wait for. Celery's loop looks at its flags once a second."""
LONG_S = 3600.0
HURRIED = Departure(grace_s=0.2, writes_s=0.5)
"""Its deadline comes after 5.7 s."""
UNHEARD_OF = ("provoke-exit", "provoke-interrupt", "provoke-generator")


def assert_left_nothing(setup: AssaylineSetup, worker: WorkerNode) -> None:
    assert "threads left: []" in worker.logs(), worker.logs()
    assert worker.container.pid not in {row["pid"] for row in setup.store.workers()}


def test_an_idle_worker_ends_at_once(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    worker = setup.workers.start(grace_s=LONG_S)

    worker.terminate(within_s=QUICKLY_S)

    assert_left_nothing(setup, worker)


def test_an_idle_dispatcher_ends_at_once(celery_setup: AssaylineSetup) -> None:
    dispatcher = celery_setup.start_dispatcher()

    dispatcher.terminate(within_s=QUICKLY_S)

    assert "threads left: []" in dispatcher.logs(), dispatcher.logs()
    assert "Traceback" not in dispatcher.logs()


def test_a_call_that_ends_within_the_grace_is_waited_for(celery_setup: AssaylineSetup) -> None:
    """And nothing new is begun meanwhile: the dispatcher knows that this worker's slots are going."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start(grace_s=LONG_S, heartbeat_s=0.1)
    job, marker = setup.enqueue(held=True)
    eventually(lambda: setup.wire.calls(marker) == 1)

    def heartbeat() -> tuple[bool, Any]:
        [row] = setup.store.workers()
        return row["stopping"], row["heartbeat_at"]

    worker.kill("SIGTERM")
    eventually(lambda: heartbeat()[0])
    _, first = heartbeat()
    late, _ = setup.enqueue()
    eventually(lambda: (heartbeat()[1] - first).total_seconds() > 0.3)
    assert heartbeat()[0] is True
    worker.kill("SIGTERM")
    setup.wire.release(marker)

    assert worker.container.wait() == 0
    assert setup.store.state(job) == "succeeded"
    assert setup.store.calls(job) == [(1, 1, "succeeded")]
    assert worker.endings(late) == []
    assert setup.store.state(late) == "scheduled"
    assert_left_nothing(setup, worker)


def test_a_call_that_outlasts_the_grace_is_handed_back(celery_setup: AssaylineSetup) -> None:
    """Written down as abandoned with an estimated cost; its attempt is given back, and another worker ends the job."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start(grace_s=0.5)
    job, marker = setup.enqueue(held=True)
    eventually(lambda: setup.wire.calls(marker) == 1)

    began = time.monotonic()
    worker.terminate(within_s=QUICKLY_S)
    assert time.monotonic() - began >= 0.5
    row = setup.store.job(job)
    assert (row["state"], row["reason"], row["attempts_used"]) == ("scheduled", "hand_back", 0)
    assert_left_nothing(setup, worker)
    cut = setup.store.call(job, 1)
    assert (cut["outcome"], cut["error"]) == ("abandoned", "CancelledError")
    assert cut["latency_s"] >= 0.5

    setup.wire.release(marker)
    setup.workers.start()
    assert setup.ended(job)["attempts_used"] == 1
    assert setup.store.calls(job) == [(1, 1, "abandoned"), (2, 1, "succeeded")]


@pytest.fixture
def postgres(database_url: str) -> Iterator[Linked]:
    """Where Postgres is reached through a proxy that fails on demand."""
    with Linked(database_url) as link:
        yield link


def test_a_worker_whose_postgres_hangs_is_gone_by_its_deadline(celery_setup: AssaylineSetup, postgres: Linked) -> None:
    """Nothing can be handed back or written then. The jobs are rescued, and the paid answer is not bought again."""
    setup = celery_setup
    setup.start_dispatcher()
    setup.workers.switch(ASSAYLINE_DATABASE_URL=postgres.url)
    worker = setup.workers.start(grace_s=HURRIED.grace_s, writes_s=HURRIED.writes_s)
    (answered, paid), (calling, open_call) = (setup.enqueue(held=True, use_cache=False) for _ in range(2))
    eventually(lambda: setup.wire.calls(paid) == setup.wire.calls(open_call) == 1)

    assert postgres.tell("stall") > 0
    setup.wire.release(paid)
    eventually(setup.journalled)
    began = time.monotonic()
    worker.kill("SIGTERM")
    code = worker.container.wait()
    took_s = time.monotonic() - began
    postgres.tell("reset")

    assert took_s < HURRIED.gone_s + QUICKLY_S / 2
    assert code == 1, worker.logs()
    assert "left to the dispatcher" in worker.logs()
    postgres.tell("pass")
    setup.wire.release(open_call)
    setup.workers.start()
    setup.ended(answered)
    setup.ended(calling)
    assert (setup.wire.calls(paid), setup.wire.calls(open_call)) == (1, 2)
    assert setup.store.calls(answered) == [(1, 1, "succeeded"), (2, 1, "not_called")]
    assert setup.store.calls(calling) == [(1, 1, "unknown"), (2, 1, "succeeded")]


def test_a_dispatcher_whose_postgres_hangs_is_gone_in_time(
    celery_setup: AssaylineSetup, postgres: Linked, database_url: str
) -> None:
    """A statement is under way then. psycopg would try for ten seconds to have it ended."""
    setup = celery_setup
    dispatcher = setup.start_dispatcher(DispatcherPlan(gone_within_s=1.0), ASSAYLINE_DATABASE_URL=postgres.url)

    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE assayline.jobs")
        eventually(lambda: setup.store.rows("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        assert postgres.tell("stall") > 0
        dispatcher.terminate(within_s=1.0 + QUICKLY_S)

    assert "the process ends without it" in dispatcher.logs()


def test_an_abandoned_call_has_an_estimated_cost(celery_setup: AssaylineSetup) -> None:
    """The prompt was sent and will be charged; what the provider told nobody is estimated from it."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start(grace_s=0.1)
    job, marker = setup.enqueue(held=True)
    eventually(lambda: setup.wire.calls(marker) == 1)

    worker.terminate(within_s=QUICKLY_S)

    cut = setup.store.call(job, 1)
    assert cut["estimated"] is True
    assert INPUT_TOKENS / 4 < cut["input_tokens"] < INPUT_TOKENS * 4
    assert cut["cost_usd"] > Decimal(0)


def test_no_slot_is_lost_to_an_attempt_that_raises_what_is_no_error(celery_setup: AssaylineSetup) -> None:
    """More of SystemExit and its like than there are slots: a good job still comes through, and SIGTERM works."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start(slots=2, provoke=True)
    bad = [setup.enqueue(word, max_attempts=1)[0] for word in UNHEARD_OF]
    good, _ = setup.enqueue()

    setup.ended(good)
    assert {setup.store.state(job) for job in bad} == {"running"}
    for word in UNHEARD_OF:
        worker.wait_for_log(f"interrupted by {PROVOCATIONS[word].__name__}")

    worker.terminate()
    assert_left_nothing(setup, worker)
    assert {setup.store.state(job) for job in bad} == {"scheduled"}


def test_a_cancellation_from_within_is_an_error_like_any(celery_setup: AssaylineSetup) -> None:
    """A library that lets its own CancelledError out must not leave the job `running` until its lease ends."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start(provoke=True)
    job, _ = setup.enqueue("provoke-cancelled")

    row = setup.ended(job, "failed")

    assert row["reason"] == "internal_fault"
    eventually(lambda: worker.endings(job) == [(1, "failed")])
