"""`assayline api` as an operator runs it: what it refuses at its start, what it serves, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from apiworld import KEY, mirror_into
from nodes.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

API = [sys.executable, "-m", "ops.cli.main", "api", "--json", "--port=0"]
DEADLINE_S = 60.0
LOOKS = """
SELECT FROM pg_stat_activity
 WHERE datname = current_database() AND state = 'idle' AND query LIKE 'SELECT public.assayline_get%'
"""


@pytest.fixture
def env(database_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    mirror_into(database_url)
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    stores = {"ASSAYLINE_DATABASE_URL": database_url, "ASSAYLINE_REDIS_URL": redis_url}
    return {**kept, **stores, "ASSAYLINE_FAKE": "1", "ASSAYLINE_API_KEY": KEY}


def refused(env: dict[str, str], *options: str) -> str:
    done = subprocess.run([*API, *options], env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_without_a_key_it_does_not_start(env: dict[str, str]) -> None:
    del env["ASSAYLINE_API_KEY"]
    assert "openssl rand" in refused(env)


@contextmanager
def running(env: dict[str, str], *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    argv = [*API, *options]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            yield process, json.loads(line)["url"]
        finally:
            process.kill()


def asked(url: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        return answer.status, json.load(answer)


def test_it_serves_and_a_signal_ends_it_while_somebody_waits(env: dict[str, str]) -> None:
    with running(env) as (process, url):
        assert url.startswith("http://127.0.0.1:")
        assert asked(f"{url}/health/ready")[0] == 200
        status, job = asked(f"{url}/v1/jobs", {"analysis": "code_quality", "content": "x = 1"})
        assert status == 202
        assert not looked_at(env["ASSAYLINE_DATABASE_URL"])
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=DEADLINE_S) as waiter:
            head = f"GET /v1/jobs/{job['id']}?wait=60 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"
            waiter.sendall(head.encode())
            eventually(lambda: looked_at(env["ASSAYLINE_DATABASE_URL"]))
            process.send_signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: waiter.recv(65_536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b'"state":"scheduled"' in answer
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr is not None
        log = process.stderr.read()
    assert f"GET /v1/jobs/{job['id']} status=200" in log
    assert KEY not in log
    assert "Traceback" not in log
    assert "alembic" not in log


def looked_at(database_url: str) -> bool:
    """Whether the process has looked at a job and paused: the last statement of one of its connections was the look."""
    with psycopg.connect(database_url) as link:
        return bool(link.execute(LOOKS).fetchall())
