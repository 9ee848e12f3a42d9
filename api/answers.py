"""What comes back, as the OpenAPI document describes it. What is sent is Postgres's own JSON; tests compare the two."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from gateway.analyses.base import Sensitivity
from gateway.catalog_entries import Capability, Lane, Limits
from tasks.states import State

JsonMap = dict[str, Any]
Usd = Annotated[Decimal, PlainSerializer(float, return_type=float)]
"""Dollars as a JSON number: six decimals survive a float."""


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


class PromptLine(Answer):
    """One version of a prompt."""

    version: str
    description: str
    fingerprint: str = Field(description="SHA-256 of version and text")
    required: list[str] = Field(description="Variables that `context` must hold")
    optional: JsonMap = Field(description="Variables that it may hold, with their defaults")


class PromptAnswer(PromptLine):
    """A prompt version with its text."""

    id: str = Field(description="`analysis/version`")
    analysis: str
    default: bool = Field(description="Whether it is used where a job names no version")
    text: str = Field(description="The file: front matter, then the system and the user part")


class AnalysisLine(Answer):
    """An analysis in the list of them."""

    name: str
    description: str
    lane: Lane
    chain: list[str] = Field(description="Models of configured providers, in order; empty: nobody serves it now")
    sensitivity: Sensitivity


class AnalysisLimits(Answer):
    """What an analysis takes and gives at most."""

    max_content_bytes: int
    max_output_tokens: int
    cache_ttl_s: int
    temperature: float | None


class ExampleAnswer(Answer):
    """A real input of an analysis."""

    content: str
    context: JsonMap
    source: str = Field(description="Where it comes from")


class AnalysisAnswer(AnalysisLine):
    """All about an analysis."""

    result_schema: JsonMap | None = Field(description="JSON schema of `result.data`; null: it depends on the request")
    prompt_version: str = Field(description="The one used where a job names none")
    prompts: list[PromptLine]
    limits: AnalysisLimits
    own_words: bool = Field(description="It takes the caller's own messages, schema and output_format")
    moves_on_refusal: bool = Field(description="A refusal of the content may be taken to the next model")
    example: ExampleAnswer | None


class AnalysesAnswer(Answer):
    """All analyses there are."""

    analyses: list[AnalysisLine]


class PriceAnswer(Answer):
    """US dollars for a million tokens."""

    input_per_mtok_usd: Usd
    output_per_mtok_usd: Usd
    cached_input_per_mtok_usd: Usd | None
    cache_write_per_mtok_usd: Usd | None


class LongPriceAnswer(PriceAnswer):
    """The rates of calls with a longer input."""

    above_input_tokens: int


class WholePriceAnswer(PriceAnswer):
    """What a model costs today (UTC)."""

    long_context: LongPriceAnswer | None


class ModelAnswer(Answer):
    """A model."""

    name: str = Field(description="As a job's `model` names it: `provider/model`")
    context_window: int
    max_output_tokens: int
    capabilities: list[Capability]
    price: WholePriceAnswer | None = Field(description="null: unknown, which is not free")
    limit_group: str
    deprecated_on: date | None = Field(description="The day its provider stops serving it")
    replacement: str | None
    source: str = Field(description="Where the figures come from")
    checked: date = Field(description="The day somebody looked")
    note: str | None


class AccountAnswer(Answer):
    """An account with a provider, and its limits by limit group."""

    name: str
    zone: str
    limits: dict[str, Limits]


class BreakerAnswer(Answer):
    """An account's breaker: whether its calls lately failed, as all workers see it."""

    state: Literal["closed", "open", "half-open"]
    reason: str = Field(description="Of the last change; empty where there was none")
    since: datetime | None = Field(description="When it changed last")
    forced: Literal["open", "closed"] | None = Field(description="How an operator holds it")
    failures: int = Field(description="Since the last success")
    next_probe_s: float | None = Field(description="In how many seconds one call may try whether the provider is well")


class GroupTrafficAnswer(Answer):
    """A limit group right now."""

    group: str
    open_calls: int
    used: dict[str, float] = Field(description="Share of each rate used in about the last minute; 1 is all of it")
    ready_in_s: float | None = Field(
        description="When an interactive call could go; 0 is now; null: once an open call has ended"
    )
    spent_usd: float | None = Field(
        description="Today, in the account's zone, with open calls at their worst; null: not asked yet, or no bound"
    )
    usd_per_day: float | None = Field(description="What it may spend in a day; null: no bound")
    available: bool = Field(description="Whether it makes calls, as far as the breaker lets it")
    reason: str | None = Field(description="Why not: its day's money is spent, or its provider asks to wait")


class AccountTrafficAnswer(Answer):
    """An account right now."""

    name: str
    available: bool = Field(description="Whether its breaker lets calls in, and some group makes them")
    breaker: BreakerAnswer
    groups: list[GroupTrafficAnswer]


class TrafficAnswer(Answer):
    """A configured provider right now."""

    role: Literal["primary", "fallback"] | None = Field(
        description="In the chain of an analysis without one of its own"
    )
    current: bool = Field(description="Whether it has the first model of that chain that can be called")
    available: bool = Field(description="Whether any account is")
    ready_in_s: float | None = Field(description="The earliest of its accounts' groups")
    accounts: list[AccountTrafficAnswer]


class ProviderAnswer(Answer):
    """A provider. Keys and addresses are not told."""

    name: str
    dialect: str
    configured: bool = Field(description="As this process sees its environment")
    missing: list[str] = Field(description="Names of the variables that are not set")
    account: str = Field(description="The account that makes the calls")
    accounts: list[AccountAnswer]
    chosen_model: str | None = Field(description="What the provider's own variable names, in place of its models")
    timeout_s: float
    models: list[ModelAnswer]
    traffic: TrafficAnswer | None = Field(description="Null where it is not configured, and while Redis is away")


class ProvidersAnswer(Answer):
    """All providers of the catalog, and what somebody should see to."""

    providers: list[ProviderAnswer]
    warnings: list[str]


class HealthAnswer(Answer):
    """The process lives."""

    status: Literal["ok"] = "ok"


class ReadyAnswer(Answer):
    """Jobs can be handed over."""

    status: Literal["ready"] = "ready"
    postgres: Literal["ok"] = "ok"
    redis: Literal["ok"] = "ok"
    catalog: Literal["ok"] = "ok"
