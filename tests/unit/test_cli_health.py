"""`assayline health api`: what counts as well."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from typer.testing import CliRunner

from ops.cli import main


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
