"""`assayline demo` as a user meets it: the small model, after a kill, beside other servers, with a provider's key."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.providers.fake.schema_example import example
from ops.cli.demo_jobs import SAMPLES, SOURCE
from ops.embedded.service import command_line

DEADLINE_S = 240.0
USUAL_PORTS = (5432, 6379, 8000, 5555)

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc"),
    pytest.mark.timeout(2 * DEADLINE_S),
]


class Provider(ThreadingHTTPServer):
    """An OpenAI double: the shortest answer that satisfies the schema it is sent, or an HTTP error."""

    daemon_threads = True

    def __init__(self, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = status
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class _Answer(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps(_completion(asked) if self.server.status == 200 else {"error": {"message": "no"}}).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the test's output is the demo's."""


def _completion(asked: dict[str, Any]) -> dict[str, Any]:
    answer = json.dumps(example(asked["response_format"]["json_schema"]["schema"]))
    message = {"role": "assistant", "content": answer, "refusal": None}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": asked["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    }


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a demo in a directory of the test's own, with nothing of our environment but where programs lie."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    with ExitStack() as started:

        def run(*args: str, **env: str) -> subprocess.Popen[str]:
            argv = [sys.executable, "-m", "ops.cli.main", "demo", f"--dir={tmp_path / 'demo'}", *args]
            demo = subprocess.Popen(
                argv, env={**kept, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=SOURCE
            )
            os.sched_setaffinity(demo.pid, {min(os.sched_getaffinity(0))})  # the other tests have the other cores
            started.callback(demo.wait)
            started.callback(demo.kill)
            return demo

        yield run


def left_behind(directory: Path) -> list[str]:
    """The command lines of living processes that name the directory."""
    lines = (command_line(int(path.name)) for path in Path("/proc").glob("[0-9]*"))
    return [line for line in lines if str(directory) in line]


def ended(demo: subprocess.Popen[str], directory: Path) -> tuple[str, str]:
    """Wait for a demo's end; return what it wrote. One that hangs is told with its processes' log."""
    try:
        return demo.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        demo.kill()
        err = demo.communicate()[1]
        pytest.fail(f"no end within {DEADLINE_S} s\n{err}\n{(directory / 'demo' / 'demo.log').read_text()}")


def documents(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def test_small_model_after_a_kill_and_with_the_usual_ports_taken(start: Start, tmp_path: Path) -> None:
    with ExitStack() as busy:
        for port in USUAL_PORTS:
            taken = busy.enter_context(closing(socket.socket()))
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue  # somebody else's server: as good for this test
            taken.listen()
        first = start()
        assert first.stderr is not None
        assert any("running  call 1" in line for line in first.stderr), "it ended before any job ran"
        first.kill()
        first.communicate()
        until = time.monotonic() + DEADLINE_S
        while left := left_behind(tmp_path):
            assert time.monotonic() < until, left
            time.sleep(0.05)

        second = start("--json")
        out, err = ended(second, tmp_path)
    assert second.returncode == 0, err
    *jobs, summary = documents(out)
    assert [(job["analysis"], job["file"]) for job in jobs] == [(one.analysis, one.path) for one in SAMPLES]
    for job in jobs:
        assert job["state"] == "succeeded"
        assert (job["provider"], job["model"]) == ("local", "smollm2-135m")
        assert job["result"]["data"]
        assert job["result"]["output_tokens"] > 0
    assert len({job["analysis"] for job in jobs}) == 5
    assert summary["queues"] == "local.bulk 3, local.interactive 3"
    assert summary["small_model"]
    assert set(summary["seconds"]) == {"prepare", "start", "jobs", "stop"}
    assert left_behind(tmp_path) == []


def test_a_key_brings_the_real_provider_and_the_users_own_stores_are_left_alone(
    start: Start, provider: Provider, tmp_path: Path
) -> None:
    env = {
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": provider.url,
        "ASSAYLINE_DATABASE_URL": "postgresql://127.0.0.1:1/production",
        "ASSAYLINE_BROKER_URL": "redis://127.0.0.1:1",
    }
    demo = start(**env)
    out, err = ended(demo, tmp_path)
    assert demo.returncode == 0, err
    assert "ASSAYLINE_DATABASE_URL is set; the demo leaves it alone" in err
    assert out.count("openai/gpt-6-luna") == 5
    assert out.count("openai/gpt-6.1-terra") == 1
    assert out.count("1,000→100 tokens") == len(SAMPLES)
    assert "6 of 6 jobs succeeded" in out
    # 5 x (1000 x $0.10 + 100 x $0.50) + (1000 x $1 + 100 x $5), per million
    assert "cost: $0.00225" in out
    assert "queues: openai.bulk 3, openai.interactive 3" in out
    assert "SmolLM2" not in out
    assert left_behind(tmp_path) == []


def test_a_failed_job_is_shown_and_is_exit_code_1(start: Start, provider: Provider, tmp_path: Path) -> None:
    provider.status = 400
    demo = start(OPENAI_API_KEY="sk-test", OPENAI_BASE_URL=provider.url)
    out, err = ended(demo, tmp_path)
    assert demo.returncode == 1, err
    assert "0 of 6 jobs succeeded" in out
    assert "invalid_request" in out
    assert left_behind(tmp_path) == []


def test_ctrl_c_ends_it_quickly_and_quietly(start: Start, provider: Provider, tmp_path: Path) -> None:
    demo = start(OPENAI_API_KEY="sk-test", OPENAI_BASE_URL=provider.url)
    assert demo.stderr is not None
    assert any(line.startswith("starting") for line in demo.stderr)
    demo.send_signal(signal.SIGINT)
    out, err = ended(demo, tmp_path)
    assert (demo.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert left_behind(tmp_path) == []
