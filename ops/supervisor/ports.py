"""TCP ports on loopback: which are free, and what answers there."""

from __future__ import annotations

import random
import socket
import urllib.request
from typing import Any

LOOPBACK = "127.0.0.1"
FIRST, LAST = 20_000, 32_000
"""Below the ephemeral ranges (Linux 32768, macOS 49152): no outgoing connection takes a port between two starts."""
TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now. One in TIME_WAIT is free: servers set SO_REUSEADDR, as done here."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def pick(preferred: int | None = None) -> int:
    """Return `preferred` if it is free, else some free port.

    Raises:
        RuntimeError: none was free in 200 tries.
    """
    if preferred is not None and is_free(preferred):
        return preferred
    for _ in range(TRIES):
        port = random.randint(FIRST, LAST)  # noqa: S311  not a secret
        if is_free(port):
            return port
    raise RuntimeError(f"no free port on {LOOPBACK} among {TRIES} tries between {FIRST} and {LAST}")


def several(count: int) -> list[int]:
    """Return so many free ports, no two the same.

    Raises:
        RuntimeError: see `pick`.
    """
    found: set[int] = set()
    while len(found) < count:
        found.add(pick())
    return list(found)


def opened(url: str, *, within_s: float = 2.0) -> Any:
    """Ask an HTTP server of this machine, past the proxies that the environment names: those are for other machines.

    Raises:
        OSError: it does not answer, or with an error (`urllib.error.HTTPError`).
    """
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=within_s)
