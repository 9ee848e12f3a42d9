"""What commands read from Postgres beside the client's own functions. Named statements; nothing here writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypedDict, Unpack
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from tasks.producer.shelf import libpq_url

CONNECT_TIMEOUT_S = 5

Row = Mapping[str, Any]

# A page of jobs, newest first. A filter that is not given is folded away by the planner; `before` is the last id seen,
# so that a page costs the same wherever it lies.
PAGE = """
SELECT id, state, reason, analysis, tenant, lane, priority, provider, model, attempts_used, max_attempts, source,
       subject, tags, created_at, not_before, started_at, finished_at,
       jsonb_path_query_first(causes, '$[last].error') #>> '{}' AS last_error
  FROM assayline.jobs
 WHERE (%(states)s::text[] IS NULL OR state = ANY (%(states)s::text[]))
   AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s::text)
   AND (%(analysis)s::text IS NULL OR analysis = %(analysis)s::text)
   AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
   AND (%(before)s::uuid IS NULL OR id < %(before)s::uuid)
 ORDER BY id DESC LIMIT %(limit)s
"""

# Where some jobs stand, for whoever watches them.
STANDING = """
SELECT id, state, reason, analysis, provider, model, attempts_used, max_attempts
  FROM assayline.jobs WHERE id = ANY (%(ids)s::uuid[]) AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s::text)
"""

# What a job was given to judge.
CONTENT = "SELECT content, context, messages, schema FROM assayline.job_contents WHERE job_id = %(id)s::uuid"

REVISION = "SELECT version_num FROM assayline.alembic_version"


class Which(TypedDict):
    """Which jobs to list. None: whatever it is. `before`: only older ones than this."""

    tenant: str | None
    analysis: str | None
    provider: str | None
    before: UUID | None


@contextmanager
def connected(database_url: str) -> Iterator[psycopg.Connection[Row]]:
    """A connection of one command, closed afterwards."""
    with psycopg.connect(
        libpq_url(database_url),
        autocommit=True,
        row_factory=dict_row,
        connect_timeout=CONNECT_TIMEOUT_S,
        application_name="assayline cli",
    ) as connection:
        yield connection


def page(
    connection: psycopg.Connection[Row],
    *,
    states: Sequence[str] | None,
    limit: int,
    **which: Unpack[Which],
) -> list[Row]:
    """A page of jobs, newest first."""
    return connection.execute(PAGE, {"states": states, "limit": limit, **which}).fetchall()


def standing(connection: psycopg.Connection[Row], ids: Sequence[UUID], tenant: str | None = None) -> dict[UUID, Row]:
    """Where jobs stand, by id; those that do not exist are missing."""
    rows = connection.execute(STANDING, {"ids": list(ids), "tenant": tenant}).fetchall()
    return {row["id"]: row for row in rows}


def content(connection: psycopg.Connection[Row], job_id: UUID) -> Row | None:
    """What a job was given: content, context, messages, schema."""
    return connection.execute(CONTENT, {"id": job_id}).fetchone()


def schema_revision(database_url: str) -> str | None:
    """The revision that the database's schema is at; None: it has none of ours."""
    with connected(database_url) as connection:
        return revision_of(connection)


def revision_of(connection: psycopg.Connection[Row]) -> str | None:
    """As `schema_revision`, over a connection."""
    try:
        row = connection.execute(REVISION).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    return str(row["version_num"]) if row else None
