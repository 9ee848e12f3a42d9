"""Pages of jobs. One statement, by id downwards, so that a page costs the same wherever it lies and never shifts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.answers import JobLine
from api.requests import Page, Paged

# A filter that is not given is folded away by the planner. Ids are UUIDv7: newest first is by id downwards.
# Times are spelled as `assayline_job` spells them, so that those of one job are the same text on both pages.
PAGE = text("""
SELECT id, state, reason, analysis, tenant, subject, source, lane, priority, provider, model, attempts_used,
       max_attempts, tags, (to_jsonb(created_at AT TIME ZONE 'UTC') #>> '{}') || '+00:00' AS created_at,
       (to_jsonb(not_before AT TIME ZONE 'UTC') #>> '{}') || '+00:00' AS not_before,
       (to_jsonb(started_at AT TIME ZONE 'UTC') #>> '{}') || '+00:00' AS started_at,
       (to_jsonb(finished_at AT TIME ZONE 'UTC') #>> '{}') || '+00:00' AS finished_at,
       jsonb_path_query_first(causes, '$[last].error') #>> '{}' AS last_error
  FROM assayline.jobs
 WHERE (CAST(:states AS text[]) IS NULL OR state = ANY (CAST(:states AS text[])))
   AND (CAST(:tenant AS text) IS NULL OR tenant = CAST(:tenant AS text))
   AND (CAST(:analysis AS text) IS NULL OR analysis = CAST(:analysis AS text))
   AND (CAST(:subject AS text) IS NULL OR subject = CAST(:subject AS text))
   AND (CAST(:tag AS text) IS NULL OR CAST(:tag AS text) = ANY (tags))
   AND (CAST(:before AS uuid) IS NULL OR id < CAST(:before AS uuid))
 ORDER BY id DESC LIMIT :limit
""")


async def page_of(connection: AsyncConnection, wanted: Page) -> tuple[list[dict[str, Any]], str | None]:
    """A page of jobs, newest first, as JSON, and the cursor of the next one (None: there is none)."""
    given = {
        "states": list(wanted.state) or None,
        "tenant": wanted.tenant,
        "analysis": wanted.analysis,
        "subject": wanted.subject,
        "tag": wanted.tag,
        "before": wanted.before,
        "limit": wanted.limit + 1,  # one more than is shown says whether there is a next page
    }
    rows = (await connection.execute(PAGE, given)).mappings().all()
    shown = [_line(row) for row in rows[: wanted.limit]]
    return shown, shown[-1]["id"] if len(rows) > wanted.limit else None


def next_address(path: str, wanted: Paged, cursor: str) -> str:
    """The address of the page after `wanted`."""
    said = wanted.model_dump(mode="json", exclude_none=True, exclude={"cursor"})
    return f"{path}?{urlencode({**said, 'cursor': cursor}, doseq=True)}"


def _line(row: Mapping[Any, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {name: row[name] for name in JobLine.model_fields}
    line["id"] = str(line["id"])
    return line
