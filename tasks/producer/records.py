"""What the client hands back: the receipt of a job, and a job as it stands in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from .errors import JobNotFound

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
"""The states in which a job stays."""


class Receipt(NamedTuple):
    """`item`: the job's place in the batch. `created` is False where its idempotency key had brought the job before."""

    item: int
    id: UUID
    created: bool


@dataclass(frozen=True, slots=True)
class StoredResult:
    """An answer. `data` is None where no valid one came; `raw_text` then holds what did. `cost_usd` None: unknown.

    `cached`: a remembered answer; it made no call, and cost nothing.
    """

    data: dict[str, Any] | None
    raw_text: str | None
    repaired: bool
    provider: str
    model: str
    prompt_version: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    latency_s: float
    calls: int
    cached: bool = False


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as it stands. `calls` is its ledger, oldest first; `fields` is all that `assayline_get` says, as JSON."""

    id: UUID
    tenant: str
    analysis: str
    state: str
    reason: str
    provider: str
    model: str
    attempts_used: int
    created_at: datetime
    finished_at: datetime | None
    causes: list[dict[str, Any]]
    result: StoredResult | None
    calls: list[dict[str, Any]]
    fields: dict[str, Any]

    @property
    def ended(self) -> bool:
        """Whether it succeeded, failed, was cancelled or expired."""
        return self.state in ENDED


_AS_SAID = ("tenant", "analysis", "state", "reason", "provider", "model", "attempts_used", "causes", "calls")

Rows = Sequence[Sequence[Any]]


def receipts(rows: Rows) -> list[Receipt]:
    """Read the rows of ENQUEUE or ENQUEUE_STAGED."""
    return [Receipt(item, UUID(job_id), created) for item, job_id, created in rows]


def stored_job(rows: Rows, job_id: UUID) -> StoredJob:
    """Read the row of GET.

    Raises:
        JobNotFound: it says that there is none.
    """
    if rows[0][0] is None:
        raise JobNotFound(job_id)
    said = json.loads(rows[0][0])
    finished_at = said["finished_at"]
    return StoredJob(
        id=UUID(said["id"]),
        created_at=datetime.fromisoformat(said["created_at"]),
        finished_at=datetime.fromisoformat(finished_at) if finished_at else None,
        result=_result(said["result"]),
        fields=said,
        **{name: said[name] for name in _AS_SAID},
    )


def state_after_cancel(rows: Rows, job_id: UUID) -> str:
    """Read the row of CANCEL: the state that the job is in now.

    Raises:
        JobNotFound: it says that there is none.
    """
    if rows[0][0] is None:
        raise JobNotFound(job_id)
    return str(rows[0][0])


def _result(said: dict[str, Any] | None) -> StoredResult | None:
    if said is None:
        return None
    cost = said["cost_usd"]
    # A server older than this client does not say `cached`.
    kept = {name: said[name] for name in StoredResult.__dataclass_fields__ if name in said and name != "cost_usd"}
    # Six decimals of numeric(12, 6) survive a float's shortest form unharmed.
    return StoredResult(cost_usd=None if cost is None else Decimal(str(cost)), **kept)


def as_id(job_id: UUID | str) -> UUID:
    """Take an id in either form.

    Raises:
        ValueError: it is no UUID.
    """
    return job_id if isinstance(job_id, UUID) else UUID(job_id)
