"""The fixtures of pytest-celery, overridden: its workers, broker and setup are processes here. For conftest files.

`celery_setup` is a whole Assayline but its processes: a test starts the dispatcher and the workers it wants. The
servers are those of the fixtures `redis_url` and `database_url`; a module that breaks servers overrides these.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from pytest_celery import CeleryBrokerCluster, CeleryTestBroker

from nodes.cluster import AssaylineSetup, BrokerContainer, WorkerCluster
from nodes.records import Records
from nodes.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery import Celery

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


@pytest.fixture
def celery_broker(redis_url: str) -> CeleryTestBroker:
    """The broker."""
    return CeleryTestBroker(BrokerContainer(redis_url))


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
    node_env: dict[str, str], tmp_path: Path, celery_setup_app: Celery
) -> Iterator[WorkerCluster]:
    """No worker yet; `start` adds one."""
    cluster = WorkerCluster(node_env, tmp_path, celery_setup_app)
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_setup(
    celery_worker_cluster: WorkerCluster,
    celery_broker_cluster: CeleryBrokerCluster,
    celery_setup_app: Celery,
    node_env: dict[str, str],
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
        env=node_env,
        logs=tmp_path,
    )
    assert setup.ready()
    yield setup
    setup.teardown()
