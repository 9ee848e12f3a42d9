"""`assayline health`: which API and which beat count as well."""

from __future__ import annotations

import json
import os
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from typer.testing import CliRunner

from ops.cli import main
from ops.cli.health import BEAT_SILENCE_S


class Answering(BaseHTTPRequestHandler):
    """Says the status that its path is."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def url():
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def health(url: str, **env: str):
    return CliRunner().invoke(main.app, ["health", "api", f"--url={url}"], env=env)


def test_an_api_is_well_when_it_answers_and_a_proxy_is_for_other_machines(url):
    assert health(f"{url}/200", http_proxy="http://127.0.0.1:1").exit_code == 0


def test_an_api_that_answers_with_an_error_or_not_at_all_is_not_well(url):
    refused = health(f"{url}/503")
    assert (refused.exit_code, "503" in refused.stderr) == (1, True)
    assert health("http://127.0.0.1:1").exit_code == 1


def test_beat_is_well_while_it_writes_when_it_ticked(tmp_path):
    def beat():
        return CliRunner().invoke(main.app, ["health", "beat", f"--state={tmp_path}"]).exit_code

    assert beat() == 1
    written = tmp_path / "beat.dat"
    written.touch()
    assert beat() == 0
    silent_since = time.time() - BEAT_SILENCE_S - 1
    os.utime(written, (silent_since, silent_since))
    assert beat() == 1


class Unwell(BaseHTTPRequestHandler):
    """Says that it is not ready, and why; live it is."""

    def do_GET(self) -> None:
        ready = self.path.endswith("/live")
        body = b'{"problems": [{"part": "broker", "problem": "away", "deadly": false}]}'
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def unwell_port():
    with HTTPServer(("127.0.0.1", 0), Unwell) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def of_itself(*words: str):
    return CliRunner().invoke(main.app, ["health", *words])


@pytest.mark.parametrize("process", ["worker", "dispatcher", "beat"])
def test_a_process_is_asked_itself_without_its_stores(process, unwell_port):
    """No database is named here: the answer is the process's own."""
    assert of_itself(process, f"--port={unwell_port}").exit_code == 0
    ready = of_itself(process, f"--port={unwell_port}", "--ready", "--json")
    assert ready.exit_code == 1
    assert json.loads(ready.stdout) == {"process": process, "ok": False, "problem": "broker: away"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["api", "--port=9100"], "asked by --url"),
        (["worker", "--ready"], "--ready needs the --port"),
        (["worker", "--port=0"], "Invalid value for '--port'"),
        (["worker", "--port=65536"], "Invalid value for '--port'"),
    ],
)
def test_what_cannot_be_asked_is_said(words, said):
    refused = of_itself(*words)
    assert (refused.exit_code, said in refused.stderr) == (3, True), refused.stderr
