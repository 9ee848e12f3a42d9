"""The command line without servers: parsing, help, errors, exit codes, what is judged and how it looks."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.errors import ConfigurationError
from ops.bench import BENCHES
from ops.bench.report import Check, Options, Report
from ops.cli import main, target
from ops.cli.doctor import installation, stores, work
from ops.cli.doctor.finding import Verdict
from ops.cli.troubles import KINDS, report
from ops.cli.view import cost_text, digest, safe
from tasks.producer.errors import MAX_BYTES
from tasks.producer.jobs import OPTIONS
from workers.logs import QUIET, configure_logging

NAMES = [entry.name for entry in main.COMMANDS]
IMPORT_LIMIT_S = 1.5
OURS = ("ASSAYLINE_", "OPENAI_", "LLM_", "LOG_", "TRACE_")

Cli = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run a command line in an empty directory and an empty environment."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return lambda *args, **more: CliRunner().invoke(main.app, list(args), **more)


def fresh(code: str) -> Any:
    """Run code in an interpreter of its own; return what it prints last, read as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


HELP = """
import json, resource, sys
from ops.cli.main import app
app({args}, standalone_mode=False)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({{"cpu_s": used.ru_utime + used.ru_stime, "modules": sorted(sys.modules)}}))
"""


@pytest.mark.parametrize("args", [["--help"], *([name, "--help"] for name in NAMES)], ids=" ".join)
def test_help_is_quick_and_imports_neither_celery_nor_an_sdk(args: list[str]) -> None:
    """CPU time rather than the clock: the machine may be busy."""
    seen = fresh(HELP.format(args=args))
    assert seen["cpu_s"] < IMPORT_LIMIT_S
    assert not {"celery", "kombu", "openai", "alembic"} & set(seen["modules"])


