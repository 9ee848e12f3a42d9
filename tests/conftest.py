"""Real servers for tests: those the environment names, else embedded ones, started once per session on free ports."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis

from ops.embedded import EmbeddedPostgres, EmbeddedValkey
from workers.logs import FactsFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Stores = tuple[str, str]

REDIS_DATABASES = 16
"""What a stock server has. Database 0 is left alone: a developer's own server may be in use."""

EMPTIED = (
    "jobs", "job_contents", "calls", "results", "idempotency_keys", "workers", "catalog_analyses", "catalog_models",
)  # fmt: skip

_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_database_numbers = itertools.cycle(range(1 + _process, REDIS_DATABASES, _processes))
"""Each of the processes that share a server has databases of its own."""


@pytest.fixture(autouse=True)
def no_log_handler_is_left() -> Iterator[None]:
    """A command run inside the test writes its log to a stream that is closed with the test."""
    yield
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler.formatter, FactsFormatter)]


@pytest.fixture(scope="session")
def services_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="assayline-test-", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture(scope="session")
def valkey_url(services_directory: Path) -> Iterator[str]:
    """A Redis-compatible server: `ASSAYLINE_TEST_REDIS_URL`, else an embedded Valkey. Most tests want `redis_url`."""
    if url := os.environ.get("ASSAYLINE_TEST_REDIS_URL"):
        yield url
        return
    server = EmbeddedValkey(services_directory / "valkey")
    yield server.start()
    server.stop()


@pytest.fixture
def redis_url(valkey_url: str) -> Iterator[str]:
    """An empty logical database of the test's own. Pub/sub channels are the whole server's."""
    url = _with_path(valkey_url, next(_database_numbers))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


@pytest.fixture(scope="session")
def postgres_admin_url(services_directory: Path) -> Iterator[str]:
    """A Postgres that may create databases: `ASSAYLINE_TEST_DATABASE_URL`, else an embedded one without fsync."""
    if url := os.environ.get("ASSAYLINE_TEST_DATABASE_URL"):
        yield url
        return
    server = EmbeddedPostgres(services_directory / "postgres", durable=False)
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def template_database(postgres_admin_url: str) -> Iterator[str]:
    """The name of a migrated database that each test's own is cloned from."""
    from ops.migrate import upgrade

    with temporary_database(postgres_admin_url) as url:
        upgrade(url)
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
def database_url(postgres_admin_url: str, template_database: str) -> Iterator[str]:
    """A migrated, empty database of the test's own, as `postgresql://…`."""
    with temporary_database(postgres_admin_url, template=template_database) as url:
        yield url


@pytest.fixture
def more_stores(postgres_admin_url: str, valkey_url: str, template_database: str) -> Iterator[Callable[[], Stores]]:
    """As `database_url` and `redis_url`, any number of times in one test."""
    with ExitStack() as kept:

        def more() -> Stores:
            database_url = kept.enter_context(temporary_database(postgres_admin_url, template=template_database))
            client = kept.enter_context(redis.Redis.from_url(_with_path(valkey_url, number := next(_database_numbers))))
            client.flushdb()
            kept.callback(client.flushdb)
            return database_url, _with_path(valkey_url, number)

        yield more


@pytest.fixture(scope="module")
def module_database_url(postgres_admin_url: str, template_database: str) -> Iterator[str]:
    """As `database_url`, but one for all tests of a module: they clear what they need cleared."""
    with temporary_database(postgres_admin_url, template=template_database) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_admin_url: str) -> Iterator[str]:
    """A database without our schema, for the tests of the migrations themselves."""
    with temporary_database(postgres_admin_url) as url:
        yield url


@pytest.fixture
def emptied_database_url(module_database_url: str) -> str:
    """The module's database without any row of ours: a quarter of the time that a database of its own takes a test."""
    with psycopg.connect(module_database_url, autocommit=True) as connection:
        for table in EMPTIED:
            connection.execute(f"DELETE FROM assayline.{table}")
    return module_database_url


class temporary_database:  # noqa: N801  reads as the context manager it is
    """`with temporary_database(admin_url) as url:` a database that is gone afterwards, whoever is still connected."""

    def __init__(self, admin_url: str, template: str = "template0") -> None:
        self._admin_url, self._template = admin_url, template
        self._name = f"assayline_test_{secrets.token_hex(6)}"

    def __enter__(self) -> str:
        self._execute(f"CREATE DATABASE {self._name} TEMPLATE {self._template}")
        return _with_path(self._admin_url, self._name)

    def __exit__(self, *_: object) -> None:
        self._execute(f"DROP DATABASE {self._name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._admin_url, autocommit=True) as connection:
            connection.execute(statement)


def _with_path(url: str, name: str | int) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
