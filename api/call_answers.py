"""What comes back of calls, as the OpenAPI document describes it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from api.answers import Answer
from tasks.states import State


class CallingWorker(Answer):
    """The process that made a call."""

    hostname: str
    pid: int


class UnknownCall(Answer):
    """A call of which nobody knows how it ended."""

    job_id: UUID
    claim_no: int
    call_no: int
    kind: Literal["answer", "repair"]
    tenant: str
    analysis: str
    provider: str
    account: str
    model: str
    incarnation: UUID = Field(description="The life of the worker process that began it")
    worker: CallingWorker | None = Field(description="null: forgotten, an hour after its last sign of life")
    started_at: datetime
    job_state: State = Field(description="Where its job stands now: another call may have been made for it")
    worst_usd: float | None = Field(description="What it may have cost at most, by our estimate; null: unknown")


class CallsAnswer(Answer):
    """A page of calls, those of the newest jobs first."""

    calls: list[UnknownCall]
    next: str | None = Field(description="Address of the page after it; null: this is the last one")
