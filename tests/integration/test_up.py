"""`assayline up` as an operator runs it: everything ready, one owner, a clean end, no orphan."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.catalog import load_catalog
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from ops.cli.stack import services
from ops.embedded.service import command_line
from tasks.producer import Client

DEADLINE_S = 60.0
UP = [sys.executable, "-m", "ops.cli.main", "up", "--json"]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def environment(**extra: str) -> dict[str, str]:
    """No provider but the scripted one: no model to load, no key to leak in from outside."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return {**kept, "ASSAYLINE_FAKE": "1", **extra}


class Up:
    def __init__(self, directory: Path, process: subprocess.Popen[str]) -> None:
        self.directory, self.process = directory, process
        assert process.stdout is not None
        self.ready: dict[str, Any] = json.loads(process.stdout.readline())

    def descendants(self) -> list[int]:
        """The pids of all processes whose command line names this directory, `up` itself left out."""
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        return [pid for pid in pids if pid != self.process.pid and str(self.directory) in command_line(pid)]

    def flower(self, user: str) -> int:
        login = "Basic " + base64.b64encode(user.encode()).decode()
        return self._status(self.ready["urls"]["flower"] + "/workers", login)

    def api(self, path: str, key: str = "") -> int:
        return self._status(self.ready["urls"]["api"] + path, f"Bearer {key}")

    def _status(self, url: str, login: str) -> int:
        request = urllib.request.Request(url, headers={"Authorization": login})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    directory = tmp_path / ".assayline"
    argv = [*UP, f"--dir={directory}"]
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Up(directory, process)
        finally:
            process.kill()


pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")


def test_everything_runs_and_ends_with_one_signal(up: Up) -> None:
    """A job handed over through the HTTP API included, up to its result."""
    for process in ("ops.cli.main dispatcher", "ops.cli.main beat", "ops.cli.main worker --provider=fake"):
        wait_until(lambda text=f"-m {process}": any(text in command_line(pid) for pid in up.descendants()))
    env_file = Path(up.ready["env_file"])
    assert env_file.stat().st_mode & 0o777 == 0o600
    urls = dict(line.removeprefix("export ").rstrip("'").split("='") for line in env_file.read_text().splitlines())
    with psycopg.connect(urls["ASSAYLINE_DATABASE_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM assayline.jobs").fetchone() == (0,)
    password = (up.directory / "flower.password").read_text()
    assert up.flower(f"assayline:{password}") == 200
    assert up.flower("assayline:wrong") == 401
    key = up.directory / "api.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert [up.api("/v1/jobs", key.read_text()), up.api("/v1/jobs", "wrong"), up.api("/health/ready")] == [
        200,
        401,
        200,
    ]
    with Client(up.ready["urls"]["api"], api_key=key.read_text()) as client:
        receipt = client.enqueue("code_quality", "x = 1", lane="interactive")
        job = client.wait(receipt.id, DEADLINE_S)
    assert (job.state, [call["outcome"] for call in job.calls]) == ("succeeded", ["succeeded"])
    assert job.result is not None
    assert job.result.data is not None
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(DEADLINE_S) == 0
    assert up.descendants() == []


def test_what_lies_in_the_operators_directory_is_not_taken_for_ours(tmp_path: Path) -> None:
    """A web app has often a `tasks` of its own, and a file called as one of our libraries."""
    for name in ("tasks", "workers", "api", "gateway", "ops", "h11", "redis"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')")
    argv, env = [sys.executable, "-P", *UP[1:]], environment(PYTHONPATH=str(Path(__file__).parents[2]))
    with subprocess.Popen(
        argv, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, "not ours" in log) == (0, False), log
    assert "flower" in json.loads(ready)["urls"]


def test_a_second_one_in_the_same_directory_is_told_who_is_there(up: Up) -> None:
    argv = [*UP, f"--dir={up.directory}"]
    second = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert second.returncode == 2
    assert f"in use by process {up.process.pid}" in second.stderr
    assert up.process.poll() is None


def test_after_a_kill_no_process_is_left_and_the_next_one_starts(up: Up) -> None:
    up.process.kill()
    up.process.wait()
    wait_until(lambda: up.descendants() == [])
    argv = [*UP, f"--dir={up.directory}"]
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, text=True) as again:
        assert Up(up.directory, again).ready["urls"]["postgres"] == up.ready["urls"]["postgres"]
        again.terminate()
        assert again.wait(DEADLINE_S) == 0


def composed(directory: Path, env: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    stack = services(Settings.from_env(env), load_catalog(None, env), directory, env)
    stack.release()
    return [child.name for child in stack.children], dict(stack.env)


def test_a_url_in_the_environment_replaces_its_embedded_store(tmp_path: Path) -> None:
    """It is told to other terminals as an embedded one's is: what is started there speaks to the same servers."""
    urls = {
        "ASSAYLINE_DATABASE_URL": "postgresql://elsewhere/db",
        "ASSAYLINE_REDIS_URL": "redis://elsewhere",
        "ASSAYLINE_BROKER_URL": "amqp://elsewhere",
    }
    names, told = composed(tmp_path, environment(**urls))
    assert names == ["migrate", "dispatcher", "worker-fake", "beat", "api", "flower"]
    assert told == urls


def test_an_unusable_key_of_the_api_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ASSAYLINE_API_KEY must be"):
        composed(tmp_path, environment(ASSAYLINE_API_KEY="short"))
    composed(tmp_path, environment(ASSAYLINE_API_KEY="0123456789abcdef"))  # nothing was kept


def test_without_any_provider_the_small_model_serves(tmp_path: Path) -> None:
    names, added = composed(tmp_path, environment(ASSAYLINE_FAKE="0"))
    assert {"valkey", "postgres", "model", "worker-local"} <= set(names)
    assert set(added) == {"ASSAYLINE_REDIS_URL", "ASSAYLINE_DATABASE_URL", "ASSAYLINE_LOCAL_BASE_URL"}


def test_each_configured_provider_has_a_worker_and_no_model_is_loaded(tmp_path: Path) -> None:
    names, _ = composed(tmp_path, environment(OPENAI_API_KEY="not-a-key"))
    assert {"worker-openai", "worker-fake"} <= set(names)
    assert "model" not in names
