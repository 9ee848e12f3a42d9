"""A Valkey with a replica, and three Sentinels that watch it: enough for a failover."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import redis

from ops.embedded.service import EmbeddedService
from ops.embedded.valkey import binary
from ops.supervisor.ports import LOOPBACK

if TYPE_CHECKING:
    from pathlib import Path

MASTER = "assayline"
PASSWORD, SENTINEL_PASSWORD = "of-the-master", "of-the-sentinels"
DOWN_AFTER_MS = 500
"""Half a minute is usual; a test does not wait that long."""

NODE = """\
bind {host}
port {port}
requirepass {password}
masterauth {password}
dir "{directory}"
daemonize no
logfile ""
loglevel warning
save ""
appendonly no
maxmemory-policy noeviction
repl-diskless-sync-delay 0
repl-ping-replica-period 1
"""
REPLICA = "replicaof {host} {master_port}\n"
SENTINEL = """\
bind {host}
port {port}
requirepass {sentinel_password}
sentinel sentinel-pass {sentinel_password}
dir "{directory}"
daemonize no
logfile ""
sentinel monitor {name} {host} {master_port} 2
sentinel auth-pass {name} {password}
sentinel down-after-milliseconds {name} {down_after_ms}
sentinel failover-timeout {name} 1000
"""


class Node(EmbeddedService):
    """A Valkey process with a configuration of its own. `master_port` 0: it follows nobody."""

    name = "valkey"

    def __init__(self, directory: Path, template: str, *, master_port: int = 0, sentinel: bool = False) -> None:
        super().__init__(directory)
        self._template, self._master_port, self._sentinel = template, master_port, sentinel

    @property
    def url(self) -> str:
        """Its own address, whatever it is at the time."""
        return f"redis://:{SENTINEL_PASSWORD if self._sentinel else PASSWORD}@{LOOPBACK}:{self.port}/0"

    def command(self) -> list[str]:
        """The server, as a Sentinel or not."""
        return [str(binary()), str(self.directory / "node.conf"), *(["--sentinel"] if self._sentinel else [])]

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _prepare_data(self) -> None:
        self._choose_port()
        conf = self.directory / "node.conf"
        if conf.exists():
            return  # a Sentinel writes into it, and so does a node that became a replica
        conf.write_text(
            self._template.format(
                host=LOOPBACK,
                port=self.port,
                password=PASSWORD,
                sentinel_password=SENTINEL_PASSWORD,
                directory=self.directory,
                master_port=self._master_port,
                name=MASTER,
                down_after_ms=DOWN_AFTER_MS,
            )
        )


class SentinelSet:
    """All of them together."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running = ExitStack()
        self.nodes: list[Node] = []
        self.sentinels: list[Node] = []

    def start(self) -> None:
        """Start them, and wait until the Sentinels know the replica and each other."""
        from nodes.waiting import eventually

        master = self._started(Node(self._directory / "master", NODE))
        port = master.port
        self.nodes = [master, self._started(Node(self._directory / "replica", NODE + REPLICA, master_port=port))]
        for number in range(3):
            node = Node(self._directory / f"sentinel-{number}", SENTINEL, master_port=port, sentinel=True)
            self.sentinels.append(self._started(node))
        for sentinel in self.sentinels:
            with redis.Redis.from_url(sentinel.url) as client:
                eventually(lambda asked=client: _complete(asked.sentinel_master(MASTER)))  # type: ignore[misc]
        eventually(self.in_step)

    def stop(self) -> None:
        """Stop them all."""
        self._running.close()

    def url(self, db: int = 0) -> str:
        """As `ASSAYLINE_REDIS_URL` or `ASSAYLINE_BROKER_URL`."""
        hosts = ",".join(f"{LOOPBACK}:{sentinel.port}" for sentinel in self.sentinels)
        return f"sentinel://:{PASSWORD}@{hosts}/{db}?master_name={MASTER}&sentinel_password={SENTINEL_PASSWORD}"

    def master(self) -> Node:
        """The node that the Sentinels take for the master."""
        with redis.Redis.from_url(self.sentinels[0].url) as client:
            port = client.sentinel_master(MASTER)["port"]
        return next(node for node in self.nodes if node.port == port)

    def in_step(self) -> bool:
        """Whether the master has its replica, which has all that it has."""
        with redis.Redis.from_url(self.master().url) as client:
            replication = client.info("replication")
        return replication["role"] == "master" and replication.get("slave0", {}).get("state") == "online"

    def _started(self, node: Node) -> Node:
        node.start()
        self._running.callback(node.stop)
        return node


def _complete(state: dict[str, object]) -> bool:
    return state["num-slaves"] == 1 and state["num-other-sentinels"] == 2
