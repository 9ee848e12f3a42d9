"""Jobs that have ended, and replays of them, on a real database: the job domain's world, and what replays need."""

from __future__ import annotations

import json
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from gateway.analyses.registry import AnalysisRegistry
from tasks.replay.book import make
from tasks.replay.copy import portion
from tasks.replay.plan import Bearings
from tasks.replay.request import ReplayRequest

if TYPE_CHECKING:
    from uuid import UUID

    from jobworld import JobWorld
    from psycopg import Connection

    from gateway.messages import Usage
    from tasks.replay.book import Replay
    from tasks.replay.plan import Plan

NO_ANALYSES = AnalysisRegistry(MappingProxyType({}))
ALL = {"all": True}


TABLES = ("jobs", "job_contents", "calls", "results", "idempotency_keys", "replays", "replay_jobs", "workers")


def cleared(link: Connection[Any]) -> None:
    """Take all jobs and replays away, and the catalog."""
    for table in (*TABLES, "catalog_analyses", "catalog_models"):
        link.execute(f"DELETE FROM assayline.{table}")


def one_dollar_a_token(model: str, usage: Usage) -> Decimal | None:
    """A catalog with a price for one model."""
    return Decimal(usage.input_tokens + usage.output_tokens) if model == "two/large" else None


BEARINGS = Bearings(one_dollar_a_token, NO_ANALYSES)


def ended(
    world: JobWorld, state: str = "failed", *, analysis: str = "quick", error: str = "timeout", **options: Any
) -> UUID:
    """A job that has ended so, without a worker."""
    job = world.enqueue(analysis, **options)
    end(world, job, state, error=error)
    return job


def end(world: JobWorld, job: UUID, state: str, *, error: str = "timeout") -> None:
    """End a job, whatever it is doing."""
    causes = [{"at": "2026-11-05T08:00:00Z", "error": "older"}, {"at": "2026-11-05T08:00:01Z", "error": error}]
    world.sql(
        "UPDATE assayline.jobs SET state = %s, reason = %s, finished_at = clock_timestamp(), causes = %s WHERE id = %s",
        state, "fail" if state == "failed" else state, Jsonb(causes if state == "failed" else []), job,
    )  # fmt: skip


def called(
    world: JobWorld,
    job: UUID,
    cost: str | None,
    tokens: tuple[int, int] | None = (10, 5),
    *,
    outcome: str = "succeeded",
) -> None:
    """A call of the job in the ledger, on the model it stands at."""
    sent, received = tokens or (None, None)
    world.sql(
        "INSERT INTO assayline.calls (job_id, claim_no, call_no, kind, outcome, tenant, analysis, provider, account,"
        " model, incarnation, started_at, input_tokens, output_tokens, cost_usd)"
        " SELECT id, 1, (SELECT count(*) + 1 FROM assayline.calls WHERE job_id = id), 'answer', %s, tenant, analysis,"
        " provider, 'main', model, id, clock_timestamp(), %s, %s, %s FROM assayline.jobs WHERE id = %s",
        outcome, sent, received, cost, job,
    )  # fmt: skip


async def asked(world: JobWorld, **request: Any) -> tuple[Plan, Replay | None]:
    """Make a replay, as the CLI and the API do."""
    wanted = ReplayRequest.model_validate(request)
    async with world.engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        made = await make(connection, wanted, BEARINGS)
        return made.plan, made.replay


async def made(world: JobWorld, **request: Any) -> Replay:
    """Make a replay of at least one job."""
    _, replay = await asked(world, **request)
    assert replay is not None
    return replay


async def copied(world: JobWorld, most: int = 200) -> None:
    """Make all new jobs that may be made now."""
    while await portion(world.engine, most) is not None:
        pass


def copies(world: JobWorld, job: UUID) -> list[dict[str, Any]]:
    """The jobs that replay this one, oldest first."""
    return world.sql("SELECT * FROM assayline.jobs WHERE replay_of = %s ORDER BY id", job)


def told(world: JobWorld, job: UUID) -> dict[str, Any]:
    """The job as `assayline_get` tells it."""
    [row] = world.sql("SELECT assayline_get(%s)::text AS job", job)
    found: dict[str, Any] = json.loads(row["job"])
    return found
