"""pytest-celery's nodes, clusters and setup over processes, and what a test does with them."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import redis
from celery import Celery
from pytest_celery import (
    CeleryBrokerCluster,
    CeleryTestBroker,
    CeleryTestContainer,
    CeleryTestNode,
    CeleryTestSetup,
    CeleryTestWorker,
    CeleryWorkerCluster,
)

from gateway.journal.journal import COUNTS, PREFIX
from gateway.redis_clients import blocking_client
from nodes.entries import DispatcherPlan, WorkerPlan, dispatch, work
from nodes.processes import ProcessContainer
from nodes.waiting import WITHIN_S, eventually
from nodes.wire import LABELS
from tasks.announce import result_key
from tasks.job import Released
from workers.celery_settings import for_broker
from workers.publisher import CeleryPublisher

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nodes.brokers import Broker
    from nodes.records import Records
    from nodes.wire import Wire

PROVIDER = "openai"
MODEL = "openai/gpt-5.4-nano"
QUEUES = (f"{PROVIDER}.interactive", f"{PROVIDER}.bulk")


class BrokerContainer(CeleryTestContainer):  # type: ignore[misc]  # untyped
    """A running broker. Whoever started it stops it."""

    def __init__(self, broker: Broker) -> None:
        # Not super().__init__(): it wraps what Docker made.
        self.broker = broker

    @property
    def celeryconfig(self) -> dict[str, str]:
        """What Celery needs to know."""
        url = str(for_broker(self.broker.url)["broker_url"])
        return {"url": url, "host_url": url}

    def ready(self) -> bool:
        """Whether it answers."""
        return self.broker.depth(QUEUES[0]) == 0


class ProcessNode(CeleryTestNode):  # type: ignore[misc]  # untyped
    """A node whose container is a process."""

    @property
    def container(self) -> ProcessContainer:
        """The process."""
        assert isinstance(self._container, ProcessContainer)
        return self._container

    def kill_and_wait(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self.kill("SIGKILL")
        assert self.container.wait() == -9

    def terminate(self, within_s: float = WITHIN_S) -> None:
        """SIGTERM; it must end well."""
        self.kill("SIGTERM")
        assert self.container.wait(within_s) == 0, self.logs()


class DispatcherNode(ProcessNode):
    """A dispatcher."""


class WorkerNode(ProcessNode, CeleryTestWorker):  # type: ignore[misc]  # untyped
    """A worker."""

    def hostname(self) -> str:
        """Celery's name of it."""
        return f"{PROVIDER}.{self.container.pid}@{socket.gethostname()}"

    def endings(self, job: UUID) -> list[tuple[int, str]]:
        """How the job's messages ended here so far: (release, ending) of each."""
        found = re.findall(rf"^INFO nodes {job} (\d+) (\w+)$", self.logs(), re.MULTILINE)
        return [(int(release), ending) for release, ending in found]

    def statements(self) -> list[str]:
        """The first line of every statement it sent to Postgres."""
        return re.findall(r"^INFO nodes statement (.*)$", self.logs(), re.MULTILINE)


class WorkerCluster(CeleryWorkerCluster):  # type: ignore[misc]  # untyped
    """The test's workers: none at first, `start` adds one."""

    def __init__(self, env: Mapping[str, str], logs: Path, app: Celery) -> None:
        self._env, self._logs, self._app = env, logs, app
        self._nodes: tuple[CeleryTestNode, ...] = ()

    def switch(self, **variables: str) -> None:
        """Change the environment of the workers that are started from now on."""
        self._env = {**self._env, **variables}

    def start(self, **plan: Any) -> WorkerNode:
        """Start a worker and wait until it consumes. Arguments: those of `WorkerPlan`."""
        name = f"worker-{len(self) + 1}"
        container = ProcessContainer(
            name, work, self._env, self._logs / f"{name}.log", WorkerPlan(**plan), lambda it: " ready." in it.logs()
        )
        node = WorkerNode(container, self._app)
        self._nodes = (*self._nodes, node)
        node.ready()
        return node

    def teardown(self) -> None:
        """End them all."""
        for node in self:
            node.teardown()


