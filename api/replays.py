"""The routes of replays: make one, look at it, list, pause, resume, stop. What a replay is stands in `tasks.replay`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.door import IdempotencyKey, ReplayBody, agreed
from api.jobs import once
from api.limits import PLAN_WITHIN_S
from api.listing import next_address
from api.openapi import LINK, MAYBE_REPLAY_LOCATION, REPLAY_LOCATION, answers, body
from api.problems import (
    BUSY,
    CONFLICT,
    INVALID,
    NO_SUCH_REPLAY,
    NOT_JSON,
    REPLAY_BEING_MADE,
    REPLAY_ENDED,
    TOO_MUCH,
    UNKNOWN_ANALYSIS,
    UNKNOWN_MODEL,
    WRONG_MEDIA_TYPE,
    Problem,
    later,
)
from api.replay_answers import LeftOut, PlanAnswer, ReplayAnswer, ReplayLine, ReplaysAnswer, Skipped
from api.requests import ReplayPage, WhichTenant
from api.services import Here, Services, no_parameters
from tasks.replay import book
from tasks.replay.costs import priced_by
from tasks.replay.plan import Bearings
from tasks.replay.request import ReplayRequest
from tasks.words import IdText

REPLAYS = "/v1/replays"
QUERY_CANCELED = "57014"
Id = Annotated[IdText, Path(description="The replay's id")]
Whose = Annotated[WhichTenant, Query()]

router = APIRouter(tags=["replays"], dependencies=[Depends(once)])


@router.post(
    REPLAYS,
    status_code=202,
    summary="Replay jobs that have ended",
    dependencies=[Depends(no_parameters)],
    openapi_extra=body(ReplayRequest),
    responses=answers(
        {
            202: (PlanAnswer, "The replay is made; its new jobs follow", REPLAY_LOCATION),
            200: (
                PlanAnswer,
                "Nothing was made: a dry run, nothing to replay, or the idempotency key had brought this very request"
                " before: that replay",
                MAYBE_REPLAY_LOCATION,
            ),
        },
        NOT_JSON, CONFLICT, WRONG_MEDIA_TYPE, INVALID, UNKNOWN_ANALYSIS, UNKNOWN_MODEL, TOO_MUCH, REPLAY_BEING_MADE,
    ),
)  # fmt: skip
async def make(here: Here, wanted: ReplayBody, idempotency_key: IdempotencyKey = None) -> JSONResponse:
    """Replay jobs: what each asked for is asked for again by a new job; the old one stays as it ended.

    Which jobs are meant is settled now. A job whose replay waits, runs or has succeeded is left out, unless `again` is
    said. A request that is sent again, after a broken connection say, is answered with the replay that it made where it
    has an idempotency key; without one it takes what is left: with `limit` the next jobs, with `again` all once more.
    """
    asked = wanted.model_copy(update={"idempotency_key": agreed(idempotency_key, wanted.idempotency_key)})
    bearings = Bearings(priced_by(here.catalog), here.registry)
    async with _planning(here) as connection:
        made = await book.make(connection, asked, bearings, patient=False)
    headers = {} if made.replay is None else {"Location": f"{REPLAYS}/{made.replay.id}"}
    answer = _plan(made).model_dump(mode="json")
    return JSONResponse(answer, status_code=202 if made.created else 200, headers=headers)


@router.get(
    REPLAYS, summary="List replays", responses=answers({200: (ReplaysAnswer, "A page, newest first", LINK)}, INVALID)
)
async def listed(here: Here, wanted: Annotated[ReplayPage, Query()]) -> JSONResponse:
    """List replays, newest first. Follow `next` (or the header Link) for the page after it."""
    asked: dict[str, Any] = {"states": wanted.state, "tenant": wanted.tenant, "before": wanted.before}
    async with here.connection() as connection:
        found = await book.page(connection, **asked, limit=wanted.limit + 1)
    shown = found[: wanted.limit]
    following = next_address(REPLAYS, wanted, str(shown[-1].id)) if len(found) > wanted.limit else None
    page = ReplaysAnswer(replays=[_line(one) for one in shown], next=following)
    headers = {"Link": f'<{following}>; rel="next"'} if following else {}
    return JSONResponse(page.model_dump(mode="json"), headers=headers)


@router.get(
    REPLAYS + "/{id}",
    summary="Look at a replay, and how its new jobs fare",
    responses=answers({200: (ReplayAnswer, "The replay as it stands")}, NO_SUCH_REPLAY, INVALID),
)
async def look(here: Here, id: Id, whose: Whose) -> JSONResponse:  # noqa: A002
    """A replay with its new jobs by state: how far it has come, and what became of them."""
    with _found():
        async with here.connection() as connection:
            found = await book.standing(connection, UUID(id), whose.tenant)
    problems = [Skipped(problem=problem, jobs=jobs) for problem, jobs in found.problems]
    answer = ReplayAnswer(**dict(_line(found.replay)), outcomes=found.outcomes, problems=problems)
    return JSONResponse(answer.model_dump(mode="json"))


TOLD = answers({200: (ReplayLine, "How it stands now")}, NO_SUCH_REPLAY, REPLAY_ENDED, INVALID)


@router.post(REPLAYS + "/{id}/pause", summary="Pause a replay", responses=TOLD)
async def pause(here: Here, id: Id, whose: Whose) -> JSONResponse:  # noqa: A002
    """Make no new jobs until it is resumed. Those that are made go on."""
    return await _told(here, id, "pause", whose)


@router.post(REPLAYS + "/{id}/resume", summary="Resume a replay", responses=TOLD)
async def resume(here: Here, id: Id, whose: Whose) -> JSONResponse:  # noqa: A002
    """Go on where it was paused, or has paused by itself."""
    return await _told(here, id, "resume", whose)


@router.post(REPLAYS + "/{id}/stop", summary="Stop a replay for good", responses=TOLD)
async def stop(here: Here, id: Id, whose: Whose) -> JSONResponse:  # noqa: A002
    """Make no more new jobs, ever. Those that are made go on; what is left can be replayed by another."""
    return await _told(here, id, "stop", whose)


async def _told(here: Services, replay_id: str, order: str, whose: WhichTenant) -> JSONResponse:
    with _found():
        async with here.connection() as connection:
            replay = await book.order(connection, UUID(replay_id), order, whose.tenant)
    return JSONResponse(_line(replay).model_dump(mode="json"))


@asynccontextmanager
async def _planning(here: Services) -> AsyncIterator[AsyncConnection]:
    """A transaction whose statements are given up while there is still time to say so. A few at a time."""
    try:
        async with _place(here), here.transaction() as connection:
            await connection.execute(text(f"SET LOCAL statement_timeout TO '{PLAN_WITHIN_S:g}s'"))
            yield connection
    except book.ReplayBeingMade as error:
        raise later(REPLAY_BEING_MADE, f"{error}; nothing was made") from error
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != QUERY_CANCELED:
            raise
        narrower = "name a time (created_after, created_before) or a tenant, or let `assayline replay` do it"
        raise Problem(TOO_MUCH, f"too many jobs to look at in {PLAN_WITHIN_S:g} s: {narrower}") from error


@asynccontextmanager
async def _place(here: Services) -> AsyncIterator[None]:
    """One of the places for plans: waited for without a connection, so that other requests have theirs."""
    try:
        async with asyncio.timeout(PLAN_WITHIN_S):
            await here.plans.acquire()
    except TimeoutError as error:
        raise later(BUSY, "too many replays are being planned; nothing was made") from error
    try:
        yield
    finally:
        here.plans.release()


@contextmanager
def _found() -> Iterator[None]:
    try:
        yield
    except book.ReplayNotFound as error:
        raise Problem(NO_SUCH_REPLAY, str(error)) from error
    except book.ReplayEnded as error:
        raise Problem(REPLAY_ENDED, str(error)) from error


def _line(replay: book.Replay) -> ReplayLine:
    return ReplayLine(**asdict(replay), left=replay.left)


def _plan(made: book.Making) -> PlanAnswer:
    said = {**made.plan.fields, "left_out": LeftOut(**made.plan.left_out)}
    return PlanAnswer(**said, created=made.created, replay=None if made.replay is None else _line(made.replay))
