"""A RabbitMQ node on loopback: its own name, directory, ports and port mapper, nothing of the system's installation."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import amqp

from nodes.waiting import eventually
from ops.embedded.service import EmbeddedService
from ops.supervisor import ports, tether

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
"""Debian's own programs: those on the path change to a user of their own first."""
USER = "assayline"

# Nothing to the disk that a test's minute does not need; guest is not there.
CONFIGURATION = """\
listeners.tcp.local = {host}:{port}
default_user = {user}
default_pass = {password}
disk_free_limit.absolute = 10MB
raft.wal_max_size_bytes = 16777216
log.console = true
log.console.level = warning
"""


class RabbitMq(EmbeddedService):
    """One RabbitMQ. `ctl` runs rabbitmqctl, which takes seconds."""

    name = "rabbitmq"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._dist_port = self._epmd_port = 0
        self._password = ""
        self._epmd: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str:
        """Why there can be none here; "" where there can."""
        if not (PROGRAMS / "rabbitmq-server").exists() or shutil.which("erl") is None:
            return "no RabbitMQ is installed here (Debian: apt-get install rabbitmq-server)"
        return ""

    @property
    def url(self) -> str:
        """As `ASSAYLINE_BROKER_URL`."""
        return f"amqp://{USER}:{self._password}@{ports.LOOPBACK}:{self.port}//"

    def command(self) -> list[str]:
        """The node, in the foreground."""
        settings = [f"{name}={value}" for name, value in self._environment().items()]
        return ["/usr/bin/env", "-i", *settings, str(PROGRAMS / "rabbitmq-server")]

    def is_ready(self) -> bool:
        """Whether it lets us in."""
        connection = amqp.Connection(
            f"{ports.LOOPBACK}:{self.port}", USER, self._password, login_method="PLAIN", connect_timeout=2
        )
        try:
            connection.connect()
        except (OSError, amqp.AMQPError):
            return False
        connection.close()
        return True

    def stop(self, timeout_s: float = 15.0) -> None:
        """Stop it, and the port mapper that it was known to."""
        super().stop(timeout_s)
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone; `start` starts it again."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.stop()

    def ctl(self, *command: str) -> str:
        """Run `rabbitmqctl`; what it says."""
        argv = [str(PROGRAMS / "rabbitmqctl"), "--quiet", *command]
        done = subprocess.run(argv, env=self._environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _prepare_data(self) -> None:
        self._password = self._secret()
        self._choose_port()
        self._dist_port, self._epmd_port = ports.pick(), ports.pick()
        (self.directory / "plugins").write_text("[].\n")
        (self.directory / "no-env.conf").touch()
        (self.directory / "rabbitmq.conf").write_text(
            CONFIGURATION.format(host=ports.LOOPBACK, port=self.port, user=USER, password=self._password)
        )
        self._start_port_mapper()

    def _start_port_mapper(self) -> None:
        """One of our own, in the foreground: the one that Erlang starts where it finds none outlives everybody."""
        epmd = shutil.which("epmd")
        assert epmd is not None
        self._epmd = subprocess.Popen(
            tether.wrap([epmd, "-address", ports.LOOPBACK, "-port", str(self._epmd_port)]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        eventually(lambda: not ports.is_free(self._epmd_port))

    def _environment(self) -> dict[str, Any]:
        loopback = ports.LOOPBACK.replace(".", ",")
        with suppress(FileNotFoundError):
            (self.directory / "log").mkdir(exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": ports.LOOPBACK,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"assayline-{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "no-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_ALLOW_INPUT": "1",  # the node itself, not a shell that waits for it
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-noinput -start_epmd false +S 1:1 +sbwt none -kernel inet_dist_use_interface {{{loopback}}}"
            ),
        }
