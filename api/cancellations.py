"""The route that cancels jobs by filter: a portion for each request, so that each is over soon and none is a giant."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from api.answers import CancellationAnswer
from api.door import read_body
from api.limits import CANCEL_FOR_S
from api.openapi import answers, body
from api.problems import INVALID, NOT_JSON, WRONG_MEDIA_TYPE
from api.requests import CancellationRequest
from api.services import Here, Services, no_parameters
from tasks.producer.cancelling import PORTION, portion_of, which_json
from tasks.producer.statements import CANCEL_JOBS, COUNT_CANCELLABLE

CANCELLATIONS = "/v1/cancellations"

router = APIRouter(tags=["jobs"], dependencies=[Depends(no_parameters)])


async def _wanted(request: Request) -> CancellationRequest:
    return await read_body(request, CancellationRequest)


@router.post(
    CANCELLATIONS,
    summary="Cancel jobs by filter",
    openapi_extra=body(CancellationRequest),
    responses=answers(
        {200: (CancellationAnswer, "What was done; `next` says where to go on")}, NOT_JSON, WRONG_MEDIA_TYPE, INVALID
    ),
)
async def cancel_many(here: Here, wanted: Annotated[CancellationRequest, Depends(_wanted)]) -> JSONResponse:
    """Cancel the jobs that fit all that is named, as many as a second or two allow, each thousand by itself.

    Send it again with `next` as the `cursor` until that is null. A body that names nothing is refused: every job is
    `all`. With `dry_run` the jobs are counted and left alone.
    """
    which = which_json(wanted.which)
    answer = await _counted(here, which) if wanted.dry_run else await _cancelled(here, which, wanted.cursor)
    return JSONResponse(answer.model_dump(mode="json"))


async def _counted(here: Services, which: str) -> CancellationAnswer:
    async with here.connection() as connection:
        rows = await connection.exec_driver_sql(COUNT_CANCELLABLE, (which,))
        matching = {row["state"]: row["jobs"] for row in rows.mappings()}
    return CancellationAnswer(cancelled=0, running=0, held=0, next=None, matching=matching)


async def _cancelled(here: Services, which: str, cursor: str | None) -> CancellationAnswer:
    loop = asyncio.get_running_loop()
    until = loop.time() + CANCEL_FOR_S
    cancelled = running = held = 0
    while True:
        async with here.connection() as connection:
            rows = await connection.exec_driver_sql(CANCEL_JOBS, (which, PORTION, cursor))
            portion = portion_of(rows.fetchall())
        cancelled, running, held = cancelled + portion.cancelled, running + portion.running, held + portion.held
        cursor = portion.reached
        if cursor is None or loop.time() >= until:
            return CancellationAnswer(cancelled=cancelled, running=running, held=held, next=cursor, matching=None)
