"""`assayline submit TYPE --example` over real servers: every example, sent and run on the scripted provider."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.analyses.registry import SHIPPED, load_analyses
from gateway.catalog import load_catalog
from ops.cli.main import app
from tasks.engine import create_engine
from tasks.mirror import mirror
from workers.build import mirrored

DEADLINE_S = 60.0
OURS = ("ASSAYLINE_", "OPENAI_", "LLM_", "LOG_", "TRACE_")
FAKE = {"ASSAYLINE_FAKE": "1"}

Cli = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str) -> Cli:
    """Run a command line against the test's own database, as a dispatcher leaves it."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ASSAYLINE_DATABASE_URL", database_url)
    monkeypatch.setenv("ASSAYLINE_REDIS_URL", redis_url)

    async def write() -> None:
        engine = create_engine(database_url)
        await mirror(engine, *mirrored(load_catalog(None, FAKE), load_analyses()))
        await engine.dispose()

    asyncio.run(write())
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def served(cli: Cli) -> Iterator[None]:
    """A dispatcher and a worker of the scripted provider, until the test is over."""
    with ExitStack() as running:
        for args in (["dispatcher"], ["worker", "--slots", "4"]):
            argv = [sys.executable, "-m", "ops.cli.main", *args, "--json"]
            process = subprocess.Popen(argv, env={**os.environ, **FAKE}, stdout=subprocess.PIPE, text=True)
            running.callback(_stopped, process)
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["process"] == args[0]
        yield


def _stopped(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0


def documents(result: Result, exit_code: int = 0) -> list[dict[str, Any]]:
    assert result.exit_code == exit_code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_example_of_each_analysis_goes_through_the_queue(cli: Cli, served: None) -> None:
    names = [analysis.name for analysis in SHIPPED]
    ids = [documents(cli("submit", name, "--example", "--json"))[0]["id"] for name in names]
    jobs = documents(cli("wait", *ids, "--timeout", DEADLINE_S, "--json"))
    assert [(job["analysis"], job["state"]) for job in jobs] == [(name, "succeeded") for name in names]
    assert all(job["result"]["data"] for job in jobs)


def test_a_completion_with_turns_and_a_schema_of_the_callers_goes_through_the_queue(cli: Cli, served: None) -> None:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["town", "near"],
        "properties": {"town": {"$ref": "#/$defs/Name"}, "near": {"type": "array", "items": {"$ref": "#/$defs/Name"}}},
        "$defs": {"Name": {"type": "string", "minLength": 2}},
    }
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "When?"}]
    asked = ["submit", "completion", "--example", "--messages", json.dumps(turns), "--json", "--schema"]
    fits, cannot = (
        documents(cli(*asked, json.dumps(one)))[0]["id"] for one in (schema, {**schema, "unevaluatedProperties": False})
    )
    done, refused = documents(cli("wait", fits, cannot, "--timeout", DEADLINE_S, "--json"), exit_code=1)
    assert (done["state"], done["result"]["data"]) == ("succeeded", {"town": "example", "near": ["example"]})
    assert (refused["state"], refused["attempts_used"]) == ("failed", 0)
    assert "unevaluatedProperties is not supported" in refused["causes"][0]["message"]


def test_what_is_sent_is_the_example_with_its_context_and_the_options_of_the_command(cli: Cli) -> None:
    (analysis,) = [analysis for analysis in SHIPPED if analysis.name == "text_classification"]
    assert analysis.example is not None
    labels = ["fault", "praise"]
    (receipt,) = documents(
        cli(
            "submit", analysis.name, "--example", "--context", f"labels={json.dumps(labels)}", "--priority", 2, "--json"
        )
    )
    assert (receipt["file"], receipt["created"]) == ("text_classification.txt", True)
    (job,) = documents(cli("job", receipt["id"], "--content", "--json"))
    assert job["priority"] == 2
    assert job["given"]["content"] == analysis.example.content.read_text(encoding="utf-8")
    assert job["given"]["context"] == {**analysis.example.context, "labels": labels}


def test_for_people_the_id_stands_beside_the_examples_name(cli: Cli) -> None:
    told = cli("submit", "code_quality", "--example")
    job_id, name = told.stdout.split()
    assert (told.exit_code, name) == (0, "code_quality.js")
    assert "Adds a booking" in cli("job", job_id, "--content").stdout
