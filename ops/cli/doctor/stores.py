"""Checks of the two stores: reachable, new enough, set up as Assayline needs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from redis.exceptions import RedisError

from gateway.errors import ConfigurationError
from gateway.redis_clients import blocking_client
from gateway.redis_url import place_of
from gateway.settings import Settings
from ops.cli import store, target
from ops.cli.doctor.brokers import sentinels
from ops.cli.doctor.finding import Finding, good, odd, wrong
from ops.cli.doctor.redis_server import eviction, persistence, redis_version
from ops.cli.troubles import one_line
from ops.migrate import OLDEST_POSTGRES

REDIS_TIMEOUT_S = 3.0
LARGEST_CLOCK_DIFFERENCE_S = 2.0
"""Leases are judged by Postgres's clock alone; beyond this, times in logs and in tables no longer fit together."""
PARTITIONS_AHEAD = timedelta(days=31)

Link = psycopg.Connection[store.Row]


def redis(settings: Settings, directory: Path) -> Iterator[Finding]:
    """Whether Redis (or Valkey) answers, is new enough, evicts nothing and keeps what it holds."""
    try:
        url = target.checked(settings.redis_url, target.REDIS, directory)
        with blocking_client(url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S) as client:
            info: Mapping[str, Any] = client.info()
    except ConfigurationError as error:
        yield wrong("redis", str(error), f"set {target.REDIS}, or run `assayline up`")
        return
    except (RedisError, OSError, ValueError) as error:
        yield from sentinels(url)
        yield wrong("redis", f"{place_of(url)}: {error}", f"start the server, or mend {target.REDIS}")
        return
    yield redis_version(info, place_of(url))
    yield from sentinels(url)
    yield eviction(info)
    yield persistence(info)


def postgres(settings: Settings, directory: Path, then: Callable[[Link], Iterator[Finding]]) -> Iterator[Finding]:
    """Whether Postgres answers, is new enough and has this version's schema; if so, also what `then` finds there."""
    try:
        url = target.checked(settings.database_url, target.DATABASE, directory)
        with store.connected(url) as link:
            yield postgres_version(link.info.server_version, _place(url))
            yield clock(link)
            schema = list(_schema(link))
            yield from schema
            if all(finding.verdict != "wrong" for finding in schema):
                yield partitions(link)
                yield from then(link)
    except ConfigurationError as error:
        yield wrong("postgres", str(error), f"set {target.DATABASE}, or run `assayline up`")
    except psycopg.Error as error:
        yield wrong("postgres", one_line(error), f"start the server, or mend {target.DATABASE}")


def postgres_version(version: int, place: str) -> Finding:
    """Judge a `server_version_num`."""
    said = f"PostgreSQL {version // 10000}.{version % 10000} at {place}"
    if version < OLDEST_POSTGRES:
        return wrong("postgres", said, f"Assayline needs PostgreSQL {OLDEST_POSTGRES // 10000} or newer")
    return good("postgres", said)


def clock(link: Link) -> Finding:
    """How far the server's clock and ours are apart, the way there and back halved."""
    asked = time.time()
    row = link.execute("SELECT extract(epoch FROM clock_timestamp())::float8 AS now").fetchone()
    answered = time.time()
    assert row is not None
    difference_s = row["now"] - (asked + answered) / 2
    said = f"Postgres's clock is {abs(difference_s):.1f} s {'ahead of' if difference_s > 0 else 'behind'} this one"
    if abs(difference_s) > LARGEST_CLOCK_DIFFERENCE_S:
        return odd("clock", said, "set both by NTP: times in logs and tables do not fit together")
    return good("clock", said)


def _schema(link: Link) -> Iterator[Finding]:
    head, stands = head_revision(), store.revision_of(link)
    if stands == head:
        yield good("schema", f"at {head}, this version's")
    elif stands is None:
        yield wrong("schema", "the database has none of Assayline's tables", "assayline migrate")
    else:
        yield wrong("schema", f"at {stands}; this version needs {head}", "assayline migrate (or update this side)")


def head_revision() -> str:
    """The schema revision that this version needs."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import ops.migrate

    config = Config()
    config.set_main_option("script_location", str(Path(ops.migrate.__file__).parent / "migrations"))
    return str(ScriptDirectory.from_config(config).get_current_head())


def partitions(link: Link) -> Finding:
    """Whether next month's jobs have a partition to go to."""
    month = (datetime.now(UTC) + PARTITIONS_AHEAD).strftime("%Y_%m")
    row = link.execute("SELECT to_regclass(%s) IS NOT NULL AS there", [f"assayline.jobs_{month}"]).fetchone()
    if row is not None and row["there"]:
        return good("partitions", f"made up to {month.replace('_', '-')} at least")
    mend = "run `assayline beat` and a worker: beat's hourly tick makes them"
    return odd("partitions", f"none for {month.replace('_', '-')}: jobs would go to the default partition", mend)


def _place(url: str) -> str:
    """Where a URL leads, without who goes there."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'a local socket'}{f':{parts.port}' if parts.port else ''}{parts.path}"
