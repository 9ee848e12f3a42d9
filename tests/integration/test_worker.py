"""A real worker over a real broker: what it does with a job, and what Flower shows of it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from nodes.cluster import MODEL, QUEUES
from nodes.waiting import eventually
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

    # A worker lives before it listens, and what is said before then is lost.
    [answer] = eventually(lambda: setup.app.control.ping(destination=[worker.hostname()], timeout=1.0, limit=1))
    assert answer == {worker.hostname(): {"ok": "pong"}}
    before = worker.container.pid
    worker.restart()
    assert worker.container.pid != before
    worker.assert_log_exists("threads left: []")


def test_messages_hold_an_id_and_a_number(celery_setup: AssaylineSetup) -> None:
    """Read off the queue itself; of what the job is about there is nothing, in no key of the Redis."""
    setup = celery_setup
    setup.store.mirror([MODEL], "text_classification", [MODEL])
    job, marker = setup.enqueue(SECRET, tenant="acme", subject="erika@example.com")
    release = setup.store.release(job)
    setup.publish((job, release))

    with setup.redis as client:
        assert {queue.decode() for queue in client.keys("*")} <= {*QUEUES}
    [(body, message)] = [found for queue in QUEUES for found in setup.queues.messages(queue)]

    args, kwargs, _ = json.loads(body)
    assert (args, kwargs) == ([str(job), release], {})
    for content in (marker, *SECRET.split(), "erika", "acme", "text_classification", "invoice"):
        assert content.encode() not in message + body


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
def flower(processes_env: dict[str, str], tmp_path: Path) -> Iterator[Flower]:
    """Flower over the test's broker."""
    started = Flower(processes_env, tmp_path / "flower.log")
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
