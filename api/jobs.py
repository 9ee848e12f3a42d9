"""The routes of jobs: hand one over, look at it, wait for it, list, cancel. Every write is Postgres's own function."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse

from api.answers import CancelAnswer, EnqueuedAnswer, JobAnswer, PageAnswer
from api.door import Body, IdempotencyKey, checked
from api.guard import ClientGone
from api.listing import next_address, page_of
from api.openapi import LINK, LOCATION, answers, body
from api.problems import CONFLICT, INVALID, NO_SUCH_JOB, NOT_JSON, WRONG_MEDIA_TYPE, refused
from api.requests import ONCE, JobRequest, Page, Waiting, WhichTenant
from api.services import Here, Services, no_parameters
from tasks.producer import StoredJob, WaitTimeout
from tasks.producer.jobs import OPTIONS, Job
from tasks.producer.watch import Watch
from tasks.states import State
from tasks.words import IdText

JOBS = "/v1/jobs"
Id = Annotated[IdText, Path(description="The job's id")]


def once(request: Request) -> None:
    """Refuse a parameter or key that is given twice and has one value."""
    names = [name for name, _ in request.query_params.multi_items() if name in ONCE]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is None and len(request.headers.getlist("idempotency-key")) > 1:
        twice = "idempotency-key"
    if twice is not None:
        raise refused(twice, "is given twice")


router = APIRouter(tags=["jobs"], dependencies=[Depends(once)])


@router.post(
    JOBS,
    status_code=202,
    summary="Hand a job over",
    dependencies=[Depends(no_parameters)],
    openapi_extra=body(JobRequest),
    responses=answers(
        {
            202: (EnqueuedAnswer, "It is in, and will run", LOCATION),
            200: (EnqueuedAnswer, "The idempotency key had brought this very request before: that job", LOCATION),
        },
        NOT_JSON, CONFLICT, WRONG_MEDIA_TYPE, INVALID,
    ),
)  # fmt: skip
async def enqueue(here: Here, wanted: Body, idempotency_key: IdempotencyKey = None) -> JSONResponse:
    """Enqueue one job. It is committed when the answer comes; what happens then shows in its `state`.

    Without an idempotency key a request that is sent again, after a broken connection say, is another job.
    """
    job = checked(wanted, idempotency_key, here.registry)
    fields = {name: value for name, value in _options(job).items() if value is not None}
    async with here.transaction() as connection:
        receipt = await here.client.enqueue(job.analysis, job.content, connection=connection, **fields)
        stored = await here.client.get(receipt.id, connection=connection)
    return JSONResponse(
        {**stored.fields, "created": receipt.created},
        status_code=202 if receipt.created else 200,
        headers={"Location": f"{JOBS}/{receipt.id}"},
    )


@router.get(JOBS, summary="List jobs", responses=answers({200: (PageAnswer, "A page, newest first", LINK)}, INVALID))
async def listed(here: Here, wanted: Annotated[Page, Query()]) -> JSONResponse:
    """List jobs, newest first. Follow `next` (or the header Link) for the page after it."""
    async with here.connection() as connection:
        lines, cursor = await page_of(connection, wanted)
    following = next_address(JOBS, wanted, cursor) if cursor else None
    headers = {"Link": f'<{following}>; rel="next"'} if following else {}
    return JSONResponse({"jobs": lines, "next": following}, headers=headers)


@router.get(
    JOBS + "/{id}",
    summary="Look at a job, or wait for its end",
    responses=answers({200: (JobAnswer, "The job as it stands")}, NO_SUCH_JOB, INVALID),
)
async def look(request: Request, here: Here, id: Id, wanted: Annotated[Waiting, Query()]) -> JSONResponse:  # noqa: A002
    """A job with its result and its calls. With `wait` the answer comes when it has ended, or the time is up."""
    job_id = UUID(id)
    gone = asyncio.create_task(_gone(request))
    try:
        stored = await _awaited(here, job_id, wanted, gone)
    finally:
        gone.cancel()
        await asyncio.wait([gone])
    return JSONResponse(stored.fields)


@router.post(
    JOBS + "/{id}/cancel",
    summary="Cancel a job",
    responses=answers({200: (CancelAnswer, "Where it stands now")}, NO_SUCH_JOB, INVALID),
)
async def cancel(here: Here, id: Id, whose: Annotated[WhichTenant, Query()]) -> JSONResponse:  # noqa: A002
    """Cancel a job that has not ended. A call that runs is cut off within two seconds, and its cost is recorded."""
    job_id = UUID(id)
    async with here.connection() as connection:
        state = await here.client.cancel(job_id, tenant=whose.tenant, connection=connection)
    cancelled = state == State.CANCELLED
    if cancelled:
        await here.announcer.ended(job_id, state, None)  # those who wait for it hear of it at once
    return JSONResponse({"id": str(job_id), "state": state, "cancelled": cancelled})


async def _awaited(here: Services, job_id: UUID, wanted: Waiting, gone: asyncio.Task[None]) -> StoredJob:
    """The job when it has ended, or when nobody is to wait any longer.

    Raises:
        ClientGone: the caller hung up.
    """
    loop = asyncio.get_running_loop()
    watch = Watch(job_id, wanted.wait, loop.time())
    with here.ends.of(job_id) as ended:
        while True:
            ended.clear()
            stored = await _looked(here, job_id, wanted.tenant)
            if stored.ended or here.ends.stopping:
                return stored
            try:
                pause_s = watch.pause_s(loop.time(), stored.state, hearing=here.ends.hearing)
            except WaitTimeout:
                return stored
            await _pause(ended, gone, pause_s)


async def _looked(here: Services, job_id: UUID, tenant: str | None) -> StoredJob:
    async with here.connection() as connection:
        return await here.client.get(job_id, tenant=tenant, connection=connection)


async def _pause(ended: asyncio.Event, gone: asyncio.Task[None], pause_s: float) -> None:
    """Return when the job is said to have ended, or the pause is over; ClientGone where the caller hangs up."""
    hearing = asyncio.create_task(ended.wait())
    try:
        await asyncio.wait([hearing, gone], timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hearing.cancel()
        await asyncio.wait([hearing])
    if gone.done():
        raise ClientGone


async def _gone(request: Request) -> None:
    """Return when the caller has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _options(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in OPTIONS}
