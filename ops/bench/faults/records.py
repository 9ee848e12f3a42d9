"""What a run leaves behind in Postgres and Redis: moves that a trigger wrote down, rows, results, announcements.

The trigger stands in the bench's own database and writes in the transaction of the move: what a crash takes, it takes
with it. Nobody's word for what happened is needed.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from redis import Redis

from ops.bench.faults.judge import Line, Move, Stored
from tasks.announce import result_key

AWAY_S = 60.0
AGAIN_S = 0.2
ANNOUNCED_AT_ONCE = 500

INSTALL = """
CREATE SCHEMA chaos;
CREATE SCHEMA peer;
CREATE TABLE peer.results (marker text NOT NULL, data text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE chaos.moves (
    seq bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, id uuid NOT NULL, was text NOT NULL,
    is_now text NOT NULL, reason text NOT NULL, was_release integer NOT NULL, release integer NOT NULL,
    was_claim_no integer NOT NULL, claim_no integer NOT NULL, incarnation uuid, provider text NOT NULL
);
CREATE TABLE chaos.written (job_id uuid NOT NULL);
CREATE FUNCTION chaos.note_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.moves (at, id, was, is_now, reason, was_release, release, was_claim_no, claim_no, incarnation,
                             provider)
    VALUES (clock_timestamp(), new.id, old.state, new.state, new.reason, old.release, new.release, old.claim_no,
            new.claim_no, new.incarnation, new.provider);
    RETURN NULL;
END $$;
CREATE FUNCTION chaos.note_result() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.written VALUES (new.job_id);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_moves AFTER UPDATE OF state, release, claim_no ON assayline.jobs
    FOR EACH ROW EXECUTE FUNCTION chaos.note_move();
CREATE TRIGGER chaos_results AFTER INSERT OR UPDATE ON assayline.results
    FOR EACH ROW EXECUTE FUNCTION chaos.note_result();
"""
"""An UPDATE that names one of the columns is a move, though it change none. The row is locked until the move is
committed, so `seq` rises with each job's moves."""

MARKER = "substring(c.content FROM 'marker-([0-9A-Za-z_.-]+)')"
JOBS = f"""
    SELECT j.id, {MARKER}, j.state, j.reason, r.data, coalesce(w.times, 0)
      FROM assayline.jobs j JOIN assayline.job_contents c ON c.job_id = j.id
      LEFT JOIN assayline.results r ON r.job_id = j.id
      LEFT JOIN (SELECT job_id, count(*) AS times FROM chaos.written GROUP BY job_id) w ON w.job_id = j.id ORDER BY j.id
"""
MOVES = """
    SELECT id, extract(epoch FROM at)::float8, was, is_now, reason, was_release, release, was_claim_no, claim_no,
           incarnation, provider
      FROM chaos.moves ORDER BY seq
"""
LEDGER = "SELECT job_id, outcome, provider_request_id FROM assayline.calls ORDER BY job_id, claim_no, call_no"
WORKERS = """
    SELECT incarnation, pid, extract(epoch FROM started_at)::float8, providers[1] FROM assayline.workers
     ORDER BY started_at
"""
NOT_ENDED = "SELECT count(*) FROM assayline.jobs WHERE state IN ('scheduled', 'queued', 'running')"
OVERDUE = """
    SELECT count(*) FROM assayline.jobs j, jsonb_array_elements(j.causes) AS c(cause)
     WHERE c.cause ->> 'error' = 'attempt_overdue'
"""
"""Rescues from a worker that lived: the reply to its claim was lost, or the attempt hung."""
LAST_MOVE = "SELECT last_value FROM chaos.moves_seq_seq"
RECENT = "SELECT id, release, provider, lane FROM assayline.jobs WHERE release > 0 ORDER BY id DESC LIMIT %s"
AGE_WORKER = """
    UPDATE assayline.workers SET heartbeat_at = heartbeat_at - make_interval(secs => %s) WHERE pid = %s RETURNING pid
"""
AGE_MESSAGES = """
    UPDATE assayline.jobs SET queued_at = queued_at - make_interval(secs => %s) WHERE state = 'queued' RETURNING id
"""


class Records:
    """Looks into the stores, and waits for them where they are away. Close it."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        """Put the triggers in place."""
        self._database_url = database_url
        self._redis_url = redis_url
        self._link: psycopg.Connection[Any] | None = None
        self._connected().execute(INSTALL)

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Ask Postgres. A write among the questions may happen twice, where its answer is lost.

        Raises:
            psycopg.OperationalError: it is away for a minute.
        """
        give_up_at = time.monotonic() + AWAY_S
        while True:
            try:
                return self._connected().execute(sql, params).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > give_up_at:
                    raise
            time.sleep(AGAIN_S)

    def number(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Ask Postgres for one whole number."""
        return int(self.rows(sql, params)[0][0])

    def not_ended(self) -> int:
        """How many jobs have not."""
        return self.number(NOT_ENDED)

    def moves(self) -> dict[str, list[Move]]:
        """All moves, by job, in their order."""
        found: defaultdict[str, list[Move]] = defaultdict(list)
        for job_id, at_s, was, now, reason, *numbers, incarnation, provider in self.rows(MOVES):
            was_release, release, was_claim_no, claim_no = numbers
            by = None if incarnation is None else str(incarnation)
            move = Move(at_s, was, now, reason, (was_release, release), (was_claim_no, claim_no), by, provider)
            found[str(job_id)].append(move)
        return found

    def jobs(self, moves: Mapping[str, Sequence[Move]]) -> list[Stored]:
        """All jobs as they stand, with their moves."""
        ledger: defaultdict[str, list[Line]] = defaultdict(list)
        for job_id, outcome, name in self.rows(LEDGER):
            ledger[str(job_id)].append(Line(outcome, name))
        rows = [(str(job_id), *rest) for job_id, *rest in self.rows(JOBS)]
        announced = self._announced([row[0] for row in rows])
        return [
            Stored(
                marker,
                job_id,
                state,
                reason,
                moves.get(job_id, ()),
                ledger[job_id],
                written,
                data,
                announced.get(job_id),
            )
            for job_id, marker, state, reason, data, written in rows
        ]

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()

    def _connected(self) -> psycopg.Connection[Any]:
        if self._link is None or self._link.closed:
            self._link = psycopg.connect(self._database_url, autocommit=True)
        return self._link

    def _announced(self, ids: Sequence[str]) -> dict[str, Any]:
        """What Redis says of the jobs that ended well: their results, by id. A flush forgets them."""
        found: dict[str, Any] = {}
        with Redis.from_url(self._redis_url) as redis:
            for start in range(0, len(ids), ANNOUNCED_AT_ONCE):
                some = ids[start : start + ANNOUNCED_AT_ONCE]
                for job_id, text in zip(some, redis.mget([result_key(one) for one in some]), strict=True):  # type: ignore[arg-type]
                    if text is not None and (told := json.loads(text))["state"] == "succeeded":
                        found[job_id] = told["data"]
        return found
