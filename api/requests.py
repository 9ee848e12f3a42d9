"""What a caller may send: the fields of a job as a JSON body, and the parameters of queries.

A body has the fields of `tasks.producer.jobs.Job`, the same names with the same meaning; a test holds the two together.
What a text, an id or an option may be stands in `tasks.words`; other bounds here are those of `assayline_enqueue` too.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.limits import MAX_PAGE, MAX_WAIT_S, PAGE
from tasks.producer.errors import MAX_BYTES
from tasks.producer.jobs import Job
from tasks.replay.book import ReplayState
from tasks.states import State
from tasks.words import (
    Closed,
    Hops,
    IdText,
    JsonMap,
    Key,
    Lane,
    MaxAttempts,
    MaxTokens,
    Priority,
    Usd,
    Word,
    text,
    word,
)

Short = Annotated[str, text(200)]
Tenant = Annotated[str, text(200, shortest=1)]
Time = Annotated[
    str, text(40), Field(json_schema_extra={"format": "date-time"}, examples=["2027-01-31T08:00:00+01:00"])
]
Tag = Annotated[str, text(100, shortest=1)]


class Turn(Closed):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class JobRequest(Closed):
    """A job to enqueue. A field that is null or absent is as the analysis and the catalog have it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "analysis": "code_quality",
                    "content": "def mean(xs):\n    return sum(xs) / len(xs)\n",
                    "tenant": "acme",
                    "subject": "ann",
                    "context": {"file_path": "stats.py"},
                    "lane": "interactive",
                    "max_cost_usd": "0.05",
                    "tags": ["review"],
                }
            ]
        }
    )

    analysis: Annotated[str, text(32, shortest=1)] = Field(description="What to do; `GET /v1/analyses` lists them")
    content: str = Field(
        description="What it is about: at most 1 MiB of UTF-8",
        json_schema_extra={"maxLength": MAX_BYTES},  # judged in bytes by `tasks.producer.jobs.wire`: a 413
    )
    context: JsonMap | None = Field(None, description="Values for the prompt's variables")
    messages: list[Turn] | None = Field(None, description="Turns before the content, for `completion`")
    tenant: Tenant | None = Field(None, description="On whose behalf; `default` where it is not said")
    subject: Annotated[str, text(500)] | None = Field(None, description="Whom or what it is about")
    source: Short | None = Field(None, description="The service that enqueues it")
    lane: Lane | None = Field(None, description="How urgent it is")
    priority: Priority | None = Field(None, description="0 is first, 9 is last")
    provider: Short | None = Field(None, description="Run it at this provider only")
    model: Short | None = Field(None, description="Run it on this model only: `provider/model`")
    chain: Annotated[list[Short], Hops] | None = Field(
        None, description="Models in order of choice, each `provider/model`"
    )
    prompt_version: Annotated[str, text(100)] | None = Field(None, description="Such as `v1`")
    output_format: Annotated[str, text(50)] | None = Field(None, description="For `completion`")
    schema_: JsonMap | None = Field(None, alias="schema", description="For `completion`: the answer's JSON schema")
    max_tokens: MaxTokens | None = Field(None, description="Longest answer, in tokens")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_cost_usd: Usd | None = Field(None, description="What all its calls together may cost, in US dollars")
    max_attempts: MaxAttempts | None = Field(None, description="How many calls it may make")
    use_cache: bool | None = Field(None, description="Whether an earlier answer will do")
    use_fallback: bool | None = Field(None, description="Whether it may go on along its chain")
    not_before: Time | None = Field(None, description="Not to be started before; a time with its offset")
    deadline_at: Time | None = Field(None, description="No call runs on beyond it; a job that waits until then expires")
    expires_at: Time | None = Field(None, description="Not wanted any more if it has not been started by then")
    idempotency_key: Key | None = Field(
        None, description="The same key and request again is the same job; also as the header Idempotency-Key"
    )
    tags: Annotated[list[Tag], Field(max_length=50)] | None = None

    def job(self, idempotency_key: str | None = None) -> Job:
        """The same as the producer's Job; `idempotency_key` stands in for one that is not in the body."""
        said = self.model_dump(by_alias=True)
        return Job(**{**said, "idempotency_key": self.idempotency_key or idempotency_key})


