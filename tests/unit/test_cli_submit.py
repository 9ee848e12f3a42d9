"""`assayline submit --example` without servers: what is printed, what is refused, which context wins."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.analyses import registry
from gateway.analyses.base import Example
from gateway.analyses.code.code_quality import ANALYSIS
from ops.cli import main
from ops.cli.judged import Judged
from ops.cli.submit import _jobs
from tasks.producer.jobs import OPTIONS

OURS = ("ASSAYLINE_", "OPENAI_", "LLM_", "LOG_", "TRACE_")
BARE = replace(ANALYSIS, name="bare", example=None)
LOST = replace(ANALYSIS, name="lost", example=Example(Path("nowhere") / "lost.js", "Never written."))

Cli = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run a command line in an empty directory and an empty environment, two third-party analyses installed."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    points = [EntryPoint(name, f"{__name__}:{name.upper()}", registry.ENTRY_POINT_GROUP) for name in ("bare", "lost")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    monkeypatch.chdir(tmp_path)
    return lambda *args, **more: CliRunner().invoke(main.app, list(args), **more)


def test_show_prints_the_content_alone_on_stdout_and_needs_no_server(cli: Cli) -> None:
    shown = cli("submit", "code_quality", "--example", "--show")
    assert ANALYSIS.example is not None
    assert shown.exit_code == 0
    assert shown.stdout == ANALYSIS.example.content.read_text(encoding="utf-8")
    assert "code_quality.js  Written for Assayline." in shown.stderr
    assert '--context file_path="server/bookings.js"' in shown.stderr


def test_show_as_json_is_one_document_with_everything(cli: Cli) -> None:
    shown = cli("submit", "code_quality", "--example", "--show", "--json")
    assert ANALYSIS.example is not None
    assert json.loads(shown.stdout) == {
        "analysis": "code_quality",
        "file": "code_quality.js",
        "source": ANALYSIS.example.source,
        "context": ANALYSIS.example.context,
        "content": ANALYSIS.example.content.read_text(encoding="utf-8"),
    }


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["code_quality", "--show"], "--example --show"),
        (["code_quality", "a.py", "--example"], "leave out a.py"),
        (["bare", "--example"], "bare ships without an example: name a file of yours"),
        (["bare", "--example", "--show"], "bare ships without an example"),
        (["lost", "--example"], "lost's example lost.js: No such file"),
        (["astrology", "--example"], "no analysis 'astrology'"),
        (["code_quality", "--example", "--context", "x"], "write it k=v"),
    ],
    ids=" ".join,
)
def test_what_has_no_example_to_send_is_said(cli: Cli, args: list[str], said: str) -> None:
    told = cli("submit", *args)
    assert (told.exit_code, said in told.stderr) == (3, True), told.stderr


def test_without_anything_to_judge_the_example_is_pointed_out(cli: Cli) -> None:
    assert "--example" in cli("submit", "code_quality").stderr


def test_an_example_without_an_installation_to_send_it_to_is_exit_code_2(cli: Cli) -> None:
    told = cli("submit", "code_quality", "--example")
    assert (told.exit_code, "ASSAYLINE_DATABASE_URL is not set" in told.stderr) == (2, True)


def test_the_command_lines_context_wins_over_the_examples_own() -> None:
    options = {**dict.fromkeys(OPTIONS), "context": {"labels": ["x", "y"]}}
    (job,) = _jobs("text_classification", [Judged("a.txt", b"a", {"labels": ["a", "b"], "guidance": "g"})], options)
    assert job.context == {"labels": ["x", "y"], "guidance": "g"}
