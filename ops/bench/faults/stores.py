"""The servers of a run, and how they die: Postgres and Valkey of its own, or a test's, which stay."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from redis import Redis

from ops.bench.proc import family
from ops.bench.processes import BenchFailure
from ops.bench.report import Servers
from ops.embedded import EmbeddedPostgres, EmbeddedValkey
from ops.embedded.service import EmbeddedService, command_line

POLL_S = 0.01
GONE_S = 10.0
"""How long a killed server's children may take to go."""


class Stores:
    """Servers that somebody else keeps: connections to them may break, they do not."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers

    def flush(self) -> None:
        """Empty our database of the server; others share it."""
        with Redis.from_url(self.servers.redis_url) as client:
            client.flushdb()


class OwnStores(Stores):
    """Servers of the run's own; `stop` them."""

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        """Start them; `durable`: as in life, where a commit waits for the disk."""
        self._postgres = EmbeddedPostgres(directory / "postgres", durable=durable)
        self._valkey = EmbeddedValkey(directory / "valkey")
        self._postgres.start()
        try:
            self._valkey.start()
        except BaseException:
            self._postgres.stop()
            raise
        super().__init__(Servers(self._postgres.url, self._valkey.url))

    def stop(self) -> None:
        """Stop them."""
        self._valkey.stop()
        self._postgres.stop()

    def flush(self) -> None:
        """Empty the whole server."""
        with Redis.from_url(self.servers.redis_url) as client:
            client.flushall()

    def kill_valkey(self) -> None:
        """SIGKILL."""
        _kill(self._valkey)

    def start_valkey(self) -> None:
        """Start it again, from its append-only file; returns when it answers."""
        _start(self._valkey)

    def kill_postgres(self) -> None:
        """SIGKILL to the postmaster, and to its children, which would notice soon."""
        _kill(self._postgres)

    def start_postgres(self) -> None:
        """Start it again; returns when it has recovered and takes connections."""
        _start(self._postgres)


def _kill(service: EmbeddedService) -> None:
    pid = service.pid
    assert pid is not None
    children = _children(pid)
    for member in (pid, *children):
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    service.stop()
    give_up_at = time.monotonic() + GONE_S
    while any(command_line(child) for child in children):
        if time.monotonic() > give_up_at:
            raise BenchFailure(f"{service.name} was killed, and its children live on")
        time.sleep(POLL_S)


def _children(pid: int) -> list[int]:
    """The living children; one may end while they are listed."""
    while True:
        with suppress(FileNotFoundError, ProcessLookupError):
            return family(pid)[1:]


def _start(service: EmbeddedService) -> None:
    port = service.port
    service.start()
    if service.port != port:
        raise BenchFailure(f"{service.name} came back on port {service.port}: its own, {port}, was taken meanwhile")
