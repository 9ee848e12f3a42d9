"""Tells a process's health over HTTP: `/health/live` and `/health/ready`, 200 or 503, and why as JSON.

A thread of its own, and a few for those who ask: it answers while the event loop is blocked, and a process that cannot
even do that does not answer, which is an answer too.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Protocol

from gateway.errors import ConfigurationError
from workers.health.findings import Health
from workers.health.neighbours import Looks
from workers.health.thresholds import Thresholds

LOOPBACK = "127.0.0.1"
LIVE, READY = "/health/live", "/health/ready"
AT_ONCE = 16
"""Connections answered at a time; one more is closed unanswered."""
REQUEST_S = 5.0
"""How long one may take to say what it wants."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to answer. `host`: loopback unless somebody else asks, as a Kubernetes node does."""

    port: int
    host: str = LOOPBACK

    @property
    def url(self) -> str:
        """Of the live check."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}{LIVE}"


class Watched(Protocol):
    """Something whose health is known: looked at now and then, judged at any time."""

    thresholds: Thresholds

    def look(self) -> None:
        """Look at the neighbours."""
        ...

    def health(self) -> Health:
        """Judge."""
        ...

    def close(self) -> None:
        """Let go of what looking held."""
        ...


@contextmanager
def answering(address: Address | None, watched: Watched) -> Iterator[None]:
    """Answer for as long as the body runs; without an address, not at all.

    Raises:
        ConfigurationError: the address cannot be had.
    """
    if address is None:
        yield
        return
    server = _Server(address, watched.health)
    looks = Looks(watched.look, watched.thresholds.look_every_s, watched.close)
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    looks.start()
    log.info("health is told at %s", address.url)
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        looks.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = AT_ONCE

    def __init__(self, address: Address, health: Callable[[], Health]) -> None:
        self.health = health
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            super().__init__((address.host, address.port), _Handler)
        except OSError as error:
            raise ConfigurationError(
                f"--health-port {address.port} cannot be listened at on {address.host}: {error.strerror or error}"
            ) from error

    def server_bind(self) -> None:
        """Bind, without asking a name server for the host's name as the standard library's HTTP server does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread, or not at all where too many are."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """See `ThreadingMixIn`."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One who hangs up in the middle is no news."""
        log.debug("a question after the health broke off")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_S
    server_version = "assayline"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a question."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer a question briefly."""
        self._answer(with_body=False)

    def log_message(self, *_: Any) -> None:
        """Probes come every few seconds: not a line for each."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if path in (LIVE, READY):
            health = self.server.health()
            well = health.live if path == LIVE else health.ready
            status, document = (HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE), health.document()
        else:
            status, document = HTTPStatus.NOT_FOUND, {"problem": f"there is {LIVE} and {READY}"}
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)
