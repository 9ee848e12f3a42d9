"""What comes back of jobs, and the base of all answers, as the OpenAPI document describes them.

What is sent is Postgres's own JSON; tests compare the two. Answers about other things have files of their own, beside
this one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from gateway.catalog_entries import Lane
from tasks.states import State
from tasks.words import JsonMap


class Answer(BaseModel):
    """Base of all answers: every field is there, null where there is nothing to say."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class Result(Answer):
    """An answer that was paid for."""

    data: JsonMap | None = Field(description="The validated answer; null where none was valid")
    raw_text: str | None = Field(description="What came, where it was repaired or not valid")
    repaired: bool
    cached: bool = Field(description="It is an earlier answer, and cost nothing")
    provider: str
    model: str
    prompt_version: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float | None = Field(description="null: unknown, which is not free")
    latency_s: float
    calls: int
    created_at: datetime


class Call(Answer):
    """One line of the ledger: one call to a provider."""

    claim_no: int
    call_no: int
    kind: Literal["answer", "repair"]
    outcome: Literal["unknown", "succeeded", "failed", "not_called", "abandoned", "cached"] = Field(
        description="unknown: begun, and nobody can say how it ended; it may have been paid for"
    )
    provider: str
    account: str
    model: str
    started_at: datetime
    finished_at: datetime | None
    latency_s: float | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None = Field(description="null: unknown, which is not free")
    estimated: bool = Field(description="Tokens and cost are Assayline's estimate: the call was cut short")
    finish_reason: str | None
    provider_request_id: str | None
    error: str | None
    error_message: str | None


class ReplayedBy(Answer):
    """A job that replays another."""

    id: UUID
    replay_id: UUID = Field(description="The replay that made it: `GET /v1/replays/{id}`")
    state: State


class JobAnswer(Answer):
    """A job as it stands, with its result and every call made for it."""

    id: UUID
    tenant: str
    analysis: str
    subject: str | None
    source: str | None
    lane: Lane
    priority: int
    state: State
    reason: str = Field(description="Why it stands where it stands: the name of its last move, or more")
    chain: list[str] = Field(description="Models in order of choice, each `provider/model`")
    hop: int = Field(description="Index of the one in force, which `provider` and `model` repeat")
    provider: str
    model: str
    prompt_version: str | None
    output_format: str | None
    max_tokens: int | None
    temperature: float | None
    max_cost_usd: float | None
    max_attempts: int
    use_cache: bool
    use_fallback: bool
    tags: list[str]
    idempotency_key: str | None
    not_before: datetime
    deadline_at: datetime | None
    expires_at: datetime | None
    release: int
    claim_no: int
    attempts_used: int
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    causes: list[JsonMap] = Field(description="Each unhappy end of an attempt, oldest first")
    replay_of: UUID | None = Field(description="The job that this one replays")
    replay_id: UUID | None = Field(description="The replay that made it")
    replay_root: UUID | None = Field(description="The first job of its line; null: it replays none")
    replays: list[ReplayedBy] = Field(description="The jobs that replay it, oldest first")
    result: Result | None
    calls: list[Call] = Field(description="Oldest first")


class EnqueuedAnswer(JobAnswer):
    """A job that was handed over just now, or earlier under the same idempotency key."""

    created: bool = Field(description="false: the idempotency key had brought this very request before")


class CancelAnswer(Answer):
    """Where a job stands after somebody wished to cancel it."""

    id: UUID
    state: State
    cancelled: bool = Field(description="false: it had ended otherwise before")


class CancellationAnswer(Answer):
    """What became of a wish to cancel jobs by filter. Those who wait for one of them hear of it."""

    cancelled: int = Field(description="Jobs that this request has cancelled")
    running: int = Field(description="Of those, how many ran: their calls are cut off, and their cost is recorded")
    held: int = Field(
        description="Jobs passed by, for somebody's open transaction held them; from the beginning again finds them"
    )
    next: str | None = Field(description="The `cursor` of the request that goes on; null: all were gone over")
    matching: dict[str, int] | None = Field(description="With `dry_run`: how many it would be now, by state; else null")


class JobLine(Answer):
    """A job in a list."""

    id: UUID
    state: State
    reason: str
    analysis: str
    tenant: str
    subject: str | None
    source: str | None
    lane: Lane
    priority: int
    provider: str
    model: str
    attempts_used: int
    max_attempts: int
    tags: list[str]
    created_at: datetime
    not_before: datetime
    started_at: datetime | None
    finished_at: datetime | None
    last_error: str | None = Field(description="Of its last unhappy attempt")


class PageAnswer(Answer):
    """A page of jobs, newest first."""

    jobs: list[JobLine]
    next: str | None = Field(description="Address of the page after it; null: this is the last one")


class HealthAnswer(Answer):
    """The process lives."""

    status: Literal["ok"] = "ok"


class ReadyAnswer(Answer):
    """Jobs can be handed over."""

    status: Literal["ready"] = "ready"
    postgres: Literal["ok"] = "ok"
    redis: Literal["ok"] = "ok"
    catalog: Literal["ok"] = "ok"
