"""What a replay may be asked for: which jobs, what is different in the new ones, how fast. The CLI and the API read it.

The options among the changes are those of `assayline_enqueue`, with its names, meanings and bounds; it judges them once
more when the replay is made.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tasks.words import BRANCHES, Closed, Hops, IdText, Key, Lane, MaxAttempts, MaxTokens, Priority, Usd, Word, word

MAX_IDS = 1_000
"""Jobs that can be named one by one."""

MAX_VALUES = 20
"""Values of one field of a filter; a job must have any of them."""

MAX_JOBS = 1_000_000
"""Jobs that one replay means at most; a further one takes the rest."""

MAX_PER_MIN = 60_000
"""The highest rate, new jobs a minute."""

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Bounds of a time in a filter: what an id, which begins with its time of birth, can tell apart."""

MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:?\d\d)", re.ASCII)

WHERE = ("provider", "model", "chain", "current_chain")
"""Changes that say where a new job runs; without one it has the old job's chain."""


def _moment(given: object) -> datetime:
    """Read a time with its offset."""
    moment = given
    if isinstance(given, str) and MOMENT.fullmatch(given):
        try:
            # Nanoseconds are cut to the microseconds that Postgres has.
            moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", given.upper()))
        except ValueError:
            moment = None
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise PydanticCustomError("moment", "must be an ISO 8601 time with its offset, such as 2026-11-05T08:00:00Z")
    if not FIRST <= moment < LAST:
        raise PydanticCustomError("moment", "must lie in the years 1970 to 9998")
    return moment


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-05T08:00:00Z"]}),
]
Some = Field(min_length=1, max_length=MAX_VALUES)
Words = Annotated[list[Word], Some]
Ended = Literal["failed", "cancelled", "expired", "succeeded"]


class ReplayFilter(Closed):
    """Which jobs. A job must fit every field that is given, by any of its values."""

    ids: Annotated[list[IdText], Field(min_length=1, max_length=MAX_IDS)] | None = Field(
        None, description="These jobs; one that does not exist is refused"
    )
    state: Annotated[list[Ended], Field(min_length=1, max_length=4)] | None = Field(
        None,
        description="How they ended. Where it is not said: failed; of named jobs, anything but succeeded. Where it says"
        " succeeded, and nothing else says which jobs, `all` must be said too",
    )
    error: Words | None = Field(
        None, description="What their last attempt ended with (`last_error` of a list), or the reason they stand with"
    )
    analysis: Words | None = None
    provider: Words | None = Field(None, description="Where they stood when they ended")
    model: Words | None = Field(
        None, description="On which model they stood then: `provider/model`, or the model alone"
    )
    tenant: Word | None = Field(None, description="Only this tenant's")
    source: Word | None = Field(None, description="The service that enqueued them")
    tag: Words | None = Field(None, description="Those with any of these tags")
    created_after: Moment | None = Field(None, description="Enqueued at this time or later")
    created_before: Moment | None = Field(None, description="Enqueued before this time")
    ended_after: Moment | None = Field(None, description="Ended at this time or later")
    ended_before: Moment | None = Field(None, description="Ended before this time")

    @property
    def states(self) -> list[str]:
        """The states that a job may have ended in."""
        return list(self.state or (("failed", "cancelled", "expired") if self.ids else ("failed",)))

    def parameters(self) -> dict[str, Any]:
        """What `replay_candidates` asks for."""
        return {
            "ids": [UUID(one) for one in self.ids] if self.ids else None,
            "states": self.states,
            "errors": self.error,
            "analyses": self.analysis,
            "providers": self.provider,
            "models": self.model,
            "tenant": self.tenant,
            "source": self.source,
            "tags": self.tag,
            "created_after": self.created_after,
            "created_before": self.created_before,
            "ended_after": self.ended_after,
            "ended_before": self.ended_before,
        }


