"""Whether the process lives, and whether a job can be handed over to it now."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from fastapi import APIRouter, Depends, Request
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.answers import HealthAnswer, ReadyAnswer
from api.limits import READY_FOR_S
from api.openapi import answers
from api.problems import INVALID, NOT_READY, Finding, later
from api.services import Here, Services, no_parameters
from tasks.producer import AssaylineError

# Whether our functions are there, under which revision, and whether a dispatcher has written what can be enqueued.
FUNCTIONS = text("SELECT to_regprocedure('public.assayline_enqueue(text, text, jsonb, integer)') IS NOT NULL")
REVISION = text("SELECT max(version_num) FROM assayline.alembic_version")
MIRRORED = text("SELECT EXISTS (SELECT FROM assayline.catalog_analyses WHERE cardinality(chain) > 0)")

router = APIRouter(tags=["health"], dependencies=[Depends(no_parameters)])


@dataclass(slots=True)
class Readiness:
    """What was found last, for as long as it holds; askers at once share one look."""

    found: list[Finding] = field(default_factory=list)
    until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def of(self, here: Services) -> list[Finding]:
        """What is wrong, by part; empty where nothing is."""
        async with self.lock:
            if time.monotonic() >= self.until:
                self.found = [finding for part in await _looks(here) for finding in part]
                self.until = time.monotonic() + READY_FOR_S
            return self.found


@router.get(
    "/health",
    summary="Whether the process lives",
    responses=answers({200: (HealthAnswer, "It does")}, INVALID),
    response_model=HealthAnswer,
)
async def alive() -> HealthAnswer:
    """Answers as long as the process does; asks nobody else."""
    return HealthAnswer()


@router.get(
    "/health/ready",
    summary="Whether jobs can be handed over",
    responses=answers({200: (ReadyAnswer, "They can")}, NOT_READY, INVALID),
    response_model=ReadyAnswer,
)
async def ready(request: Request, here: Here) -> ReadyAnswer:
    """Postgres answers and is migrated, Redis answers, a dispatcher has written which analyses there are."""
    readiness: Readiness = request.app.state.readiness
    if found := await readiness.of(here):
        raise later(NOT_READY, errors=[(finding.field, finding.problem) for finding in found])
    return ReadyAnswer()


async def _looks(here: Services) -> list[list[Finding]]:
    return list(await asyncio.gather(_postgres(here), _redis(here)))


async def _postgres(here: Services) -> list[Finding]:
    try:
        async with here.connection() as connection:
            if not (await connection.execute(FUNCTIONS)).scalar_one():
                return [_wrong("postgres", "it has none of Assayline's functions: run `assayline migrate`")]
            revision = str((await connection.execute(REVISION)).scalar_one())
            mirrored = (await connection.execute(MIRRORED)).scalar_one()
    except (SQLAlchemyError, AssaylineError, TimeoutError, OSError) as error:
        return [_wrong("postgres", f"does not answer ({type(error).__name__})")]
    # Revisions are numbered. A newer one is fine: the functions are versioned, and an upgrade migrates first.
    if here.revision is not None and revision < here.revision:
        return [_wrong("postgres", f"its schema is at {revision}, and {here.revision} is needed: `assayline migrate`")]
    if not mirrored:
        return [_wrong("catalog", "no analysis can run: no dispatcher has started here, or no provider is configured")]
    return []


async def _redis(here: Services) -> list[Finding]:
    try:
        await here.redis.ping()
    except (RedisError, OSError) as error:
        return [_wrong("redis", f"does not answer ({type(error).__name__})")]
    return []


def _wrong(part: str, problem: str) -> Finding:
    return Finding(field=part, problem=problem)