class AssaylineSetup(CeleryTestSetup):  # type: ignore[misc]  # untyped
    """Workers, broker, store and provider of one test.

    Attributes:
        store: what Postgres says.
        wire: the provider double.
        publisher: for messages that no dispatcher sent.
    """

    worker_cluster: WorkerCluster

    def __init__(
        self,
        worker_cluster: WorkerCluster,
        broker_cluster: CeleryBrokerCluster,
        app: Celery,
        *,
        store: Records,
        wire: Wire,
        env: Mapping[str, str],
        logs: Path,
    ) -> None:
        super().__init__(worker_cluster, broker_cluster, None, app)
        self.store, self.wire, self._env, self._logs = store, wire, env, logs
        self.publisher = CeleryPublisher(app)
        self.dispatchers: list[DispatcherNode] = []

    @property
    def workers(self) -> WorkerCluster:
        """The workers."""
        assert isinstance(self._worker_cluster, WorkerCluster)
        return self._worker_cluster

    @property
    def redis(self) -> redis.Redis:
        """A client of the Redis that holds results, cache and limits; close it."""
        return blocking_client(self._env["ASSAYLINE_REDIS_URL"])

    @property
    def queues(self) -> Broker:
        """The broker."""
        broker = self.broker
        assert isinstance(broker, CeleryTestBroker)
        assert isinstance(broker.container, BrokerContainer)
        return broker.container.broker

    def start_dispatcher(self, plan: DispatcherPlan | None = None, **variables: str) -> DispatcherNode:
        """Start a dispatcher, with more in its environment, and wait until it has mirrored the catalog."""
        name = f"dispatcher-{len(self.dispatchers) + 1}"
        self.store.forget_catalog()
        container = ProcessContainer(
            name,
            dispatch,
            {**self._env, **variables},
            self._logs / f"{name}.log",
            plan or DispatcherPlan(),
            lambda _: self.store.knows_catalog(),
        )
        node = DispatcherNode(container, self.app)
        self.dispatchers.append(node)
        node.ready()
        return node

    def enqueue(
        self, content: str = "", *, held: bool = False, spoilt: bool = False, **options: Any
    ) -> tuple[UUID, str]:
        """Enqueue a job, its calls held open if wanted; returns its id and the marker its calls are known by.

        `spoilt`: its first answer is none, so that its repair is asked for; that alone is held then.
        """
        marker = uuid4().hex
        if spoilt:
            self.wire.spoil(marker)
        if held:
            self.wire.hold(marker, from_call=2 if spoilt else 1)
        options = {"context": {"labels": list(LABELS)}, **options}
        return self.store.enqueue("text_classification", f"marker-{marker} {content}", options), marker

    def publish(self, *messages: tuple[UUID, int]) -> None:
        """Put messages (job, release) into the interactive queue, as a dispatcher would."""
        self.publisher._publish([Released(job, release, PROVIDER, "interactive") for job, release in messages])

    def announced(self, job: UUID) -> bool:
        """Whether the job's result lies in Redis."""
        with self.redis as client:
            return bool(client.exists(result_key(job)))

    def journalled(self) -> list[bytes]:
        """The entries of the journal: answers that are not stored yet."""
        with self.redis as client:
            return [key for key in client.keys(f"{PREFIX}*") if key != COUNTS.encode()]

    def waiting_messages(self) -> int:
        """Messages in the queues, not yet taken."""
        return sum(self.queues.depth(queue) for queue in QUEUES)

    def ended(self, job: UUID, state: str = "succeeded", within_s: float = WITHIN_S) -> Mapping[str, Any]:
        """Wait until the job stands in `state`, and return its row."""
        try:
            eventually(lambda: self.store.state(job) == state, within_s)
        except AssertionError as late:
            row = self.store.job(job)
            raise AssertionError(f"{late}\n{row}\n{self.store.calls(job)}\n{self.all_logs()}") from late
        return self.store.job(job)

    def all_logs(self) -> str:
        """What every node wrote last, its statements left out."""
        nodes = (*self.dispatchers, *self.workers)
        shown = {node.name(): re.sub(r"INFO nodes statement .*\n", "", node.logs())[-5000:] for node in nodes}
        return "\n".join(f"--- {name}\n{log}" for name, log in shown.items())

    def teardown(self) -> None:
        """End what is ours; the cluster ends its workers."""
        for node in self.dispatchers:
            node.teardown()
        self.publisher.close()
        self.store.close()