class CancellationRequest(Closed):
    """Which jobs to cancel: those that have not ended and fit all that is named."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"tenant": "acme", "analysis": "code_quality", "state": ["scheduled"]}]}
    )

    tenant: Word | None = Field(None, description="Only this tenant's")
    analysis: Annotated[str, word(32, shortest=1)] | None = Field(None, description="Only of this analysis")
    provider: Word | None = Field(None, description="Only those that wait for, or run at, this provider")
    state: Annotated[list[Literal["scheduled", "queued", "running"]], Field(min_length=1, max_length=3)] | None = Field(
        None, description="Only in one of these states; no other job can be cancelled"
    )
    source: Word | None = Field(None, description="Only what this service has enqueued")
    subject: Annotated[str, word(500, shortest=1)] | None = Field(None, description="Only about this subject")
    tag: Annotated[str, word(100, shortest=1)] | None = Field(None, description="Only with this tag")
    lane: Lane | None = Field(None, description="Only of this lane")
    created_after: Time | None = Field(None, description="Only those enqueued at this time or later")
    created_before: Time | None = Field(None, description="Only those enqueued before this time")
    all: bool = Field(False, description="Every job that has not ended; then nothing else is named")
    dry_run: bool = Field(False, description="Count them, and cancel none")
    cursor: IdText | None = Field(None, description="Where the request before has come to; taken from its `next`")

    @property
    def which(self) -> JsonMap:
        """The filter alone."""
        return self.model_dump(exclude={"dry_run", "cursor"})


class Parameters(BaseModel):
    """Base of query parameters: unknown ones are refused. They come as text, so numbers are read out of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WhichTenant(Parameters):
    """Whose job it must be."""

    tenant: Word | None = Field(None, description="Only if it is this tenant's; else there is no such job")


class Waiting(WhichTenant):
    """How long to wait for a job's end."""

    wait: Annotated[int, Field(ge=0, le=MAX_WAIT_S)] = Field(
        0, description="Answer when the job has ended, or after so many seconds, with the job as it then stands"
    )


class Paged(WhichTenant):
    """A page of a list, by id downwards."""

    tenant: Word | None = Field(None, description="Only this tenant's")
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = Field(PAGE, description="How many")
    cursor: IdText | None = Field(None, description="Where the page before ended; taken from its `next`")

    @property
    def before(self) -> UUID | None:
        """The id that all of this page are older than."""
        return UUID(self.cursor) if self.cursor else None


class Page(Paged):
    """Which jobs to list."""

    state: Annotated[list[State], Field(max_length=8)] = Field(
        default_factory=list, description="Only in this state; may be repeated"
    )
    analysis: Annotated[str, word(32, shortest=1)] | None = Field(None, description="Only of this analysis")
    subject: Annotated[str, word(500)] | None = Field(None, description="Only about this subject")
    tag: Annotated[str, word(100, shortest=1)] | None = Field(None, description="Only with this tag")


class CallsPage(Paged):
    """Which calls to list: those of `limit` jobs."""

    outcome: Literal["unknown"] = Field("unknown", description="How they ended; a job has all of its calls")
    provider: Word | None = Field(None, description="Only calls to this provider")
    analysis: Annotated[str, word(32, shortest=1)] | None = Field(None, description="Only of this analysis")
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = Field(PAGE, description="Of how many jobs")


class ReplayPage(Paged):
    """Which replays to list."""

    tenant: Word | None = Field(None, description="Only those that mean this tenant's jobs alone")
    state: Annotated[list[ReplayState], Field(max_length=4)] = Field(
        default_factory=list, description="Only in this state; may be repeated"
    )


ONCE = frozenset({"wait", "tenant", "analysis", "subject", "tag", "limit", "cursor", "outcome", "provider"})
"""Parameters that have one value: given twice, one reader takes the first and the next the last."""
