"""Of the ledger's calls, those of which nobody can say how they ended."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from api.call_answers import CallsAnswer
from api.jobs import once
from api.listing import next_address
from api.openapi import LINK, answers
from api.problems import INVALID
from api.requests import CallsPage
from api.services import Here
from tasks.unknown import LISTED, described, wanted

CALLS = "/v1/calls"

router = APIRouter(tags=["jobs"], dependencies=[Depends(once)])


@router.get(
    CALLS,
    summary="List calls of which nobody knows how they ended",
    responses=answers({200: (CallsAnswer, "A page, those of the newest jobs first", LINK)}, INVALID),
)
async def listed(here: Here, page: Annotated[CallsPage, Query()]) -> JSONResponse:
    """Calls that were begun by workers which died: they may have been answered, and paid for.

    A page has those of `limit` jobs. Follow `next` (or the header Link) for the page after it.
    """
    given = wanted(
        jobs=page.limit + 1,  # one more than is shown says whether there is a next page
        tenant=page.tenant,
        analysis=page.analysis,
        provider=page.provider,
        before=page.before,
    )
    async with here.connection() as connection:
        rows = (await connection.execute(LISTED, given)).mappings().all()
    jobs = list(dict.fromkeys(row["job_id"] for row in rows))
    shown = set(jobs[: page.limit])
    calls = [_plain(described(dict(row), here.catalog, here.registry)) for row in rows if row["job_id"] in shown]
    following = next_address(CALLS, page, str(jobs[page.limit - 1])) if len(jobs) > page.limit else None
    headers = {"Link": f'<{following}>; rel="next"'} if following else {}
    return JSONResponse({"calls": calls, "next": following}, headers=headers)


def _plain(call: dict[str, Any]) -> dict[str, Any]:
    worst_usd = call["worst_usd"]
    return {
        **call,
        "job_id": str(call["job_id"]),
        "incarnation": str(call["incarnation"]),
        "worst_usd": None if worst_usd is None else float(worst_usd),
    }
