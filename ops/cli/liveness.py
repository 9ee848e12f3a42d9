"""Who is at work, as Postgres sees it: the questions that `assayline doctor` and `assayline up` share."""

from __future__ import annotations

import psycopg

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
