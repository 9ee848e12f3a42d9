"""Health told over HTTP: what is answered to whom, and what cannot hold it up."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from nodes.health import health

from gateway.errors import ConfigurationError
from ops.cli.liveness import complaint
from ops.supervisor import ports
from workers.health.findings import Health, Problem
from workers.health.server import AT_ONCE, Address, answering
from workers.health.thresholds import Thresholds


@dataclass
class Watched:
    """Implements `workers.health.server.Watched`."""

    thresholds: Thresholds = field(default_factory=lambda: Thresholds(look_every_s=0.01))
    found: Health = field(default_factory=Health)
    looks: int = 0
    fails: bool = False
    looked: threading.Event = field(default_factory=threading.Event)
    closed: bool = False

    def look(self) -> None:
        self.looks += 1
        if self.looks >= 3:
            self.looked.set()
        if self.fails:
            raise RuntimeError("nobody thought of this")

    def health(self) -> Health:
        return self.found

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def port(watched: Watched):
    port = ports.pick()
    with answering(Address(port), watched):
        yield port
    assert watched.closed


def ask(port: int, method: str, path: str) -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path)
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def test_live_and_ready_are_two_answers(watched: Watched, port: int) -> None:
    assert (health(port, "live")[0], health(port, "ready")[0]) == (200, 200)
    watched.found = Health([Problem("broker", "away")], {"busy": 3})
    status, document = health(port, "live")
    assert (status, health(port, "ready")[0]) == (200, 503)
    assert document == {
        "live": True,
        "ready": False,
        "problems": [{"part": "broker", "problem": "away", "deadly": False}],
        "busy": 3,
    }
    watched.found = Health([Problem("loop", "stands still", deadly=True)])
    assert (health(port, "live")[0], health(port, "ready")[0]) == (503, 503)


def test_a_complaint_is_what_matters_to_who_asks(watched: Watched, port: int) -> None:
    url = f"http://127.0.0.1:{port}/health"
    assert complaint(f"{url}/live") is None
    watched.found = Health([Problem("broker", "away"), Problem("loop", "stands still", deadly=True)])
    assert complaint(f"{url}/live") == "loop: stands still"
    assert complaint(f"{url}/ready") == "broker: away; loop: stands still"
    assert "404" in str(complaint(f"{url}/elsewhere"))
    assert "refused" in str(complaint("http://127.0.0.1:1/health/live"))


def test_head_says_no_more_than_the_status_and_nothing_else_is_answered(port: int) -> None:
    assert ask(port, "HEAD", "/health/live")[:2] == (200, b"")
    assert ask(port, "GET", "/health/live?verbose=1")[0] == 200
    assert ask(port, "GET", "/")[0] == 404
    assert ask(port, "POST", "/health/live")[0] == 501
    assert ask(port, "GET", f"/{'x' * 70_000}")[0] == 414
    headers = ask(port, "GET", "/health/live")[2]
    assert (headers["Content-Type"], headers["Cache-Control"]) == ("application/json", "no-store")
    assert "Python" not in headers["Server"]


def test_those_who_connect_and_say_nothing_are_bounded(port: int) -> None:
    """One more than there is room for is turned away at once; when one leaves, there is room again."""
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(AT_ONCE)]
        refused = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        refused.settimeout(5)
        assert refused.recv(1) == b""
        silent[0].sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert silent[0].recv(12) == b"HTTP/1.0 200"


def test_looking_goes_on_though_a_look_fails(watched: Watched, port: int) -> None:
    watched.fails = True
    assert watched.looked.wait(5)
    assert health(port)[0] == 200


def test_an_address_that_cannot_be_had_is_said_with_its_option(watched: Watched, port: int) -> None:
    said = f"--health-port {port} cannot be listened at on 127.0.0.1"
    with pytest.raises(ConfigurationError, match=said), answering(Address(port), Watched()):
        pass


def test_without_an_address_nothing_is_looked_at(watched: Watched) -> None:
    with answering(None, watched):
        pass
    assert watched.looks == 0


def test_an_address_of_ipv6_is_written_as_a_url_has_it() -> None:
    assert Address(9100, "::1").url == "http://[::1]:9100/health/live"
