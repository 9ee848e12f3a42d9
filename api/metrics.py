"""What Prometheus reads: figures that no single process has, counted when it asks, in its text format 0.0.4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse
from redis.exceptions import RedisError

from api.openapi import answers
from api.problems import INVALID
from api.services import Here, Services, no_parameters
from gateway.journal.journal import BEFALLEN, COUNTS
from tasks.unknown import COUNTED, MOST_COUNTED

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(tags=["health"], dependencies=[Depends(no_parameters)])


class Exposition(PlainTextResponse):
    """A page in Prometheus's text format."""

    media_type = MEDIA_TYPE


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Exposition,
    responses={200: {"description": "As Prometheus reads it"}, **answers({}, INVALID)},
)
async def metrics(here: Here) -> Exposition:
    """Calls of which nobody knows how they ended, and what the journal was good for. Needs the key, as all but health.

    Figures that lie in Redis are left out while it is away.
    """
    unknown = await _unknown(here)
    found = await _journal(here)
    lines = [
        *_metric(
            "assayline_unknown_calls",
            "gauge",
            f"Calls begun by workers that died; of the latest {MOST_COUNTED} calls that are open or unknown.",
            "provider",
            unknown,
        ),
        *_metric(
            "assayline_journal_answers_total",
            "counter",
            "Answers not stored when their process died: found again, of no use, too large to keep; since a flush.",
            "what",
            found,
        ),
    ]
    return Exposition("".join(f"{line}\n" for line in lines))


async def _unknown(here: Services) -> Mapping[str, int]:
    """By provider; 0 for those that are configured and have none."""
    async with here.connection() as connection:
        rows = (await connection.execute(COUNTED, {"most": MOST_COUNTED})).all()
    none = dict.fromkeys(sorted(ref.provider for ref in here.catalog.models()), 0)
    return none | {row.provider: row.calls for row in rows}


async def _journal(here: Services) -> Mapping[str, int]:
    try:
        counts = await here.redis.hgetall(COUNTS)
    except (RedisError, OSError):
        return {}
    return {what: int(counts.get(what.encode(), 0)) for what in BEFALLEN}


def _metric(name: str, kind: str, about: str, label: str, values: Mapping[str, int]) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"
    for value, count in values.items():
        yield f'{name}{{{label}="{_escaped(value)}"}} {count}'


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
