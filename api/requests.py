"""What a caller may send: the fields of a job as a JSON body, and the parameters of queries.

A body has the fields of `tasks.producer.jobs.Job`, the same names with the same meaning; a test holds the two together.
The bounds here are those of `assayline_enqueue`, which judges every job whichever way it comes; here they are told to
those who read the OpenAPI document, and a client gets all that is wrong at once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.limits import MAX_PAGE, MAX_WAIT_S, PAGE
from tasks.producer.errors import MAX_BYTES
from tasks.producer.jobs import Job
from tasks.replay.book import ReplayState
from tasks.states import State

JsonMap = dict[str, Any]


def text(longest: int, *, shortest: int = 0) -> StringConstraints:
    """A bound for a text, in characters."""
    return StringConstraints(min_length=shortest, max_length=longest)


def word(longest: int, *, shortest: int = 0) -> StringConstraints:
    """A bound for a text that is looked for: nothing stored has U+0000, and Postgres cannot even ask for it."""
    return StringConstraints(min_length=shortest, max_length=longest, pattern=r"^[^\x00]*$")


Short = Annotated[str, text(200)]
Tenant = Annotated[str, text(200, shortest=1)]
Time = Annotated[
    str, text(40), Field(json_schema_extra={"format": "date-time"}, examples=["2027-01-31T08:00:00+01:00"])
]
Usd = (
    Annotated[float, Field(ge=0.000001, le=999_999)]
    | Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$")]
)
Tag = Annotated[str, text(100, shortest=1)]

JOB_ID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
"""An id as it is written here. Python's UUID reads braces and URNs as well; one job has one address."""

IdText = Annotated[str, StringConstraints(pattern=JOB_ID), Field(examples=["01939f6e-7b1a-7c3e-9a51-4d2f6c8e0b17"])]
"""Text rather than UUID: the pattern is what is documented, and what is checked."""


class Closed(BaseModel):
    """Base of what comes in: unknown names are refused, and nothing is converted ("5" is no number)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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
    lane: Literal["interactive", "bulk"] | None = Field(None, description="How urgent it is")
    priority: Annotated[int, Field(ge=0, le=9)] | None = Field(None, description="0 is first, 9 is last")
    provider: Short | None = Field(None, description="Run it at this provider only")
    model: Short | None = Field(None, description="Run it on this model only: `provider/model`")
    chain: Annotated[list[Short], Field(min_length=1, max_length=10)] | None = Field(
        None, description="Models in order of choice, each `provider/model`"
    )
    prompt_version: Annotated[str, text(100)] | None = Field(None, description="Such as `v1`")
    output_format: Annotated[str, text(50)] | None = Field(None, description="For `completion`")
    schema_: JsonMap | None = Field(None, alias="schema", description="For `completion`: the answer's JSON schema")
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(None, description="Longest answer, in tokens")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_cost_usd: Usd | None = Field(None, description="What all its calls together may cost, in US dollars")
    max_attempts: Annotated[int, Field(ge=1, le=20)] | None = Field(None, description="How many calls it may make")
    use_cache: bool | None = Field(None, description="Whether an earlier answer will do")
    use_fallback: bool | None = Field(None, description="Whether it may go on along its chain")
    not_before: Time | None = Field(None, description="Not to be started before; a time with its offset")
    deadline_at: Time | None = Field(None, description="No call runs on beyond it; a job that waits until then expires")
    expires_at: Time | None = Field(None, description="Not wanted any more if it has not been started by then")
    idempotency_key: Annotated[str, text(255, shortest=1)] | None = Field(
        None, description="The same key and request again is the same job; also as the header Idempotency-Key"
    )
    tags: Annotated[list[Tag], Field(max_length=50)] | None = None

    def job(self, idempotency_key: str | None = None) -> Job:
        """The same as the producer's Job; `idempotency_key` stands in for one that is not in the body."""
        said = self.model_dump(by_alias=True)
        return Job(**{**said, "idempotency_key": self.idempotency_key or idempotency_key})


Word = Annotated[str, word(200, shortest=1)]


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
    lane: Literal["interactive", "bulk"] | None = Field(None, description="Only of this lane")
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

    tenant: Annotated[str, word(200, shortest=1)] | None = Field(
        None, description="Only if it is this tenant's; else there is no such job"
    )


class Waiting(WhichTenant):
    """How long to wait for a job's end."""

    wait: Annotated[int, Field(ge=0, le=MAX_WAIT_S)] = Field(
        0, description="Answer when the job has ended, or after so many seconds, with the job as it then stands"
    )


class Page(WhichTenant):
    """Which jobs to list."""

    tenant: Annotated[str, word(200, shortest=1)] | None = Field(None, description="Only this tenant's")
    state: Annotated[list[State], Field(max_length=8)] = Field(
        default_factory=list, description="Only in this state; may be repeated"
    )
    analysis: Annotated[str, word(32, shortest=1)] | None = Field(None, description="Only of this analysis")
    subject: Annotated[str, word(500)] | None = Field(None, description="Only about this subject")
    tag: Annotated[str, word(100, shortest=1)] | None = Field(None, description="Only with this tag")
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = Field(PAGE, description="How many")
    cursor: IdText | None = Field(None, description="Where the page before ended; taken from its `next`")

    @property
    def before(self) -> UUID | None:
        """The id that the jobs of this page are older than."""
        return UUID(self.cursor) if self.cursor else None


class CallsPage(WhichTenant):
    """Which calls to list."""

    tenant: Annotated[str, word(200, shortest=1)] | None = Field(None, description="Only this tenant's")
    outcome: Literal["unknown"] = Field("unknown", description="How they ended; a job has all of its calls")
    provider: Annotated[str, word(200, shortest=1)] | None = Field(None, description="Only calls to this provider")
    analysis: Annotated[str, word(32, shortest=1)] | None = Field(None, description="Only of this analysis")
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = Field(PAGE, description="Of how many jobs")
    cursor: IdText | None = Field(None, description="Where the page before ended; taken from its `next`")

    @property
    def before(self) -> UUID | None:
        """The id that the jobs of this page are older than."""
        return UUID(self.cursor) if self.cursor else None


class ReplayPage(WhichTenant):
    """Which replays to list."""

    tenant: Annotated[str, word(200, shortest=1)] | None = Field(
        None, description="Only those that mean this tenant's jobs alone"
    )
    state: Annotated[list[ReplayState], Field(max_length=4)] = Field(
        default_factory=list, description="Only in this state; may be repeated"
    )
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = Field(PAGE, description="How many")
    cursor: IdText | None = Field(None, description="Where the page before ended; taken from its `next`")

    @property
    def before(self) -> UUID | None:
        """The id that the replays of this page are older than."""
        return UUID(self.cursor) if self.cursor else None


ONCE = frozenset({"wait", "tenant", "analysis", "subject", "tag", "limit", "cursor", "outcome", "provider"})
"""Parameters that have one value: given twice, one reader takes the first and the next the last."""
