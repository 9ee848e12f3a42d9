"""The proxy's process, and what the bench tells it."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from ops.bench.stack import START_S, Stack
from ops.supervisor.ports import LOOPBACK

Order = Literal["reset", "refuse", "stall", "pass"]
"""See `ops.bench.faults.proxy`."""


class Links:
    """Links by name, each to the server of a URL; `close` it."""

    def __init__(self, stack: Stack, urls: Mapping[str, str]) -> None:
        """Start the proxy."""
        server_ports = {name: urlsplit(url).port for name, url in urls.items()}
        argv = [sys.executable, "-m", "ops.bench.faults.proxy", json.dumps(server_ports)]
        running = stack.start("proxy", argv)
        stack.until(lambda: running.log.read_bytes().endswith(b"\n"), START_S, "the proxy's ports")
        ports = json.loads(running.log.read_text())
        self._urls = {name: at(url, ports[name]) for name, url in urls.items()}
        self._control = socket.create_connection((LOOPBACK, ports["control"]), timeout=START_S)
        self._answers = self._control.makefile("r")

    def url(self, name: str) -> str:
        """Where a link's server is reached through it."""
        return self._urls[name]

    def tell(self, name: str, order: Order) -> int:
        """Do something to a link; how many connections that struck."""
        self._control.sendall(f"{name} {order}\n".encode())
        return int(self._answers.readline())

    def close(self) -> None:
        """Close the connection to the proxy, which ends with the stack."""
        self._answers.close()
        self._control.close()


def at(url: str, port: int) -> str:
    """Return a URL with loopback and another port in place of its host's."""
    parts = urlsplit(url)
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urlunsplit(parts._replace(netloc=f"{user}{LOOPBACK}:{port}"))
