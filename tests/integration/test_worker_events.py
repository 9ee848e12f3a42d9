"""What a worker tells Celery's listeners: nothing of what a job is about, all that became of it, in few messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nodes.tape import taped
from nodes.waiting import eventually

from workers.events import EVENTS_EVERY_S

if TYPE_CHECKING:
    from nodes.cluster import AssaylineSetup

SECRET = "Erika Mustermann"
"""Stands for everything personal in a job's content."""
JOBS = 12
ENDED = {"task-received", "task-started", "task-succeeded"}


def test_a_failed_jobs_task_fails_and_tells_nothing_else(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start()
    with taped(setup) as tape:
        job, marker = setup.enqueue(SECRET, held=True)
        setup.wire.refuse(marker, 400)
        setup.wire.release(marker)
        setup.ended(job, "failed")
        told = eventually(lambda: tape.of(f"{job}:1").get("task-failed"))

    assert told["exception"] == "JobFailed()"
    assert "traceback" not in told
    assert SECRET.split()[0] not in json.dumps(tape.events)
    assert SECRET.split()[0] not in worker.logs()
    assert "Traceback" not in worker.logs()
    assert setup.store.job(job)["causes"][0]["error"] == "invalid_request"


def test_an_error_of_ours_tells_no_content(celery_setup: AssaylineSetup) -> None:
    """Postgres quotes the row that it refuses: what the error says may be in no event and no log."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start()
    setup.store.rows(f"ALTER TABLE assayline.calls ADD CHECK (tenant <> '{SECRET}')")
    with taped(setup) as tape:
        job, _ = setup.enqueue(tenant=SECRET)
        told = eventually(lambda: tape.of(f"{job}:1").get("task-failed"))

    assert told["exception"] == "RunInterrupted('IntegrityError')"
    assert "traceback" not in told
    worker.wait_for_log("interrupted by IntegrityError")
    assert SECRET.split()[0] not in worker.logs() + json.dumps(tape.events)


def test_events_come_in_few_messages_and_none_is_missing(celery_setup: AssaylineSetup) -> None:
    """One job after the other, so that stock Celery would send at least two messages for each."""
    setup = celery_setup
    setup.start_dispatcher()
    setup.workers.start()
    with taped(setup) as tape:
        jobs = []
        for _ in range(JOBS):
            job, _ = setup.enqueue()
            setup.ended(job)
            jobs.append(f"{job}:1")
        eventually(lambda: all(set(tape.of(task_id)) >= ENDED for task_id in jobs))

    sent = [at for at, routing_key in tape.messages if routing_key.startswith("task")]
    assert len(sent) <= 2 + (sent[-1] - sent[0]) / EVENTS_EVERY_S
    assert len(sent) < 2 * JOBS


def test_a_task_that_ends_while_the_worker_stops_is_told_of(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start(grace_s=3600.0)
    with taped(setup) as tape:
        job, marker = setup.enqueue(held=True)
        eventually(lambda: "task-started" in tape.of(f"{job}:1"))
        worker.kill("SIGTERM")
        eventually(lambda: any(event["type"] == "worker-offline" for event in tape.events))
        setup.wire.release(marker)
        assert worker.container.wait() == 0
        eventually(lambda: "task-succeeded" in tape.of(f"{job}:1"))
