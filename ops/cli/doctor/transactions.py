"""Checks of other people's transactions: what one that stays open holds up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ops.cli.doctor.finding import Finding, good, odd, wrong

if TYPE_CHECKING:
    from ops.cli.doctor.stores import Link

# Who has a transaction open in this database, the oldest first, and whether it has changed the pauses: until it ends no
# release begins (`assayline.pause`). A key of one bigint stands in pg_locks as two halves. Of other users' sessions one
# without pg_read_all_stats sees no more than that they are there.
OPEN = """
SELECT a.pid, a.usename AS role, a.application_name AS application, host(a.client_addr) AS at,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS open_s,
       EXISTS (SELECT FROM pg_locks l
                WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.objsubid = 1 AND l.mode = 'ExclusiveLock'
                  AND l.granted
                  AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('assayline.pauses', 0)) AS pauses
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND coalesce(a.backend_type, 'client backend') = 'client backend'
   AND a.pid <> pg_backend_pid() AND (a.xact_start IS NOT NULL OR a.state IS NULL)
 ORDER BY a.xact_start
"""
LONG_S = 3600.0
"""What a transaction has ended or released since it began stays to be read again by each release (ADR 16)."""
PAUSING_S = 5.0
"""`assayline pause` holds its lock for the time of one statement."""


def examine(link: Link) -> Iterator[Finding]:
    """Judge the transactions that are open."""
    return transactions(link.execute(OPEN).fetchall())


def transactions(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Judge open transactions, the oldest first: `open_s` in seconds, None where we may not see it."""
    blocking = [row for row in rows if row["pauses"] and (row["open_s"] is None or row["open_s"] > PAUSING_S)]
    long = [row for row in rows if row["open_s"] is not None and row["open_s"] > LONG_S and row not in blocking]
    for row in blocking:
        said = f"{_who(row)} has changed the pauses and not committed: nothing is released until it does"
        yield wrong("transactions", said, _end(row))
    if long:
        said = f"{_who(long[0])} has had one open for {_hours(long[0]['open_s'])}" + (
            f", and {len(long) - 1} more for over an hour" if len(long) > 1 else ""
        )
        mend = f"what ends meanwhile is not cleared away; {_end(long[0])}, or set idle_in_transaction_session_timeout"
        yield odd("transactions", said, mend)
    if not blocking and not long:
        hidden = sum(row["open_s"] is None for row in rows)
        unseen = f"; {hidden} sessions of other roles are hidden from this one (pg_read_all_stats)" if hidden else ""
        yield good("transactions", f"none is old{unseen}")


def _who(row: Mapping[str, Any]) -> str:
    application = f" ({row['application']})" if row["application"] else ""
    place = f" from {row['at']}" if row["at"] else ""
    return f"{row['role']}{application}{place}"


def _hours(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60} min"


def _end(row: Mapping[str, Any]) -> str:
    return f"in psql: SELECT pg_terminate_backend({row['pid']})"