class ReplayChanges(Closed):
    """What the new jobs have otherwise than the old ones: options of a job. What is not given is the old job's.

    But the lane: new jobs are bulk where nothing else is said.
    """

    provider: Word | None = Field(None, description="Run them at this provider only")
    model: Word | None = Field(None, description="Run them on this model only: `provider/model`")
    chain: Annotated[list[Word], Hops] | None = Field(
        None, description="Models in order of choice, each `provider/model`"
    )
    current_chain: bool = Field(
        False, description="Run them where the catalog has their analysis run now, not where they ran"
    )
    prompt_version: Annotated[str, word(100, shortest=1)] | None = None
    lane: Lane | None = None
    priority: Priority | None = Field(None, description="0 is first, 9 is last")
    max_tokens: MaxTokens | None = Field(None, description="Longest answer, in tokens")
    max_cost_usd: Usd | None = Field(None, description="What all calls of a job together may cost, in US dollars")
    max_attempts: MaxAttempts | None = Field(None, description="How many calls a job may make")
    use_cache: bool | None = Field(None, description="Whether an earlier answer will do")
    use_fallback: bool | None = Field(None, description="Whether they may go on along their chains")

    @model_validator(mode="after")
    def _one_place(self) -> ReplayChanges:
        places = [name for name in ("model", "chain", "current_chain") if name in self.said]
        if len(places) > 1:
            raise PydanticCustomError("places", "name one of {places}", {"places": " and ".join(places)})
        return self

    @property
    def said(self) -> dict[str, Any]:
        """What was given, as JSON; a `current_chain` that is not wanted was not."""
        return {name: value for name, value in super().said.items() if (name, value) != ("current_chain", False)}

    @property
    def options(self) -> dict[str, Any]:
        """Options for `assayline_enqueue`; none of them for `current_chain`, which is what it does by itself."""
        return {name: value for name, value in self.said.items() if name != "current_chain"}

    @property
    def moves(self) -> bool:
        """Whether the new jobs run elsewhere than the old ones' chains say."""
        return not self.said.keys().isdisjoint(WHERE)


class ReplayRequest(Closed):
    """A replay to make. It needs a filter, or `all`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "filter": {"error": ["timeout"], "provider": ["openai"], "ended_after": "2026-11-05T08:00:00Z"},
                    "changes": {"model": "claude/claude-haiku-5-5"},
                    "rate_per_min": 600,
                    "note": "outage of 5 November",
                }
            ]
        }
    )

    all: bool = Field(
        False, description="Every job that failed, or that ended as `filter.state` says; then there is no other filter"
    )
    filter: ReplayFilter = Field(default_factory=ReplayFilter, validate_default=True)
    changes: ReplayChanges = Field(default_factory=ReplayChanges)
    again: bool = Field(False, description="Also jobs of which a replay waits, runs or has succeeded")
    rate_per_min: Annotated[int, Field(ge=1, le=MAX_PER_MIN)] | None = Field(
        None, description="New jobs a minute, at most. Null: as fast as they can be made"
    )
    limit: Annotated[int, Field(ge=1, le=MAX_JOBS)] | None = Field(
        None, description=f"Jobs that are meant at most, the oldest first; {MAX_JOBS} in any case"
    )
    dry_run: bool = Field(False, description="Say what would be replayed and what it may cost, and do nothing")
    made_by: Word | None = Field(None, description="Who asks for it")
    note: Annotated[str, word(500, shortest=1)] | None = Field(None, description="Why, in your words")
    idempotency_key: Key | None = Field(
        None,
        description="The same key and request again is answered with the replay that it made; also as the header"
        " Idempotency-Key. A key belongs to `filter.tenant`",
    )

    @field_validator("filter")
    @classmethod
    def _says_which(cls, given: ReplayFilter, info: ValidationInfo) -> ReplayFilter:
        everything, alone = info.data.get("all"), given.said.keys() <= {"state"}
        if everything and not alone:
            raise PydanticCustomError("which", "either a filter or all, not both; a state alone may go with all")
        if not everything and not given.said:
            raise PydanticCustomError(
                "which", "say which jobs; or `all`, beside the filter and not in it, for every job that failed"
            )
        if not everything and alone and "succeeded" in given.states:
            raise PydanticCustomError("ever", "all that ever succeeded? Say which of them, or say all, too")
        return given

    @property
    def fingerprint(self) -> bytes:
        """The hash of what is asked for, by which a repeated idempotency key is told from a conflicting one.

        Who asks, and whether it is only tried, make no difference. Fields that are as they are where nobody names them
        are left out, so that a request keeps its fingerprint when there are new ones.
        """
        asked = self.model_dump(mode="json", exclude_defaults=True, exclude={"made_by", "dry_run", "idempotency_key"})
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()


def place_of(found: Mapping[str, Any]) -> str:
    """The field that a finding of pydantic's is about, such as `filter.state`; the whole request is ""."""
    return ".".join(part for part in found["loc"] if isinstance(part, str) and part not in BRANCHES)
