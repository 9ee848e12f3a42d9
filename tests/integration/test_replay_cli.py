"""`assayline replay` and `replays` over a real Postgres: what is said, what is made, how it is watched and left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from apiworld import MODEL, mirror_into
from nodes.waiting import eventually
from psycopg.rows import dict_row
from replayworld import cleared
from typer.testing import CliRunner, Result

from gateway.analyses import registry
from gateway.analyses.registry import AnalysisRegistry
from ops.cli import replays as watching
from ops.cli.main import app
from ops.cli.screen import Screen
from tasks import engine
from tasks.replay import book
from tasks.replay.book import Standing

OURS = ("ASSAYLINE_", "OPENAI_", "LLM_", "LOG_", "TRACE_")
Cli = Callable[..., Result]
Link = psycopg.Connection[dict[str, Any]]


@pytest.fixture
def database_url(module_database_url: str) -> str:
    """One for all tests here, each begins with it empty."""
    return module_database_url


@pytest.fixture(scope="module")
def analyses() -> AnalysisRegistry:
    """Compiled once: each command line would do it anew."""
    return registry.load_analyses()


@pytest.fixture
def cli(analyses: AnalysisRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> Cli:
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ASSAYLINE_DATABASE_URL", database_url)
    monkeypatch.setattr(watching, "POLL_S", 0.01)
    monkeypatch.setattr(registry, "load_analyses", lambda: analyses)
    monkeypatch.chdir(tmp_path)
    with psycopg.connect(database_url, autocommit=True) as link:
        cleared(link)
    mirror_into(database_url)
    return lambda *args, **more: CliRunner().invoke(app, [str(arg) for arg in args], **more)


@pytest.fixture
def link(database_url: str) -> Iterator[Link]:
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as link:
        yield link


def failed(link: Link, **options: Any) -> str:
    [row] = link.execute(
        "SELECT job_id FROM assayline_enqueue('code_quality', 'x = 1', %s)", (json.dumps(options),)
    ).fetchall()
    end(link, row["job_id"], "failed")
    return str(row["job_id"])


def end(link: Link, job: Any, state: str) -> None:
    causes = [{"at": "2026-11-05T08:00:00Z", "error": "timeout", "claim_no": 1, "provider": "fake", "model": "scripted",
               "message": "late", "move": "fail"}]  # fmt: skip
    link.execute(
        "UPDATE assayline.jobs SET state = %s, reason = 'fail', finished_at = now(), causes = %s WHERE id = %s",
        (state, json.dumps(causes if state == "failed" else []), job),
    )


def made(link: Link) -> list[Any]:
    return [row["id"] for row in link.execute("SELECT id FROM assayline.jobs WHERE replay_of IS NOT NULL").fetchall()]


def documents(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def create_engine_of_nothing() -> Any:
    """An engine whose connections nobody uses."""
    return SimpleNamespace(connect=nullcontext)


def test_a_dry_run_says_what_is_meant_and_what_is_not_known(cli: Cli, link: Link) -> None:
    for _ in range(2):
        failed(link)
    told = cli("replay", "--error", "timeout", "--ended-after", "2h", "--rate", "1", "--dry-run")
    assert told.exit_code == 0, told.stderr
    for said in ("2 jobs to replay of 2 found", MODEL, "estimated cost: unknown", "it takes 2 min", "a dry run"):
        assert said in told.stdout
    assert link.execute("SELECT FROM assayline.replays").fetchall() == []
    (plan,) = documents(cli("replay", "--all", "--dry-run", "--json"))
    assert (plan["jobs"], plan["estimated_usd"], plan["unpriced_jobs"], plan["replay"]) == (2, None, 2, None)


def test_a_replay_is_made_watched_and_not_made_twice(cli: Cli, link: Link) -> None:
    old = failed(link)
    first = cli("replay", "--state", "failed", "--note", "outage", "--no-watch", "--json")
    assert first.exit_code == 0, first.stderr
    (plan,) = documents(first)
    replay = plan["replay"]
    assert "@" in replay["made_by"]
    assert f"stop {replay['id']}" in first.stderr
    again = cli("replay", "--state", "failed")
    assert (again.exit_code, "nothing is replayed" in again.stdout, replay["id"] in again.stdout) == (0, True, True)
    link.execute("SELECT FROM assayline.replay_portion(10)")
    [new] = made(link)
    end(link, new, "succeeded")
    watched = cli("replays", "watch", replay["id"])
    assert (watched.exit_code, "1 succeeded" in watched.stdout) == (0, True)
    assert "done  1 of 1 made" in watched.stderr
    shown = cli("job", old).stdout
    assert "replayed by" in shown
    assert str(new) in shown
    assert old in cli("job", new).stdout
    (listed,) = documents(cli("replays", "--json"))
    assert (listed["id"], listed["state"], listed["note"]) == (replay["id"], "done", "outage")
    assert "outage" in cli("replays").stdout


def test_watching_follows_to_the_end_and_a_failure_is_exit_code_1(cli: Cli, link: Link, database_url: str) -> None:
    failed(link)

    def fleet() -> None:
        with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as own:
            eventually(lambda: own.execute("SELECT * FROM assayline.replay_portion(1)").fetchall())
            [new] = made(own)
            end(own, new, "failed")

    thread = threading.Thread(target=fleet)
    thread.start()
    told = cli("replay", "--all", "--with-max-tokens", "900", "--json")
    thread.join()
    plan, last = documents(told)
    assert (told.exit_code, plan["replay"]["changes"]) == (1, {"max_tokens": 900})
    assert (last["state"], last["made"], last["outcomes"]) == ("done", 1, {"failed": 1})


CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'assayline' AND state = 'idle'
"""


