"""The routes of pauses: stop a provider, a queue, an analysis or a tenant, list what is stopped, let it go on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from api.answers import Answer
from api.door import read_body
from api.jobs import once
from api.openapi import answers, body
from api.problems import INVALID, NOT_JSON, PAUSE_BLOCKED, WRONG_MEDIA_TYPE, Problem, refused
from api.requests import PauseRequest, WhichPause
from api.services import Here, no_parameters
from tasks import pauses
from tasks.pauses import PauseKind

PAUSES = "/v1/pauses"

router = APIRouter(tags=["pauses"])


class PauseLine(Answer):
    """A pause that holds."""

    kind: PauseKind
    name: str
    why: str = Field(description="A remark; empty where none was made")
    since: datetime


class PausesAnswer(Answer):
    """All that is stopped."""

    pauses: list[PauseLine] = Field(description="By kind and name")


class PausedAnswer(Answer):
    """What a pause has done."""

    kind: PauseKind
    name: str
    why: str
    waiting_again: int = Field(description="Jobs that were queued already, and wait again")
    held: int = Field(description="Queued jobs that an open transaction has locked: they may still run")


class ResumedAnswer(Answer):
    """What has been let go on."""

    kind: PauseKind
    name: str
    was_paused: bool = Field(description="false: there was no such pause")


async def _wanted(request: Request) -> PauseRequest:
    return await read_body(request, PauseRequest)


@router.get(
    PAUSES,
    summary="List what is paused",
    dependencies=[Depends(no_parameters)],
    responses=answers({200: (PausesAnswer, "All pauses")}, INVALID),
)
async def listed(here: Here) -> JSONResponse:
    """All that operators have stopped: its jobs wait."""
    async with here.connection() as connection:
        found = await pauses.pauses(connection)
    answer = PausesAnswer(pauses=[PauseLine(**one.fields) for one in found])
    return JSONResponse(answer.model_dump(mode="json"))


@router.post(
    PAUSES,
    summary="Pause a provider, a queue, an analysis or a tenant",
    dependencies=[Depends(no_parameters)],
    openapi_extra=body(PauseRequest),
    responses=answers(
        {200: (PausedAnswer, "Nothing more of it is released")}, NOT_JSON, WRONG_MEDIA_TYPE, INVALID, PAUSE_BLOCKED
    ),
)
async def pause(here: Here, wanted: Annotated[PauseRequest, Depends(_wanted)]) -> JSONResponse:
    """Release nothing more of it, at once, until it is resumed. Jobs can be handed over, and wait; what runs goes on.

    What is paused already stays so, with the new remark. Queued jobs that are `held` wait again once their transaction
    has ended and the pause is made again.
    """
    kind = PauseKind(wanted.kind)
    async with here.connection() as connection:
        there_are = await pauses.unknown(connection, kind, wanted.name, lambda: here.catalog)
        if there_are is not None:
            raise refused("name", f"no such {kind}; there are {', '.join(there_are)}")
        try:
            done = await pauses.pause(connection, kind, wanted.name, wanted.why)
        except pauses.PauseBlocked as error:
            raise Problem(PAUSE_BLOCKED, str(error)) from error
    answer = PausedAnswer(kind=kind, name=wanted.name, why=wanted.why, waiting_again=done.jobs, held=done.held)
    return JSONResponse(answer.model_dump(mode="json"))


@router.delete(
    PAUSES,
    summary="Let a pause end",
    dependencies=[Depends(once)],
    responses=answers({200: (ResumedAnswer, "It is not paused, or not any more")}, INVALID, PAUSE_BLOCKED),
)
async def resume(here: Here, which: Annotated[WhichPause, Query()]) -> JSONResponse:
    """Let it go on, within a second. Other pauses that mean the same jobs still hold."""
    async with here.connection() as connection:
        try:
            ended = await pauses.resume(connection, which.kind, which.name)
        except pauses.PauseBlocked as error:
            raise Problem(PAUSE_BLOCKED, str(error)) from error
    answer = ResumedAnswer(kind=which.kind, name=which.name, was_paused=ended)
    return JSONResponse(answer.model_dump(mode="json"))
