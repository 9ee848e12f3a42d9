"""The fixtures of pytest-celery, overridden: its workers, broker and setup are processes here. For conftest files.

`celery_setup` is a whole Assayline but its processes: a test starts the dispatcher and the workers it wants. The
servers are those of the fixtures `redis_url`, `broker` and `database_url`; a module that breaks servers has its own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from celery import Celery
from pytest_celery import CeleryBrokerCluster, CeleryTestBroker

from nodes.brokers import Broker, RabbitBroker, RedisBroker, chosen, started_rabbitmq, started_sentinels
from nodes.cluster import QUEUES, AssaylineSetup, BrokerContainer, WorkerCluster
from nodes.rabbitmq import RabbitMq
from nodes.records import Records
from nodes.sentinels import SentinelSet
from nodes.wire import Wire
from workers.celery_settings import for_broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONPATH", "VIRTUAL_ENV")
"""What nodes see of our environment. No key and no URL: no test can reach a paid provider."""


@pytest.fixture
def wire() -> Iterator[Wire]:
    """The provider double, listening."""
    server = Wire()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def node_env(redis_url: str, database_url: str, wire: Wire) -> dict[str, str]:
    """The whole environment of every node."""
    return {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | {
        "ASSAYLINE_DATABASE_URL": database_url,
        "ASSAYLINE_REDIS_URL": redis_url,
        "OPENAI_API_KEY": "no-key",
        "OPENAI_BASE_URL": wire.url,
    }


@pytest.fixture(scope="session")
def broker_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq | SentinelSet | None]:
    """The server of the kind of broker that this run goes through; None: the tests' own Redis."""
    directory = tmp_path_factory.mktemp("broker")
    match chosen():
        case "rabbitmq":
            yield from started_rabbitmq(directory)
        case "sentinel":
            yield from started_sentinels(directory)
        case _:
            yield None


@pytest.fixture
def broker(broker_server: RabbitMq | SentinelSet | None, redis_url: str) -> Broker:
    """The broker, empty."""
    match broker_server:
        case RabbitMq():
            found: Broker = RabbitBroker(broker_server.url, QUEUES)
        case SentinelSet():
            found = RedisBroker(broker_server.url())
        case None:
            return RedisBroker(redis_url)
    found.clear()
    return found


@pytest.fixture
def processes_env(node_env: dict[str, str], broker: Broker) -> dict[str, str]:
    """What worker and dispatcher see: the nodes' environment, and where the broker is, unless it is their Redis."""
    if broker.url == node_env["ASSAYLINE_REDIS_URL"]:
        return node_env
    return node_env | {"ASSAYLINE_BROKER_URL": broker.url}


@pytest.fixture
def celery_broker(broker: Broker) -> CeleryTestBroker:
    """The broker."""
    return CeleryTestBroker(BrokerContainer(broker))


@pytest.fixture
def celery_setup_app(broker: Broker, celery_setup_name: str) -> Celery:
    """An app of the test's own with our settings."""
    app = Celery(celery_setup_name)
    app.conf.update({name: value for name, value in for_broker(broker.url).items() if name != "result_backend"})
    return app


@pytest.fixture
def celery_broker_cluster(celery_broker: CeleryTestBroker) -> CeleryBrokerCluster:
    """It alone."""
    return CeleryBrokerCluster(celery_broker)


@pytest.fixture
def celery_backend_cluster() -> None:
    """Results lie in Postgres, and for a while in Redis under the job's id: Celery keeps none."""


@pytest.fixture
def celery_setup_cls() -> type[AssaylineSetup]:
    """Ours."""
    return AssaylineSetup


@pytest.fixture
def celery_worker_cluster(
    processes_env: dict[str, str], tmp_path: Path, celery_setup_app: Celery
) -> Iterator[WorkerCluster]:
    """No worker yet; `start` adds one."""
    cluster = WorkerCluster(processes_env, tmp_path, celery_setup_app)
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_setup(
    celery_worker_cluster: WorkerCluster,
    celery_broker_cluster: CeleryBrokerCluster,
    celery_setup_app: Celery,
    processes_env: dict[str, str],
    database_url: str,
    wire: Wire,
    tmp_path: Path,
) -> Iterator[AssaylineSetup]:
    """Everything a test needs."""
    setup = AssaylineSetup(
        celery_worker_cluster,
        celery_broker_cluster,
        celery_setup_app,
        store=Records(database_url),
        wire=wire,
        env=processes_env,
        logs=tmp_path,
    )
    assert setup.ready()
    yield setup
    setup.teardown()
