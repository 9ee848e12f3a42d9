"""Who is at work, as Postgres and the processes themselves see it: questions that several commands share."""

from __future__ import annotations

import json
import urllib.error
from contextlib import suppress

import psycopg

from ops.supervisor import ports

# A dispatcher listens on this channel for as long as it lives, on a connection that does nothing else.
DISPATCHERS = """
SELECT count(*) AS n FROM pg_stat_activity
 WHERE datname = current_database() AND application_name LIKE 'assayline%' AND query LIKE 'LISTEN%assayline_due%'
"""

# By provider: the workers heard of within so many seconds.
WORKERS = """
SELECT provider, count(*) AS workers, sum(slots) AS slots
  FROM assayline.workers, unnest(providers) AS provider
 WHERE NOT stopping AND heartbeat_at > clock_timestamp() - make_interval(secs => %s)
 GROUP BY provider
"""

FRESH_S = 6.0
"""A heartbeat every 5 s, and one for the way: what is older may be of a worker that was killed just before."""


def dispatcher_works(database_url: str) -> bool:
    """Whether a dispatcher listens; False where Postgres does not answer."""
    try:
        with psycopg.connect(database_url, connect_timeout=2) as connection:
            # `LIKE` patterns in a query without parameters: nothing of it is a placeholder.
            row = connection.execute(DISPATCHERS.encode()).fetchone()
    except psycopg.OperationalError:
        return False
    return row is not None and row[0] > 0


def worker_works(database_url: str, provider: str) -> bool:
    """Whether a worker serves a provider; False where Postgres does not answer."""
    try:
        with psycopg.connect(database_url, connect_timeout=2) as connection:
            rows = connection.execute(WORKERS, (FRESH_S,)).fetchall()
    except psycopg.OperationalError:
        return False
    return any(row[0] == provider for row in rows)


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
