"""A real worker over a real broker: what it does with a job, and what it tells Celery and Flower about it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from nodes.cluster import MODEL, QUEUES
from nodes.waiting import WITHIN_S, eventually
from nodes.wire import ANSWER, INPUT_TOKENS, OUTPUT_TOKENS

from ops.supervisor import ports, tether
from workers.celery_settings import RUN_TASK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nodes.cluster import AssaylineSetup

SECRET = "Erika Mustermann"
"""Stands for everything personal in a job's content."""
CELERY = (sys.executable, "-m", "celery", "-A", "workers.app")
MANY_SLOTS = 1000
QUICKLY_S = 5.0


def test_a_job_through_dispatcher_worker_and_provider(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start()
    job, marker = setup.enqueue()

    row = setup.ended(job)

    assert (row["release"], row["claim_no"], row["attempts_used"]) == (1, 1, 1)
    [result] = setup.store.results(job)
    assert result["data"] == ANSWER
    call = setup.store.call(job, 1)
    assert (call["outcome"], call["input_tokens"], call["output_tokens"]) == ("succeeded", INPUT_TOKENS, OUTPUT_TOKENS)
    assert call["cost_usd"] == result["cost_usd"] > 0
    assert call["estimated"] is False
    assert setup.wire.calls(marker) == 1
    assert setup.waiting_messages() == 0
    eventually(lambda: worker.endings(job) == [(1, "succeeded")])
    eventually(lambda: setup.announced(job))


def test_the_setup_is_pytest_celerys(celery_setup: AssaylineSetup) -> None:
    """Nodes answer as pytest-celery's do: readiness, names, logs, Celery's own ping, restart."""
    setup = celery_setup
    worker = setup.workers.start()
    assert setup.ready(docker=True)
    assert len(setup) == 2
    assert worker.app is setup.app

    [answer] = setup.app.control.ping(destination=[worker.hostname()], timeout=WITHIN_S, limit=1)
    assert answer == {worker.hostname(): {"ok": "pong"}}
    before = worker.container.pid
    worker.restart()
    assert worker.container.pid != before
    worker.assert_log_exists("threads left: []")


def test_messages_hold_an_id_and_a_number(celery_setup: AssaylineSetup) -> None:
    """Read off the queue itself; of what the job is about there is nothing, in no key of the broker."""
    setup = celery_setup
    setup.store.mirror([MODEL], "text_classification", [MODEL])
    job, marker = setup.enqueue(SECRET, tenant="acme", subject="erika@example.com")
    release = setup.store.release(job)
    setup.publish((job, release))

    with setup.redis as client:
        [message] = [raw for queue in QUEUES for raw in client.lrange(queue, 0, -1)]
        assert {queue.decode() for queue in client.keys("*")} <= {*QUEUES}
    body = base64.b64decode(json.loads(message)["body"])

    args, kwargs, _ = json.loads(body)
    assert (args, kwargs) == ([str(job), release], {})
    for content in (marker, *SECRET.split(), "erika", "acme", "text_classification", "invoice"):
        assert content.encode() not in message + body


class Tape(threading.Thread):
    """Celery's events, as whoever listens gets them."""

    def __init__(self, setup: AssaylineSetup) -> None:
        super().__init__(name="tape")
        self._app = setup.app
        self.events: list[dict[str, Any]] = []
        self._receiver: Any = None

    def run(self) -> None:
        with self._app.connection() as connection:
            self._receiver = self._app.events.Receiver(connection, handlers={"*": self.events.append})
            self._receiver.capture(limit=None, timeout=None, wakeup=True)

    def of(self, task_id: str) -> dict[str, dict[str, Any]]:
        """A task's events by type."""
        return {event["type"]: event for event in self.events if event.get("uuid") == task_id}

    def stop(self) -> None:
        self._receiver.should_stop = True
        self.join()


@contextmanager
def taped(setup: AssaylineSetup) -> Iterator[Tape]:
    """Record events from the first one of a running worker on."""
    tape = Tape(setup)
    tape.start()
    try:
        eventually(lambda: tape.events)
        yield tape
    finally:
        tape.stop()


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


def test_a_thousand_slots_are_there_at_once(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    began = time.monotonic()
    worker = setup.workers.start(slots=MANY_SLOTS)

    assert time.monotonic() - began < QUICKLY_S
    [row] = setup.store.workers()
    assert row["slots"] == MANY_SLOTS
    worker.terminate(within_s=QUICKLY_S)


def test_a_stale_message_costs_one_statement_and_no_call(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    setup.store.mirror([MODEL], "text_classification", [MODEL])
    job, marker = setup.enqueue()
    release = setup.store.release(job)
    worker = setup.workers.start(heartbeat_s=3600.0)
    before = len(worker.statements())

    setup.publish((job, release - 1))

    eventually(lambda: worker.endings(job) == [(release - 1, "stale")])
    [statement] = worker.statements()[before:]
    assert statement.startswith("-- Takes a released job")
    assert setup.wire.calls(marker) == 0
    assert setup.store.calls(job) == []
    assert setup.store.state(job) == "queued"


class Flower:
    """A Flower process, asked over HTTP."""

    LOGIN = "assayline:correct horse"

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self.port = ports.pick()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                tether.wrap([*CELERY, "flower", "--address=127.0.0.1", f"--port={self.port}"]),
                env=env | {"FLOWER_BASIC_AUTH": self.LOGIN},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def ask(self, path: str, login: str | None = LOGIN) -> tuple[int, Any]:
        """GET `path`; status and, of JSON, what it says. Status 0: nobody listens."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if login:
            request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if path.startswith("/api") else text.decode()
        except urllib.error.HTTPError as refused:
            refused.close()
            return refused.code, None
        except urllib.error.URLError:
            return 0, None

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def flower(node_env: dict[str, str], tmp_path: Path) -> Iterator[Flower]:
    """Flower over the test's broker."""
    started = Flower(node_env, tmp_path / "flower.log")
    yield started
    started.stop()


def test_flower_lets_in_who_knows_the_password_and_shows_the_truth(
    celery_setup: AssaylineSetup, flower: Flower
) -> None:
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start(slots=3)
    eventually(lambda: flower.ask("/", login=None)[0] == 401)
    assert flower.ask("/api/workers", login=None)[0] == 401
    assert flower.ask("/", login="assayline:wrong")[0] == 401
    status, page = flower.ask("/workers")
    assert status == 200
    assert "Flower" in page
    shown = eventually(lambda: (flower.ask("/api/workers?refresh=1")[1] or {}).get(worker.hostname()))
    assert {queue["name"] for queue in shown["active_queues"]} >= set(QUEUES)
    assert shown["stats"]["pool"]["max-concurrency"] == 3

    good, _ = setup.enqueue(SECRET)
    bad, marker = setup.enqueue(SECRET, held=True)
    setup.wire.refuse(marker, 400)
    setup.wire.release(marker)
    setup.ended(good)
    setup.ended(bad, "failed")

    def states() -> dict[str, str]:
        return {task_id: task["state"] for task_id, task in (flower.ask("/api/tasks")[1] or {}).items()}

    eventually(lambda: states() == {f"{good}:1": "SUCCESS", f"{bad}:1": "FAILURE"})
    _, tasks = flower.ask("/api/tasks")
    assert {(task["name"], task["worker"]) for task in tasks.values()} == {(RUN_TASK, worker.hostname())}
    assert SECRET.split()[0] not in json.dumps(tasks)
