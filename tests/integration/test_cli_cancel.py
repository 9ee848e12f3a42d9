"""`assayline cancel` by filter: what it takes and refuses, what it counts, cancels and says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from apiworld import mirror_into
from psycopg.types.json import Jsonb
from typer.testing import CliRunner, Result

from ops.cli import cancel as room
from ops.cli.main import app
from tasks.producer import Which
from tasks.producer import client as producer

Cli = Callable[..., Result]
OURS = ("ASSAYLINE_", "OPENAI_", "LLM_", "LOG_", "TRACE_")


@pytest.fixture
def database_url(emptied_database_url: str) -> str:
    mirror_into(emptied_database_url)
    return emptied_database_url


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> Cli:
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ASSAYLINE_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def enqueue(cli: Cli, database_url: str) -> Callable[..., str]:
    def enqueue(**options: Any) -> str:
        with psycopg.connect(database_url) as link:
            row = link.execute("SELECT job_id FROM assayline_enqueue('code_quality', 'x', %s)", (Jsonb(options),))
            return str(row.fetchone()[0])  # type: ignore[index]

    return enqueue


def states(database_url: str) -> dict[str, str]:
    with psycopg.connect(database_url) as link:
        return {str(job): state for job, state in link.execute("SELECT id, state FROM assayline.jobs").fetchall()}


def document(result: Result) -> Any:
    [line] = result.stdout.splitlines()
    return json.loads(line)


def test_a_filter_is_counted_and_then_cancelled(cli: Cli, enqueue: Callable[..., str], database_url: str) -> None:
    mine, other = enqueue(tenant="acme"), enqueue(tenant="other")
    counted = cli("cancel", "--tenant", "acme", "--dry-run")
    assert (counted.exit_code, counted.stdout) == (0, "1 job would be cancelled\n")
    assert states(database_url) == {mine: "scheduled", other: "scheduled"}
    done = cli("cancel", "--tenant", "acme")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "1 cancelled\n", "")
    assert states(database_url) == {mine: "cancelled", other: "scheduled"}
    again = cli("cancel", "--tenant", "acme", "--json")
    assert (again.exit_code, document(again)) == (0, {"cancelled": 0, "running": 0, "held": 0})


def test_every_part_of_a_filter_has_its_option(cli: Cli, enqueue: Callable[..., str], database_url: str) -> None:
    assert {*room.NAMES, "all"} == set(Which.__annotations__)
    job = enqueue(tenant="acme", subject="ann", source="ci", tags=["nightly"], lane="interactive", provider="fake")
    options = (
        "--tenant", "acme", "--analysis", "code_quality", "--provider", "fake", "--state", "scheduled",
        "--state", "running", "--source", "ci", "--subject", "ann", "--tag", "nightly", "--lane", "interactive",
        "--created-after", "2020-01-01T00:00:00Z", "--created-before", "2100-01-01T00:00:00Z",
    )  # fmt: skip
    counted = cli("cancel", *options, "--dry-run", "--json")
    assert document(counted) == {"dry_run": True, "matching": {"scheduled": 1, "running": 0}}
    for name, otherwise in (("--tenant", "x"), ("--subject", "x"), ("--tag", "x"), ("--lane", "bulk")):
        at = options.index(name) + 1
        other = (*options[:at], otherwise, *options[at + 1 :])
        assert document(cli("cancel", *other, "--json"))["cancelled"] == 0
    assert document(cli("cancel", *options, "--json"))["cancelled"] == 1
    assert states(database_url) == {job: "cancelled"}


def test_all_must_be_said(cli: Cli, enqueue: Callable[..., str], database_url: str) -> None:
    job = enqueue()
    told = cli("cancel")
    assert (told.exit_code, "every job is --all" in told.stderr) == (3, True)
    assert states(database_url) == {job: "scheduled"}
    both = cli("cancel", "--all", "--tenant", "acme")
    assert (both.exit_code, "all: means every job" in both.stderr) == (3, True)
    assert cli("cancel", "--all").stdout == "1 cancelled\n"
    assert states(database_url) == {job: "cancelled"}


@pytest.mark.parametrize(("options", "said"), [
    (("--state", "failed"), "--state"),
    (("--lane", "slow"), "--lane"),
    (("--created-after", "yesterday"), "created_after: must be an ISO 8601 time"),
    (("--tenant", ""), "tenant: 1 to 500 characters"),
])  # fmt: skip
def test_what_is_no_filter_is_one_line_and_exit_code_3(cli: Cli, options: tuple[str, ...], said: str) -> None:
    told = cli("cancel", *options)
    assert (told.exit_code, said in told.stderr, "Traceback" in told.stderr) == (3, True, False)


def test_ids_and_a_filter_are_two_ways(cli: Cli, enqueue: Callable[..., str], database_url: str) -> None:
    job = enqueue(tenant="acme")
    for options in (("--analysis", "code_quality"), ("--all",), ("--dry-run",)):
        told = cli("cancel", job, *options)
        assert (told.exit_code, f"leave out {options[0]}" in told.stderr) == (3, True)
    assert states(database_url) == {job: "scheduled"}
    assert cli("cancel", job, "--tenant", "acme").exit_code == 0


def test_who_breaks_off_is_told_what_is_done(
    cli: Cli, enqueue: Callable[..., str], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "PORTION", 1)
    enqueue()
    enqueue()
    real = producer.time.sleep

    def interrupted(seconds: float) -> None:
        monkeypatch.setattr(producer.time, "sleep", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(producer.time, "sleep", interrupted)
    told = cli("cancel", "--all")
    assert (told.exit_code, "1 of 2 were cancelled before it stopped" in told.stderr) == (130, True)
    assert sorted(states(database_url).values()) == ["cancelled", "scheduled"]


def test_what_somebody_holds_is_told(
    cli: Cli, enqueue: Callable[..., str], database_url: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("tasks.producer.cancelling.PAUSE_S", 0.0)
    job = enqueue()
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM assayline.jobs WHERE id = %s FOR UPDATE", (job,))
        told = cli("cancel", "--all")
    assert told.stdout == "0 cancelled\n"
    assert "1 are held by somebody's open transaction" in told.stderr
