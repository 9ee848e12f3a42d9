"""What Postgres says of jobs, calls, results and workers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID


class Records:
    """Looks into the store, and makes what a test needs there. Connects anew after Postgres was away."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[dict[str, Any]] | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def rows(self, statement: str, *parameters: Any) -> Sequence[Mapping[str, Any]]:
        """Run a statement; the rows it returns."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url, autocommit=True, row_factory=dict_row, application_name="test"
            )
        cursor = self._connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    def enqueue(self, analysis: str, content: str, options: Mapping[str, Any]) -> UUID:
        """Enqueue a job; its id."""
        [row] = self.rows(
            "SELECT * FROM public.assayline_enqueue(%s, %s, %s::jsonb)", analysis, content, json.dumps(options)
        )
        found: UUID = next(iter(row.values()))
        return found

    def state(self, job: UUID) -> str:
        """The job's state."""
        return str(self.job(job)["state"])

    def job(self, job: UUID) -> Mapping[str, Any]:
        """The job's row."""
        [row] = self.rows("SELECT * FROM assayline.jobs WHERE id = %s", job)
        return row

    def states(self) -> Mapping[str, int]:
        """How many jobs stand where."""
        rows = self.rows("SELECT state, count(*) AS n FROM assayline.jobs GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    def calls(self, job: UUID) -> list[tuple[int, int, str]]:
        """The job's ledger: (claim number, call number, outcome) of each call."""
        rows = self.rows("SELECT claim_no, call_no, outcome FROM assayline.calls WHERE job_id = %s ORDER BY 1, 2", job)
        return [(row["claim_no"], row["call_no"], row["outcome"]) for row in rows]

    def call(self, job: UUID, claim_no: int) -> Mapping[str, Any]:
        """The first call of a claim."""
        [row] = self.rows(
            "SELECT * FROM assayline.calls WHERE job_id = %s AND claim_no = %s AND call_no = 1", job, claim_no
        )
        return row

    def results(self, job: UUID) -> Sequence[Mapping[str, Any]]:
        """The job's results: one, once it has succeeded."""
        return self.rows("SELECT * FROM assayline.results WHERE job_id = %s", job)

    def release(self, job: UUID) -> int:
        """Do what a dispatcher does before it publishes: `queued`, under a new number, which is returned."""
        [row] = self.rows(
            "UPDATE assayline.jobs SET state = 'queued', reason = 'release', release = release + 1, copies = 1,"
            " queued_at = clock_timestamp() WHERE id = %s AND state = 'scheduled' RETURNING release",
            job,
        )
        return int(row["release"])

    def workers(self) -> Sequence[Mapping[str, Any]]:
        """The incarnations on the list."""
        return self.rows("SELECT * FROM assayline.workers")

    def give_up(self, pid: int) -> None:
        """Make a worker's last heartbeat an hour old, so that nobody has to wait for its lease."""
        self.rows(
            "UPDATE assayline.workers SET heartbeat_at = clock_timestamp() - interval '1 hour' WHERE pid = %s", pid
        )

    def forget_catalog(self) -> None:
        """Empty the mirrored catalog."""
        self.rows("DELETE FROM assayline.catalog_models")

    def knows_catalog(self) -> bool:
        """Whether a dispatcher has mirrored the catalog."""
        return bool(self.rows("SELECT name FROM assayline.catalog_models"))

    def mirror(self, models: Sequence[str], analysis: str, chain: Sequence[str]) -> None:
        """Mirror a catalog of one analysis, where no dispatcher runs."""
        self.rows("INSERT INTO assayline.catalog_models SELECT unnest(%s::text[])", list(models))
        self.rows("INSERT INTO assayline.catalog_analyses VALUES (%s, %s, 'interactive', 4)", analysis, list(chain))

    def cut_connections(self) -> int:
        """Break every connection but our own; how many there were."""
        return len(
            self.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
