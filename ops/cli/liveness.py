"""Who is at work, as Postgres and the processes themselves see it: questions that several commands share."""

from __future__ import annotations

import json
import socket
import urllib.error
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.rows import dict_row

from ops.supervisor import ports

# A dispatcher listens on this channel for as long as it lives, on a connection that does nothing else. `here`: those of
# the address that asks.
DISPATCHERS = """
SELECT count(*) AS n, count(*) FILTER (WHERE client_addr IS NOT DISTINCT FROM inet_client_addr()) AS here
  FROM pg_stat_activity
 WHERE datname = current_database() AND application_name LIKE 'assayline%' AND query LIKE 'LISTEN%assayline_due%'
"""

# By provider: the workers heard of within so many seconds. `here`: those of a host.
WORKERS = """
SELECT provider, count(*) AS workers, sum(slots) AS slots, count(*) FILTER (WHERE hostname = %s) AS here
  FROM assayline.workers, unnest(providers) AS provider
 WHERE NOT stopping AND heartbeat_at > clock_timestamp() - make_interval(secs => %s)
 GROUP BY provider
"""

FRESH_S = 6.0
"""A heartbeat every 5 s, and one for the way: what is older may be of a worker that was killed just before."""

Row = Mapping[str, Any]


def dispatchers(link: psycopg.Connection[Any]) -> Row:
    """How many dispatchers listen: `n`, and those of the address that asks: `here`."""
    with link.cursor(row_factory=dict_row) as cursor:
        # `LIKE` patterns in a query without parameters: nothing of it is a placeholder.
        row = cursor.execute(DISPATCHERS.encode()).fetchone()
    assert row is not None
    return row


def workers(link: psycopg.Connection[Any], within_s: float) -> dict[str, Row]:
    """By provider: the `workers` heard of within so many seconds, their `slots`, how many are of this host: `here`."""
    with link.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(WORKERS, (socket.gethostname(), within_s)).fetchall()
    return {row["provider"]: row for row in rows}


def dispatcher_works(database_url: str) -> bool:
    """Whether a dispatcher listens; False where Postgres does not answer."""
    try:
        with psycopg.connect(database_url, connect_timeout=2) as connection:
            return bool(dispatchers(connection)["n"])
    except psycopg.OperationalError:
        return False


def worker_works(database_url: str, provider: str) -> bool:
    """Whether a worker serves a provider; False where Postgres does not answer."""
    try:
        with psycopg.connect(database_url, connect_timeout=2) as connection:
            return provider in workers(connection, FRESH_S)
    except psycopg.OperationalError:
        return False


LONGEST_ANSWER = 65_536
"""Bytes of a health check's answer that are read. It has a few hundred."""


def complaint(url: str) -> str | None:
    """What a process says is wrong with it, asked at its `/health/live` or `/health/ready`; None where it is well."""
    try:
        ports.opened(url).close()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return _said(refusal.read(LONGEST_ANSWER), deadly_only=url.endswith("/live")) or f"{url}: {refusal}"
    except OSError as error:
        return f"{url}: {error}"
    return None


def _said(body: bytes, *, deadly_only: bool) -> str:
    """The problems in a health check's answer; nothing where it is not one."""
    with suppress(ValueError, KeyError, TypeError):
        problems = [one for one in json.loads(body)["problems"] if one["deadly"] or not deadly_only]
        return "; ".join(f"{one['part']}: {one['problem']}" for one in problems)
    return ""
