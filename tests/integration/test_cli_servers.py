"""The commands over real servers: what is submitted, listed, shown, awaited, cancelled, and what the doctor finds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from gateway.analyses.registry import load_analyses
from gateway.catalog import load_catalog
from ops.cli.main import app
from tasks.engine import create_engine
from tasks.mirror import mirror
from tasks.store import Incarnation, JobStore
from workers.build import mirrored

DEADLINE_S = 60.0
OURS = ("ASSAYLINE_", "OPENAI_", "LLM_", "LOG_", "TRACE_")
FAKE = {"ASSAYLINE_FAKE": "1"}

Cli = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str, redis_url: str) -> Cli:
    """Run a command line against the test's own database, in an empty directory."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ASSAYLINE_DATABASE_URL", database_url)
    monkeypatch.setenv("ASSAYLINE_REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)
    return lambda *args, **more: CliRunner().invoke(app, [str(arg) for arg in args], **more)


@pytest.fixture
def mirrored_database(database_url: str) -> str:
    """The test's database as a dispatcher leaves it: the catalog mirrored, the scripted provider configured."""

    async def write() -> None:
        engine = create_engine(database_url)
        await mirror(engine, *mirrored(load_catalog(None, FAKE), load_analyses()))
        await engine.dispose()

    asyncio.run(write())
    return database_url


def documents(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def submitted(cli: Cli, count: int, *options: str) -> list[str]:
    """Submit `count` jobs in one go; returns their ids, oldest first."""
    for number in range(count):
        Path(f"file{number}.py").write_text(f"x = {number}\n")
    done = cli("submit", "code_quality", *(f"file{number}.py" for number in range(count)), "--json", *options)
    assert done.exit_code == 0, done.stderr
    return [receipt["id"] for receipt in documents(done)]


# submit ---------------------------------------------------------------------------------------------------------------


def test_each_file_becomes_a_job_with_all_its_fields(cli: Cli, mirrored_database: str) -> None:
    Path("schema.json").write_text('{"type": "object"}')
    options = {
        "--context": "file_path=a.py",
        "--messages": '[{"role": "user", "content": "hi"}]',
        "--schema": "@schema.json",
        "--tenant": "acme",
        "--subject": "ann",
        "--source": "ci",
        "--tag": "nightly",
        "--lane": "interactive",
        "--priority": "2",
        "--model": "fake/scripted",
        "--prompt-version": "v1",
        "--output-format": "json",
        "--max-tokens": "90",
        "--temperature": "0.5",
        "--max-cost-usd": "0.25",
        "--max-attempts": "3",
        "--not-before": "2100-01-01T00:00:00Z",
        "--deadline-at": "2100-01-03T00:00:00Z",
        "--expires-at": "2100-01-02T00:00:00Z",
    }
    words = [word for pair in options.items() for word in pair]
    first, second = submitted(cli, 2, *words, "--no-cache", "--no-fallback")
    (job,) = documents(cli("job", first, "--json", "--content"))
    wanted = {
        "state": "scheduled",
        "tenant": "acme",
        "subject": "ann",
        "source": "ci",
        "tags": ["nightly"],
        "lane": "interactive",
        "priority": 2,
        "chain": ["fake/scripted"],
        "prompt_version": "v1",
        "output_format": "json",
        "max_tokens": 90,
        "temperature": 0.5,
        "max_cost_usd": 0.25,
        "max_attempts": 3,
        "use_cache": False,
        "use_fallback": False,
        "not_before": "2100-01-01T00:00:00+00:00",
    }
    assert {name: job[name] for name in wanted} == wanted
    assert job["given"] == {
        "content": "x = 0\n",
        "context": {"file_path": "a.py"},
        "messages": [{"role": "user", "content": "hi"}],
        "schema": {"type": "object"},
    }
    assert documents(cli("job", second, "--json", "--content"))[0]["given"]["content"] == "x = 1\n"


def test_stdin_is_a_file_too(cli: Cli, mirrored_database: str) -> None:
    done = cli("submit", "code_quality", "-", input="piped = True\n")
    assert done.exit_code == 0
    job_id, name = done.stdout.split()
    assert name == "-"
    assert "piped = True" in cli("job", job_id, "--content").stdout


def test_one_bad_file_and_nothing_is_enqueued(cli: Cli, mirrored_database: str) -> None:
    Path("good.py").write_text("x = 1")
    Path("bad.py").write_bytes(b"\xff")
    assert cli("submit", "code_quality", "good.py", "bad.py").exit_code == 3
    assert documents(cli("jobs", "--json")) == []


def test_a_repeated_key_is_the_same_job_and_another_request_is_refused(cli: Cli, mirrored_database: str) -> None:
    Path("a.py").write_text("a = 1")
    Path("b.py").write_text("b = 1")
    first, again = (
        documents(cli("submit", "code_quality", "a.py", "--idempotency-key", "k", "--json"))[0] for _ in "12"
    )
    assert (first["created"], again["created"], again["id"]) == (True, False, first["id"])
    other = cli("submit", "code_quality", "b.py", "--idempotency-key", "k")
    assert (other.exit_code, first["id"] in other.stderr) == (3, True)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nonesuch"], "analysis: 'nonesuch' is not known"),
        (["code_quality", "--lane", "fast"], "lane: interactive or bulk"),
        (["code_quality", "--model", "fake/absent"], "'fake/absent' is not in the catalog"),
        (["code_quality", "--not-before", "tomorrow"], "not_before"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_the_database_refuses_is_one_line(cli: Cli, mirrored_database: str, args: list[str], said: str) -> None:
    analysis, *options = args
    Path("a.py").write_text("a = 1")
    told = cli("submit", analysis, "a.py", *options)
    assert told.exit_code == 3
    assert said in told.stderr
    assert "item" not in told.stderr.splitlines()[0]


# jobs -----------------------------------------------------------------------------------------------------------------


def test_pages_show_every_job_once_newest_first(cli: Cli, mirrored_database: str) -> None:
    ids = submitted(cli, 5)
    seen: list[str] = []
    after: list[str] = []
    while page := documents(cli("jobs", "--limit", "2", "--json", *after)):
        seen += [job["id"] for job in page]
        after = ["--after", seen[-1]]
    assert seen == sorted(ids, reverse=True)


def test_filters_narrow(cli: Cli, mirrored_database: str) -> None:
    mine, other = submitted(cli, 2, "--tenant", "acme")
    submitted(cli, 1)
    cli("cancel", other)

    def listed(*options: str) -> set[str]:
        return {job["id"] for job in documents(cli("jobs", "--json", *options))}

    assert listed("--tenant", "acme") == {mine, other}
    assert listed("--state", "cancelled") == {other}
    assert listed("--tenant", "acme", "--state", "scheduled", "--state", "running") == {mine}
    assert listed("--analysis", "text_classification") == set()


def test_a_table_holds_whole_ids_even_in_a_pipe(cli: Cli, mirrored_database: str) -> None:
    (job_id,) = submitted(cli, 1)
    shown = cli("jobs", "--limit", "1")
    assert job_id in shown.stdout
    assert f"--after {job_id}" in shown.stderr
    assert cli("jobs", "--tenant", "nobody").stderr.strip() == "no jobs of this kind"


# job, cancel, wait ----------------------------------------------------------------------------------------------------


def test_another_tenants_job_is_unknown(cli: Cli, mirrored_database: str) -> None:
    (job_id,) = submitted(cli, 1, "--tenant", "acme")
    assert cli("job", job_id, "--tenant", "acme").exit_code == 0
    for command in ("job", "cancel", "wait"):
        told = cli(command, job_id, "--tenant", "other")
        assert (told.exit_code, job_id in told.stderr) == (3, True)


def test_cancel_says_what_became_of_each(cli: Cli, mirrored_database: str) -> None:
    first, second = submitted(cli, 2)
    absent = str(uuid.uuid4())
    told = cli("cancel", first, absent, second, "--json")
    assert told.exit_code == 3
    assert absent in told.stderr
    said = documents(told)
    assert [one["id"] for one in said[:2]] == [first, second]
    assert all(one["cancelled"] for one in said[:2])


def test_waiting_for_a_job_that_did_not_succeed_is_exit_code_1(cli: Cli, mirrored_database: str) -> None:
    (job_id,) = submitted(cli, 1)
    cli("cancel", job_id)
    told = cli("wait", job_id, "--json")
    assert (told.exit_code, documents(told)[0]["state"]) == (1, "cancelled")


def test_waiting_ends_when_the_time_is_up_and_the_job_goes_on(cli: Cli, mirrored_database: str) -> None:
    (job_id,) = submitted(cli, 1)
    told = cli("wait", job_id, "--timeout", "0", "--json")
    assert told.exit_code == 1
    assert documents(told) == [{"id": job_id, "state": "scheduled", "timed_out": True}]
    assert cli("wait", uuid.uuid4(), "--timeout", "0").exit_code == 3


def test_a_call_that_never_ended_is_flagged(cli: Cli, mirrored_database: str) -> None:
    """Claimed, and then the worker is gone: its call is `unknown`, and may have been paid for."""
    (job_id,) = submitted(cli, 1)
    with psycopg.connect(mirrored_database, autocommit=True) as connection:
        connection.execute("UPDATE assayline.jobs SET state = 'queued', release = 1 WHERE id = %s", [job_id])

    async def claim() -> None:
        store = JobStore(create_engine(mirrored_database))
        life = Incarnation(uuid.uuid4(), "here", 1, ("fake",), 1)
        assert await store.claim(uuid.UUID(job_id), 1, life, account="default", lease_s=60)
        await store.aclose()

    asyncio.run(claim())
    shown = cli("job", job_id).stdout
    assert "running" in shown
    assert "unknown: begun and never ended on record" in shown


# migrate, doctor ------------------------------------------------------------------------------------------------------


def test_migrate_goes_up_and_down(cli: Cli, empty_database_url: str) -> None:
    env = {"ASSAYLINE_DATABASE_URL": empty_database_url}
    unmigrated = cli("jobs", env=env)
    assert (unmigrated.exit_code, "assayline migrate" in unmigrated.stderr) == (2, True)
    head = documents(cli("migrate", "--json", env=env))[0]["revision"]
    assert head
    assert documents(cli("migrate", "--json", env=env))[0]["revision"] == head
    assert documents(cli("migrate", "--down", "base", "--yes", "--json", env=env)) == [{"revision": None}]
    assert cli("migrate", "--to", "nonesuch", env=env).exit_code == 3


def findings(result: Result) -> dict[str, dict[str, Any]]:
    return {finding["subject"]: finding for finding in documents(result)}


def test_doctor_finds_the_missing_schema_and_what_mends_it(cli: Cli, empty_database_url: str) -> None:
    told = cli("doctor", "--json", env={"ASSAYLINE_DATABASE_URL": empty_database_url, **FAKE})
    said = findings(told)
    assert told.exit_code == 2
    assert said["schema"]["verdict"] == "wrong"
    assert said["schema"]["mend"] == "assayline migrate"
    assert said["redis"]["verdict"] == "good"


def test_doctor_tells_servers_that_do_not_answer(cli: Cli) -> None:
    env = {
        "ASSAYLINE_DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/x",
        "ASSAYLINE_REDIS_URL": "redis://:secret@127.0.0.1:1",
    }
    told = cli("doctor", env=env)
    assert told.exit_code == 2
    assert told.stdout.count("ASSAYLINE_REDIS_URL") == 1
    assert told.stdout.count("ASSAYLINE_DATABASE_URL") == 1
    assert "secret" not in told.output


def test_doctor_misses_dispatcher_and_worker(cli: Cli, mirrored_database: str) -> None:
    told = cli("doctor", "--json", env=FAKE)
    said = findings(told)
    assert told.exit_code == 2
    assert {name for name, finding in said.items() if finding["verdict"] == "wrong"} == {"dispatcher", "worker fake"}
    for subject in ("python", "catalog", "postgres", "schema", "partitions", "clock", "queues", "stuck jobs"):
        assert said[subject]["verdict"] == "good"


def test_doctor_judges_a_provider_that_does_not_answer(cli: Cli, mirrored_database: str) -> None:
    told = cli("doctor", "--json", env={"ASSAYLINE_LOCAL_BASE_URL": "http://127.0.0.1:1/v1"})
    local = findings(told)["local"]
    assert local["verdict"] == "wrong"
    assert "ASSAYLINE_LOCAL_BASE_URL" in local["mend"]


# the processes --------------------------------------------------------------------------------------------------------


@contextmanager
def process(*args: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs until it is told to stop; yields once it has said on stdout that it begins."""
    argv = [sys.executable, "-m", "ops.cli.main", *args, "--json"]
    with subprocess.Popen(argv, env={**os.environ, **FAKE}, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            assert json.loads(running.stdout.readline())["process"] == args[0]
            yield running
        finally:
            running.kill()


def test_the_processes_run_a_job_and_the_doctor_is_content(cli: Cli, database_url: str) -> None:
    with process("dispatcher") as dispatcher, process("worker", "--slots", "2") as worker, process("beat") as beat:
        until = time.monotonic() + DEADLINE_S
        while (told := cli("doctor", "--json", env=FAKE)).exit_code:
            assert time.monotonic() < until, told.output
        assert findings(told)["worker fake"]["said"] == "1 alive with 2 slots"
        done = cli("submit", "text_classification", "-", "--context", 'labels=["a", "b"]', "--wait", input="text")
        assert done.exit_code == 0, done.output
        assert '"label": "a"' in done.stdout
        assert "fake/" in done.stdout
        failed = cli("submit", "text_classification", "-", "--wait", "--json", input="no labels")
        assert failed.exit_code == 1
        assert documents(failed)[0]["causes"][0]["error"] == "prompt_error"
        for running in (worker, dispatcher, beat):
            running.send_signal(signal.SIGTERM)
            assert running.wait(DEADLINE_S) == 0
