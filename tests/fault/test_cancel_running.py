"""A job that runs is cancelled, or taken from a frozen worker: its call is cut off, as the endpoint sees it."""

from __future__ import annotations

import json
import os
import signal
import time
from decimal import Decimal
from typing import TYPE_CHECKING

from nodes.waiting import eventually
from nodes.wire import INPUT_TOKENS

from tasks.producer.watch import channel
from workers.departure import Departure

if TYPE_CHECKING:
    from uuid import UUID

    from nodes.cluster import AssaylineSetup

SOON_S = 2.0
"""From the commit of a cancellation to the end of the call."""
NEVER_S = 3600.0
MANY = 50
RESERVE_S = Departure().gone_s - Departure().grace_s
"""What a worker has left after its grace, until its deadline."""


def in_mid_call(setup: AssaylineSetup) -> tuple[UUID, str]:
    job, marker = setup.enqueue(held=True)
    eventually(lambda: setup.wire.calls(marker) == 1)
    return job, marker


def cancel(setup: AssaylineSetup, job: UUID) -> None:
    [row] = setup.store.rows("SELECT assayline_cancel(%s) AS state", job)
    assert row["state"] == "cancelled"


def test_a_call_is_cut_off_and_written_down(celery_setup: AssaylineSetup) -> None:
    """With an estimated cost; the only slot is free for the next job."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start(slots=1, heartbeat_s=NEVER_S)
    job, marker = in_mid_call(setup)
    stood = setup.store.job(job)

    cancel(setup, job)
    eventually(lambda: setup.wire.hung_up(marker) == 1, SOON_S)

    eventually(lambda: worker.endings(job) == [(1, "cut")])
    assert setup.store.calls(job) == [(1, 1, "abandoned")]
    cut = setup.store.call(job, 1)
    assert (cut["estimated"], cut["error"]) == (True, "CancelledError")
    assert INPUT_TOKENS / 4 < cut["input_tokens"] < INPUT_TOKENS * 4
    assert cut["cost_usd"] > Decimal(0)
    row = setup.store.job(job)
    changed = {name for name in row if row[name] != stood[name]}
    assert changed == {"state", "reason", "finished_at", "lease_until"}
    assert row["reason"] == "cancel_running"
    good, _ = setup.enqueue()
    setup.ended(good)


def test_a_cancellation_that_was_not_heard_is_found(celery_setup: AssaylineSetup) -> None:
    """All connections to Postgres break as it is committed; no heartbeat is due for an hour."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start(slots=1, heartbeat_s=NEVER_S)
    job, marker = in_mid_call(setup)

    assert setup.store.cut_connections() >= 3
    cancel(setup, job)

    eventually(lambda: setup.wire.hung_up(marker) == 1)
    eventually(lambda: worker.endings(job) == [(1, "cut")])
    assert setup.store.calls(job) == [(1, 1, "abandoned")]


def test_many_are_cancelled_by_filter_and_those_who_wait_hear_of_it(celery_setup: AssaylineSetup) -> None:
    """Running, queued and waiting ones; what another tenant has goes on."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start(slots=2)
    other, kept = setup.enqueue(held=True, tenant="other")
    eventually(lambda: setup.wire.calls(kept) == 1)
    running, marker = setup.enqueue(held=True, tenant="acme")
    eventually(lambda: setup.wire.calls(marker) == 1)
    waiting = [setup.enqueue(tenant="acme")[0] for _ in range(20)]
    with setup.redis as client, client.pubsub() as heard:
        heard.subscribe(*(channel(job) for job in (running, *waiting)))
        setup.store.rows("SELECT * FROM assayline_cancel_jobs(%s::jsonb)", json.dumps({"tenant": "acme"}))
        told: set[str] = set()

        def all_told() -> bool:
            message = heard.get_message(ignore_subscribe_messages=True, timeout=0.1)
            if message:
                told.add(json.loads(message["data"])["id"])
            return told == {str(job) for job in (running, *waiting)}

        eventually(all_told, SOON_S)
    eventually(lambda: setup.wire.hung_up(marker) == 1, SOON_S)
    setup.wire.release(kept)
    setup.ended(other)
    assert setup.store.states() == {"cancelled": 21, "succeeded": 1}
    eventually(lambda: worker.endings(running) == [(1, "cut")])


def test_a_worker_that_was_frozen_gives_up_what_is_no_longer_its_own(celery_setup: AssaylineSetup) -> None:
    """Taken for dead: awake again it cuts its calls off at once, writes nothing to their jobs, and goes on."""
    setup = celery_setup
    setup.start_dispatcher()
    frozen = setup.workers.start(slots=2, heartbeat_s=0.5)
    jobs = dict(in_mid_call(setup) for _ in range(2))
    os.kill(frozen.container.pid, signal.SIGSTOP)
    setup.store.give_up(frozen.container.pid)
    other = setup.workers.start(slots=2)
    eventually(lambda: all(setup.wire.calls(marker) == 2 for marker in jobs.values()))
    stood = {job: setup.store.job(job) for job in jobs}

    os.kill(frozen.container.pid, signal.SIGCONT)
    eventually(lambda: all(setup.wire.hung_up(marker) == 1 for marker in jobs.values()), SOON_S)

    for job in jobs:
        eventually(lambda job=job: frozen.endings(job) == [(1, "cut")])  # type: ignore[misc]
        assert setup.store.calls(job) == [(1, 1, "abandoned"), (2, 1, "unknown")]
        assert setup.store.call(job, 1)["cost_usd"] > Decimal(0)
        assert setup.store.job(job) == stood[job]
    other.kill("SIGTERM")
    for job, marker in jobs.items():
        setup.wire.release(marker)
        setup.ended(job)
        assert setup.store.calls(job) == [(1, 1, "abandoned"), (2, 1, "succeeded")]
    assert other.container.wait() == 0
    last, _ = setup.enqueue()
    setup.ended(last)
    eventually(lambda: frozen.endings(last) == [(1, "succeeded")])


def test_sigterm_under_load_hands_everything_back(celery_setup: AssaylineSetup) -> None:
    """Fifty long calls: none is lost, and none is made twice without a line in the ledger that says so.

    The grace is short here, and the time for all that comes after it is what a worker has by default.
    """
    setup = celery_setup
    setup.start_dispatcher()
    grace_s = 1.0
    worker = setup.workers.start(slots=MANY, grace_s=grace_s, writes_s=Departure().writes_s)
    jobs = dict(setup.enqueue(held=True) for _ in range(MANY))
    eventually(lambda: sum(map(setup.wire.calls, jobs.values())) == MANY)

    began = time.monotonic()
    worker.terminate()
    took_s = time.monotonic() - began

    assert 0 < took_s - grace_s < RESERVE_S
    assert "threads left: []" in worker.logs(), "it was not forced"
    assert setup.store.states() == {"scheduled": MANY}
    assert {call for job in jobs for call in setup.store.calls(job)} == {(1, 1, "abandoned")}
    eventually(lambda: sum(map(setup.wire.hung_up, jobs.values())) == MANY)
    for marker in jobs.values():
        setup.wire.release(marker)
    setup.workers.start(slots=MANY)
    for job, marker in jobs.items():
        assert setup.ended(job)["attempts_used"] == 1
        assert setup.store.calls(job) == [(1, 1, "abandoned"), (2, 1, "succeeded")]
        assert setup.wire.calls(marker) == 2
