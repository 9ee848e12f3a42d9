"""What comes back of replays, as the OpenAPI document describes it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from api.answers import Answer
from tasks.replay.book import ReplayState
from tasks.words import JsonMap


class ReplayLine(Answer):
    """A replay as it stands."""

    id: UUID
    state: ReplayState = Field(
        description="done: every job that it means was replayed or skipped; stopped: it never will"
    )
    tenant: str | None = Field(description="Whose jobs alone it means; null: anybody's")
    filter: JsonMap = Field(description="As it was asked for; empty: every job that had failed")
    changes: JsonMap = Field(description="As they were asked for")
    rate_per_min: int | None
    made_by: str | None
    note: str | None
    idempotency_key: str | None
    jobs: int = Field(description="How many jobs it means, settled when it was made")
    made: int = Field(description="New jobs so far")
    skipped: int = Field(description="Jobs that could not be replayed after all")
    left: int = Field(description="Jobs that it has not come to")
    problem: str | None = Field(description="Why it has paused by itself")
    created_at: datetime
    finished_at: datetime | None


class Skipped(Answer):
    """Why some jobs could not be replayed."""

    problem: str
    jobs: int


class ReplayAnswer(ReplayLine):
    """A replay, and how its new jobs fare."""

    outcomes: dict[str, int] = Field(description="Its new jobs, by state; states without any are left out")
    problems: list[Skipped] = Field(description="Why jobs were skipped, the commonest reasons first")


class ReplaysAnswer(Answer):
    """A page of replays, newest first."""

    replays: list[ReplayLine]
    next: str | None = Field(description="Address of the page after it; null: this is the last one")


class CostGroup(Answer):
    """New jobs of one analysis that begin on one model."""

    analysis: str
    model: str
    jobs: int
    usd: float | None = Field(description="What they may cost together; null: unknown, which is not free")
    by: Literal["ledger", "catalog"] | None = Field(
        description="By what such jobs did cost on that model, or by what they used on others and the model's price"
    )


class LeftOut(Answer):
    """Jobs that fit the filter and are not meant, by why not."""

    replayed: int = Field(0, description="A replay of it waits, runs or has succeeded, or is to be made: see `again`")
    superseded: int = Field(0, description="It was replayed, that failed too, and is meant instead")
    erased: int = Field(0, description="Its content is no longer kept")
    unknown_analysis: int = Field(0, description="Its analysis is not in the catalog any more")
    other_state: int = Field(0, description="Of named jobs: ended otherwise than asked for")
    not_ended: int = Field(0, description="Of named jobs: has not ended")
    over_limit: int = Field(0, description="Beyond `limit`")


class PlanAnswer(Answer):
    """What a replay does, or would do."""

    replay: ReplayLine | None = Field(
        description="The replay that was made, now or under this idempotency key before; then all else is what was said"
        " when it was. null: a dry run, or nothing to replay"
    )
    created: bool = Field(description="Whether this request made it")
    found: int = Field(description="Jobs that fit the filter")
    jobs: int = Field(description="Jobs that are meant")
    left_out: LeftOut
    under_way: list[UUID] = Field(description="Replays that have jobs of `left_out.replayed` in hand, at most 10")
    spent_usd: float = Field(description="What the calls of the jobs that are meant did cost, as far as it is known")
    unpriced_calls: int = Field(description="Calls of theirs of which nobody knows what they did cost")
    estimated_usd: float | None = Field(
        description="What the new jobs may cost, without `unpriced_jobs`, by answers so far: with more `max_tokens`"
        " they may be longer. null: of none it is known"
    )
    unpriced_jobs: int = Field(description="New jobs of which nobody can say what they may cost")
    groups: list[CostGroup]
