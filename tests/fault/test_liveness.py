"""Health checks of real workers: what gets a worker killed, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nodes.cluster import QUEUES
from nodes.entries import BLOCK
from nodes.health import health, parts
from nodes.waiting import eventually

from ops.cli.liveness import complaint
from ops.supervisor import ports
from workers.health.thresholds import Thresholds

if TYPE_CHECKING:
    from nodes.cluster import AssaylineSetup

EAGER = Thresholds(late_s=1.0, stuck_s=2.0, idle_s=1.0, look_every_s=0.1)
"""As in life, but for the waiting."""


@pytest.fixture
def port() -> int:
    return ports.pick()


def ready(port: int) -> None:
    eventually(lambda: health(port, "ready")[0] == 200)


def test_a_fresh_idle_worker_is_live_and_ready_and_says_when_it_stops(celery_setup: AssaylineSetup, port: int) -> None:
    setup = celery_setup
    worker = setup.workers.start(health_port=port)

    ready(port)
    status, document = health(port)
    assert (status, document["live"], document["problems"]) == (200, True, [])
    assert (document["slots"], document["busy"], document["waiting"]) == (4, 0, 0)
    assert health(port, "elsewhere")[0] == 404

    setup.start_dispatcher()
    job, marker = setup.enqueue(held=True)
    eventually(lambda: setup.wire.calls(marker))
    assert health(port)[1]["busy"] == 1
    worker.kill("SIGTERM")
    eventually(lambda: health(port, "ready")[0] == 503)
    status, document = health(port)
    assert (status, parts(document, deadly=False)) == (200, {"worker"})
    setup.wire.release(marker)
    assert worker.container.wait() == 0, worker.logs()
    assert setup.store.state(job) == "succeeded"


def test_a_worker_whose_loop_is_blocked_is_not_live(celery_setup: AssaylineSetup, port: int) -> None:
    """And its supervisor is told why."""
    setup = celery_setup
    setup.start_dispatcher()
    setup.workers.start(health_port=port, thresholds=EAGER, provoke=True)
    ready(port)

    setup.enqueue(BLOCK)

    eventually(lambda: health(port)[0] == 503)
    said = complaint(f"http://127.0.0.1:{port}/health/live")
    assert said is not None
    assert said.startswith("loop: the event loop is ")


def test_a_worker_that_takes_nothing_though_its_queue_has_work_is_not_live(
    celery_setup: AssaylineSetup, port: int
) -> None:
    """Its consumer is told to stop, its heartbeat goes on: alive but silent. Consuming again, it is live again."""
    setup = celery_setup
    worker = setup.workers.start(health_port=port, thresholds=EAGER)
    setup.start_dispatcher()
    ready(port)
    for queue in QUEUES:
        setup.app.control.cancel_consumer(queue, destination=[worker.hostname()], reply=True)

    job, _ = setup.enqueue()

    eventually(lambda: health(port)[0] == 503)
    _, document = health(port)
    assert "consumer" in parts(document, deadly=True)
    assert document["waiting"] >= 1
    assert document["idle_s"] >= EAGER.idle_s

    for queue in QUEUES:
        setup.app.control.add_consumer(queue, destination=[worker.hostname()], reply=True)
    setup.ended(job)
    eventually(lambda: health(port)[0] == 200)