def test_help_lists_every_command_with_its_line(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.exit_code == 0
    for entry in main.COMMANDS:
        assert f" {entry.name} " in shown.stdout
        assert entry.line.split(",")[0] in " ".join(shown.stdout.replace("│", "").split())


def test_without_arguments_it_helps(cli: Cli) -> None:
    shown = cli()
    assert (shown.exit_code, "Usage: assayline" in shown.stdout) == (0, True)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_offers_json_and_tells_what_it_does(name: str) -> None:
    command = main.load(next(entry for entry in main.COMMANDS if entry.name == name))
    assert "--json" in {option for parameter in command.params for option in parameter.opts}
    assert len(command.help) > 40


@pytest.mark.parametrize("name", [name for name in NAMES if name != "up"])
def test_help_holds_an_example(name: str) -> None:
    command = main.load(next(entry for entry in main.COMMANDS if entry.name == name))
    assert f"assayline {name}" in command.help


def test_bench_is_told_how_many_jobs_and_which_seed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--jobs` is another name of `-n`."""
    heard: list[Options] = []

    def measure(options: Options) -> Report:
        heard.append(options)
        return Report(
            "chaos", [Check("x", 0, "", "=", 0)], [{"a": 1}], tables={"faults of seed 7": [{"fault": "FLUSHALL"}]}
        )

    monkeypatch.setitem(BENCHES, "chaos", measure)
    shown = cli("bench", "chaos", "--jobs", "50", "--seed", "7")
    assert shown.exit_code == 0
    assert "FLUSHALL" in shown.stdout
    told = json.loads(cli("bench", "chaos", "-n", "50", "--seed", "7", "--json").stdout)
    assert told["tables"] == {"faults of seed 7": [{"fault": "FLUSHALL"}]}
    assert [(options.n, options.seed) for options in heard] == [(50, 7), (50, 7)]


def test_bench_lists_the_benches(cli: Cli) -> None:
    shown = cli("bench", "--help").stdout
    assert "job-cost" in shown
    assert "latency" in shown


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["jbos"], "Did you mean 'jobs'"),
        (["jobs", "--limit", "many"], "--limit"),
        (["jobs", "--state", "dead"], "--state"),
        (["job", "17"], "UUID"),
        (["worker", "--slots", "0"], "--slots"),
        (["bench", "speed"], "job-cost"),
        (["wait"], "Missing argument"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bad_input_is_one_line_and_exit_code_3(cli: Cli, args: list[str], said: str) -> None:
    told = cli(*args)
    assert told.exit_code == 3
    assert said in told.stderr
    assert told.stdout == ""
    assert "Traceback" not in told.stderr


def test_with_json_an_error_is_a_document_too(cli: Cli) -> None:
    told = cli("jobs", "--json")
    error = json.loads(told.stdout)["error"]
    assert (told.exit_code, error["code"], error["kind"]) == (2, 2, "configuration")
    assert "ASSAYLINE_DATABASE_URL" in error["message"]


@pytest.mark.parametrize("args", [["jobs"], ["migrate"], ["worker"], ["dispatcher"], ["beat"]], ids=" ".join)
def test_no_installation_to_speak_to_is_exit_code_2_and_says_what_to_do(cli: Cli, args: list[str]) -> None:
    told = cli(*args)
    assert told.exit_code == 2
    assert "ASSAYLINE_DATABASE_URL is not set" in told.stderr
    assert "assayline up" in told.stderr


def test_a_wrong_variable_is_named(cli: Cli) -> None:
    told = cli("worker", env={"LOG_LEVEL": "LOUD"})
    assert (told.exit_code, "LOG_LEVEL is one of" in told.stderr) == (2, True)


def test_going_down_asks_and_is_refused_where_nobody_can_answer(cli: Cli) -> None:
    told = cli("migrate", "--down", "base", env={"ASSAYLINE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"})
    assert (told.exit_code, "--yes" in told.stderr) == (3, True)


def test_ctrl_c_is_quiet(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Path) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(target, "database_url", interrupted)
    told = cli("jobs")
    assert (told.exit_code, told.output) == (130, "")


def test_a_fault_of_ours_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(KeyError("lost"), as_json=False) == 70
    assert "KeyError" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.module}.{kind.name}")
def test_every_kind_of_trouble_names_a_class_that_exists(kind: Any) -> None:
    assert issubclass(getattr(import_module(kind.module), kind.name), Exception)


def test_a_subclass_stands_before_its_base_in_the_table() -> None:
    classes = [(getattr(import_module(kind.module), kind.name), bool(kind.holding)) for kind in KINDS]
    for place, (one, _) in enumerate(classes):
        assert not any(issubclass(one, other) and not narrow for other, narrow in classes[:place])


# submit ---------------------------------------------------------------------------------------------------------------


def test_every_field_of_a_job_is_an_option_of_submit() -> None:
    command = main.load(next(entry for entry in main.COMMANDS if entry.name == "submit"))
    assert set(OPTIONS) <= {parameter.name for parameter in command.params}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x" * (MAX_BYTES + 1), "more than 1,048,576 bytes"),
        (b"caf\xe9 au lait", "is not UTF-8 at byte 3"),
        (b"a\0b", "has a NUL byte at 1"),
        (b" \n", "is empty"),
    ],
    ids=["large", "latin-1", "nul", "empty"],
)
def test_a_file_that_cannot_be_sent_is_named(cli: Cli, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "bad.txt").write_bytes(content)
    told = cli("submit", "code_quality", "good.txt", "bad.txt")
    assert told.exit_code == 3
    assert f"bad.txt: {said}" in told.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "nothing to judge"),
        (["absent.py"], "absent.py: No such file"),
        (["."], ".: Is a directory"),
        (["-", "-"], "stdin"),
        (["-", "a", "--idempotency-key", "k"], "--idempotency-key"),
        (["-", "--context", "labels"], "k=v"),
        (["-", "--context", "@absent.json"], "No such file"),
        (["-", "--context", "@list.json"], "must hold a JSON object"),
        (["-", "--schema", "{"], "--schema: not JSON"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_submitted_is_said(cli: Cli, tmp_path: Path, args: list[str], said: str) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "a").write_text("a")
    told = cli("submit", "code_quality", *args, input="text")
    assert (told.exit_code, said in told.stderr) == (3, True), told.stderr


def test_context_comes_from_files_and_pairs_the_later_one_winning(tmp_path: Path) -> None:
    from ops.cli.submit import _context

    (tmp_path / "context.json").write_text('{"labels": ["a"], "guidance": "g"}')
    given = [f"@{tmp_path / 'context.json'}", 'labels=["b", "c"]', "file_path=src/a=b.py", "n=3"]
    assert _context(given) == {"labels": ["b", "c"], "guidance": "g", "file_path": "src/a=b.py", "n": 3}


# which installation ---------------------------------------------------------------------------------------------------


@pytest.fixture
def up_directory(tmp_path: Path) -> Path:
    """What a running `assayline up` (this process) leaves in its directory."""
    (tmp_path / target.UP_LOCK).write_text(str(os.getpid()))
    (tmp_path / target.UP_ENV).write_text(
        "export ASSAYLINE_DATABASE_URL='postgresql://up@h/db?sslmode=disable'\nexport ASSAYLINE_REDIS_URL='redis://up'\n"
    )
    return tmp_path


def test_a_running_up_gives_what_the_environment_does_not(up_directory: Path) -> None:
    found = target.environment(up_directory, {"ASSAYLINE_REDIS_URL": "redis://mine", "HOME": "/h"})
    assert found == {
        "ASSAYLINE_DATABASE_URL": "postgresql://up@h/db?sslmode=disable",
        "ASSAYLINE_REDIS_URL": "redis://mine",
        "HOME": "/h",
    }


def test_an_empty_variable_counts_as_not_set_and_a_file_as_set(up_directory: Path) -> None:
    env = {"ASSAYLINE_REDIS_URL": " ", "ASSAYLINE_DATABASE_URL_FILE": "/run/url"}
    assert target.environment(up_directory, env) == {
        "ASSAYLINE_REDIS_URL": "redis://up",
        "ASSAYLINE_DATABASE_URL_FILE": "/run/url",
    }


def test_an_up_that_has_ended_gives_nothing(up_directory: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (up_directory / target.UP_LOCK).write_text(str(ended.pid))
    assert target.environment(up_directory, {}) == {}


def test_a_url_of_another_kind_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        target.checked("mysql://user:secret@host/db", target.DATABASE, tmp_path)
    assert "ASSAYLINE_DATABASE_URL must begin with postgresql://" in str(refused.value)
    assert "secret" not in str(refused.value)


# doctor ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "verdict"),
    [
        ({"redis_version": "6.2.0"}, Verdict.GOOD),
        ({"redis_version": "6.0.16"}, Verdict.WRONG),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.1"}, Verdict.GOOD),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.5"}, Verdict.WRONG),
    ],
)
def test_redis_must_be_new_enough(info: Mapping[str, Any], verdict: Verdict) -> None:
    assert stores.redis_version(info, "here").verdict is verdict


@pytest.mark.parametrize(
    ("info", "verdict"),
    [
        ({"maxmemory_policy": "noeviction", "maxmemory": 1}, Verdict.GOOD),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 1}, Verdict.WRONG),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 0}, Verdict.ODD),
    ],
)
def test_redis_must_not_evict(info: Mapping[str, Any], verdict: Verdict) -> None:
    assert stores.eviction(info).verdict is verdict


def test_redis_without_a_file_is_odd() -> None:
    assert stores.persistence({"aof_enabled": 0}).verdict is Verdict.ODD
    assert stores.persistence({"aof_enabled": 1}).verdict is Verdict.GOOD


def test_postgres_must_be_new_enough() -> None:
    assert stores.postgres_version(140003, "here").said == "PostgreSQL 14.3 at here"
    assert stores.postgres_version(139999, "here").verdict is Verdict.WRONG


def waiting(**changes: Any) -> dict[str, Any]:
    return {"scheduled": 0, "due": 0, "queued": 0, "running": 0, "oldest_due_s": 0.0} | changes


def test_a_provider_without_a_worker_is_wrong_and_its_jobs_are_counted() -> None:
    live = {"openai": {"workers": 2, "slots": 400}}
    served, stranded = work.workers(["openai", "local"], live, {"local": waiting(scheduled=3, queued=1)})
    assert (served.verdict, served.said) == (Verdict.GOOD, "2 alive with 400 slots")
    assert (stranded.verdict, stranded.mend) == (Verdict.WRONG, "assayline worker --provider local")
    assert "4 jobs wait" in stranded.said


def test_a_long_backlog_is_odd() -> None:
    (queue,) = work.queues({"openai": waiting(scheduled=9, due=9, oldest_due_s=work.LONG_DUE_S + 1)})
    assert queue.verdict is Verdict.ODD
    assert "9 scheduled (9 due)" in queue.said


def test_no_dispatcher_and_stuck_jobs_are_wrong() -> None:
    assert work.dispatchers(0).mend == "assayline dispatcher"
    assert [finding.verdict for finding in work.stuck({"overdue": 1, "unclaimed": 2})] == [Verdict.WRONG] * 2
    assert [finding.verdict for finding in work.stuck({"overdue": 0, "unclaimed": 0})] == [Verdict.GOOD]


def test_jobs_that_could_not_be_counted_in_time_are_no_fault() -> None:
    assert work.found(None).verdict is Verdict.NOTED
    assert work.found({"scheduled": 3, "waiting": 3}).verdict is Verdict.GOOD


def test_a_broken_catalog_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text("providers: {}\ndefault: 1\n")
    settings, _ = installation.settings({"ASSAYLINE_CATALOG": str(tmp_path / "catalog.yaml")})
    assert settings is not None
    catalog, (finding,) = installation.catalog(settings, {})
    assert (catalog, finding.verdict) == (None, Verdict.WRONG)
    assert "catalog.yaml:2" in finding.said


def test_an_unconfigured_provider_says_which_variable_it_wants() -> None:
    settings, _ = installation.settings({})
    assert settings is not None
    catalog, _ = installation.catalog(settings, {})
    assert catalog is not None
    said = {finding.subject: finding for finding in installation.providers(catalog, {})}
    assert said["openai"].said.endswith("set OPENAI_API_KEY")
    assert said["providers"].verdict is Verdict.WRONG


# how it looks ---------------------------------------------------------------------------------------------------------


def test_what_others_wrote_cannot_command_the_terminal() -> None:
    assert safe("a\x1b[31mb\x07\tc\nd") == "a\ufffd[31mb\ufffd\tc\nd"


def test_a_digest_counts_what_is_said_twice() -> None:
    point = {"evidence": "x = 1", "name": "names"}
    shown = digest({"skills": [point, point], "gaps": [], "score": 7}).plain
    assert shown == "  score: 7\n  skills:\n    - x = 1 | names  (2 times)\n  gaps: none"


@pytest.mark.parametrize(
    ("cost", "text"), [(None, "cost unknown"), (0.0, "$0"), (Decimal("0.000120"), "$0.00012"), (12.5, "$12.5")]
)
def test_an_unknown_cost_is_not_nothing(cost: Decimal | float | None, text: str) -> None:
    assert cost_text(cost) == text


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in QUIET}
    yield root
    root.handlers[:], root.level = handlers, level
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)
    logging.captureWarnings(False)


def test_all_processes_log_in_one_format(root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("INFO")
    logging.getLogger("tasks.dispatch").warning("%d went out again", 2)
    logging.getLogger("httpx2").info("GET /")
    (line,) = stream.getvalue().splitlines()
    time, level, rest = line.split(maxsplit=2)
    assert (len(time), level, rest) == (12, "WARNING", "tasks.dispatch: 2 went out again")


def test_debug_shows_everything(root_logger: logging.Logger) -> None:
    configure_logging("DEBUG")
    assert logging.getLogger("httpx2").isEnabledFor(logging.DEBUG)
    assert len(root_logger.handlers) == 1