def test_watching_outlasts_a_restart_of_postgres(
    cli: Cli, link: Link, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replay goes on though connections broke, and so does who watches it."""
    failed(link)
    (plan,) = documents(cli("replay", "--all", "--no-watch", "--json"))
    seen, over = threading.Event(), watching._over

    def judged(last: Standing) -> bool:
        seen.set()
        return over(last)

    def restart() -> None:
        assert seen.wait(30)
        with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as own:
            eventually(lambda: own.execute(CUT).fetchall())
            own.execute("SELECT FROM assayline.replay_portion(1)")
            [new] = made(own)
            end(own, new, "succeeded")

    monkeypatch.setattr(watching, "_over", judged)
    thread = threading.Thread(target=restart)
    thread.start()
    watched = cli("replays", "watch", plan["replay"]["id"])
    thread.join()
    assert (watched.exit_code, "1 succeeded" in watched.stdout) == (0, True), watched.stderr
    assert watched.stderr.count("Postgres does not answer") == 1


async def test_an_outage_is_told_once_and_ends_no_watch_that_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = [OSError("away"), "first", OSError("away"), OSError("away"), "second", ValueError("ours")]
    said: list[str] = []

    async def standing(*_: object) -> Any:
        if isinstance(one := seen.pop(0), Exception):
            raise one
        return one

    monkeypatch.setattr("tasks.replay.book.standing", standing)
    monkeypatch.setattr(Screen, "say", lambda _, text: said.append(text))
    look = watching._Look(create_engine_of_nothing(), UUID(int=1), None, Screen(as_json=False))
    with pytest.raises(OSError, match="away"):
        await look()
    assert [await look() for _ in range(4)] == ["first", "first", "first", "second"]
    assert len(said) == 1
    with pytest.raises(ValueError, match="ours"):
        await look()


def test_orders_from_the_command_line(cli: Cli, link: Link) -> None:
    failed(link)
    (plan,) = documents(cli("replay", "--all", "--no-watch", "--json"))
    replay = plan["replay"]["id"]
    for order, state in (("pause", "paused"), ("resume", "running"), ("pause", "paused")):
        told = cli("replays", order, replay)
        assert (told.exit_code, state in told.stdout) == (0, True)
        assert ("until it is resumed" in told.stderr) is (order == "pause")
        assert ("it runs without" in told.stderr) is (order == "resume")
    watched = cli("replays", "watch", replay)
    assert (watched.exit_code, f"resume | stop {replay}" in watched.stderr) == (1, True)
    assert documents(cli("replays", "stop", replay, "--json"))[0]["state"] == "stopped"
    told = cli("replays", "resume", replay)
    assert (told.exit_code, "is stopped" in told.stderr) == (3, True)


def test_watching_stops_when_its_time_is_up_and_wonders_who_makes_the_jobs(
    cli: Cli, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SILENT_S", 0.0)
    failed(link)
    told = cli("replay", "--all", "--timeout", "0.05")
    assert (told.exit_code, "it runs without this command" in told.stderr) == (1, True)
    assert told.stderr.count("is a dispatcher running?") == 1


def test_a_key_makes_the_same_command_the_same_replay(cli: Cli, link: Link) -> None:
    for _ in range(2):
        failed(link)
    command = ("replay", "--all", "--limit", "1", "--idempotency-key", "k", "--no-watch")
    first, again = documents(cli(*command, "--json"))[0], documents(cli(*command, "--json"))[0]
    assert (first["created"], again) == (True, {**first, "created": False})
    shown = cli(*command)
    assert (shown.exit_code, "by this very request, and not once more" in shown.stdout) == (0, True)
    tried = cli("replay", "--all", "--limit", "1", "--idempotency-key", "k", "--dry-run")
    assert (tried.exit_code, first["replay"]["id"] in tried.stderr) == (0, True)  # and it is not watched
    other = cli("replay", "--all", "--limit", "2", "--idempotency-key", "k")
    assert (other.exit_code, "--idempotency-key: was used for another request" in other.stderr) == (3, True)


def test_another_bound_of_tokens_makes_the_estimate_less_sure(cli: Cli, link: Link) -> None:
    link.execute(
        "INSERT INTO assayline.calls (job_id, claim_no, call_no, kind, outcome, tenant, analysis, provider, account,"
        " model, incarnation, started_at, input_tokens, output_tokens, cost_usd)"
        " SELECT id, 1, 1, 'answer', 'succeeded', tenant, analysis, provider, 'main', model, id, now(), 9, 9, 0.5"
        " FROM assayline.jobs WHERE id = %s",
        (failed(link),),
    )
    told = [cli("replay", "--all", "--dry-run", *more).stdout for more in ((), ("--with-max-tokens", "9000"))]
    assert ["they may be longer, and cost more" in one for one in told] == [False, True]


def test_while_another_replay_is_made_the_message_is_true(
    cli: Cli, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "TURN_WITHIN_S", 0.05)
    failed(link)
    with link.transaction():
        link.execute("SELECT pg_advisory_xact_lock(hashtextextended('assayline.replay', 0))")
        told = cli("replay", "--all")
    assert (told.exit_code, "another replay is being made" in told.stderr) == (1, True)
    with link.transaction():
        link.execute("LOCK TABLE assayline.replays")
        monkeypatch.setattr(engine, "SESSION", "SET lock_timeout TO '50ms'")
        held = cli("replays")
    assert (held.exit_code, "others hold what it needs" in held.stderr) == (1, True)
    assert "is the server running" not in told.stderr + held.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "say --all"),
        (["--again"], "say --all"),
        (["--all", "--error", "timeout"], "either a filter or all"),
        (["--state", "succeeded"], "say which of them, or --all, too"),
        (
            ["--ended-after", "2h", "--idempotency-key", "k"],
            "--ended-after: with --idempotency-key say the time",
        ),
        (["--all", "--idempotency-key", "x" * 256], "--idempotency-key: "),
        (["--state", "running"], "--state: "),
        (["--ended-after", "yesterday"], "--ended-after: must be an ISO 8601 time"),
        (["--ended-after", "99999d"], "--ended-after: must lie in the years"),
        (["--all", "--rate", "0"], "--rate: "),
        (["--all", "--limit", "0"], "--limit: "),
        (["--all", "--with-priority", "10"], "--with-priority: "),
        (["--all", "--with-max-cost-usd", "much"], "--with-max-cost-usd: "),
        (["--all", "--with-model", "fake/odd"], "--with-model: 'fake/odd' is not in the catalog"),
        (["--all", "--with-provider", "nobody"], "--with-provider: 'nobody' is not configured"),
        (["--all", "--with-prompt-version", "v99"], "--with-prompt-version: "),
        (["--all", "--with-model", "a/b", "--with-current-chain"], "name one of model and current_chain"),
        (["01939f6e-0000-7000-8000-000000000000"], "no such job: 01939f6e-0000-7000-8000-000000000000"),
        (["17"], "UUID"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_asked_for_is_named_by_its_option(cli: Cli, link: Link, args: list[str], said: str) -> None:
    failed(link)
    told = cli("replay", *args)
    assert (told.exit_code, told.stdout) == (3, "")
    assert said in told.stderr
    assert link.execute("SELECT FROM assayline.replays").fetchall() == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["pause"], "wants the id"),
        (["watch", "01939f6e-0000-7000-8000-000000000000"], "no replay"),
        (["rewind"], "watch"),
    ],
    ids=" ".join,
)
def test_orders_that_cannot_be(cli: Cli, args: list[str], said: str) -> None:
    told = cli("replays", *args)
    assert (told.exit_code, said in told.stderr) == (3, True)


def test_ctrl_c_leaves_the_replay_running_and_says_how_to_go_on(cli: Cli, link: Link, database_url: str) -> None:
    failed(link)
    argv = [sys.executable, "-m", "ops.cli.main", "replay", "--all"]
    env = {**os.environ, "ASSAYLINE_DATABASE_URL": database_url}
    # A shell that starts tests in the background has them ignore Ctrl-C, and what they start inherits that.
    heeding = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        begun = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, heeding)
    with begun as process:
        assert process.stderr is not None
        head = process.stderr.readline()
        assert "it runs without this command" in head
        assert "running" in process.stderr.readline()  # it watches
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    [replay] = link.execute("SELECT id, state FROM assayline.replays").fetchall()
    assert (process.returncode, replay["state"]) == (130, "running")
    assert f"assayline replays watch {replay['id']}" in rest
    assert "Traceback" not in rest


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch, link: Link, cli: Cli, database_url: str) -> None:
    from io import StringIO

    from rich.console import Console

    from ops.cli.replay_view import progress
    from tasks.engine import create_engine
    from tasks.replay.book import standing

    failed(link)
    (plan,) = documents(cli("replay", "--all", "--no-watch", "--json"))
    link.execute("SELECT FROM assayline.replay_portion(10)")
    screen = Screen(as_json=False)
    screen.err = Console(file=StringIO(), force_terminal=True, width=120)

    async def shown() -> None:
        engine = create_engine(database_url, pool_size=1)
        async with engine.connect() as connection:
            with progress(screen) as show:
                show(await standing(connection, plan["replay"]["id"]))
        await engine.dispose()

    asyncio.run(shown())
    drawn = screen.err.file.getvalue()  # type: ignore[attr-defined]
    assert "new jobs made" in drawn
    assert "1/1" in drawn
    assert "1 scheduled" in drawn
