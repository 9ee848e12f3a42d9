"""A job that does not fit a fallback's window goes back to the one it fits and waits there: no call is made in vain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from jobworld import ANALYSES, JobWorld, answers, job_world, raises

from gateway.errors import BreakerOpen, ContextTooLong, GatewayError, Unreachable
from gateway.ledger import NOT_CALLED
from tasks.headroom import GroupRoom
from tasks.mirror import mirror
from tasks.run import Ending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from jobworld import Analysis

    from tasks.store import Incarnation

OUT = Unreachable("nobody is there")
WINDOWS = {"one/small": 200_000, "two/large": 32_000, "two/tiny": 16_000, "two/wide": 1_000_000}
PASSES = 3
"""So often it is looked whether a job moves that shall not."""


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as world:
        await mirror(world.engine, ANALYSES, list(WINDOWS))
        world.analyst.windows = WINDOWS
        yield world


@dataclass(slots=True)
class Standing:
    """A headroom: who is out, and why. All others have room."""

    out: dict[str, GatewayError] = field(default_factory=dict)

    async def rooms(self, provider: str, lane: str, slots: int) -> Sequence[GroupRoom]:
        error = self.out.get(provider)
        return [GroupRoom(None, None if error is None else 0, 60.0, error)]


class Walk:
    """One job, its worker and a dispatcher that is told who is out."""

    def __init__(self, world: JobWorld, job: UUID, incarnation: Incarnation) -> None:
        self.world, self.job, self.incarnation = world, job, incarnation
        self.standing = Standing({"one": OUT})
        self.dispatcher = world.dispatcher(headroom=self.standing)

    async def passes(self) -> str:
        """Look everywhere for what is due; the provider that the job was released to, else nothing."""
        for provider in ("one", "two", "one", "two"):
            await self.dispatcher.release(provider)
            if row := self.world.broker.messages:
                return row[0].provider
        return ""

    async def ends(self, script: Analysis) -> Ending:
        [message] = self.world.broker.take()
        return await self.world.runner(self.incarnation, script).run(message.id, message.release, message.provider)

    @property
    def at(self) -> tuple[str, str]:
        row = self.world.job(self.job)
        return row["model"], row["state"]

    def calls(self) -> list[tuple[str, str]]:
        return [(call["model"], call["outcome"]) for call in self.world.calls(self.job)]


async def walk(world: JobWorld, *chain: str) -> Walk:
    return Walk(world, world.enqueue(chain=list(chain)), await world.worker())


TOO_LONG = raises(ContextTooLong("40,000 tokens do not fit"))
KEPT_OUT = raises(BreakerOpen("the breaker is open", retry_after_s=0.0), NOT_CALLED)


async def test_a_job_that_was_diverted_to_a_window_too_small_comes_back_waits_and_succeeds(world: JobWorld) -> None:
    there = await walk(world, "one/small", "two/large", "two/tiny")
    assert await there.passes() == "two", "the primary is out: the job is diverted"
    assert await there.ends(TOO_LONG) is Ending.RESCHEDULED
    assert there.at == ("small", "scheduled"), "back at the one model that it fits"

    for _ in range(PASSES):
        assert await there.passes() == "", "and neither of the smaller ones takes it over again"
    assert there.at == ("small", "scheduled")

    there.standing.out.clear()
    assert await there.passes() == "one"
    there.standing.out["one"] = OUT
    assert await there.ends(KEPT_OUT) is Ending.RESCHEDULED
    assert there.at == ("small", "scheduled"), "kept out at the last moment, it waits, too"
    assert world.job(there.job)["reason"] == "snooze: breaker_open"
    assert await there.passes() == ""

    there.standing.out.clear()
    assert await there.passes() == "one"
    assert await there.ends(answers) is Ending.SUCCEEDED
    assert there.calls() == [("large", "failed"), ("small", "not_called"), ("small", "succeeded")], "two calls in all"
    row = world.job(there.job)
    assert row["attempts_used"] == 2
    assert [(c["model"], c["move"], c["error"], c.get("too_small")) for c in row["causes"]] == [
        ("small", "fallback", "unreachable", None),
        ("large", "fallback", "context_too_long", ["two/large", "two/tiny"]),
    ]


async def test_a_claim_that_falls_back_comes_back_the_same_way(world: JobWorld) -> None:
    """Not the dispatcher moves it, but its worker: the breaker has opened since the release."""
    there = await walk(world, "one/small", "two/large")
    there.standing.out.clear()
    assert await there.passes() == "one"
    assert await there.ends(KEPT_OUT) is Ending.RESCHEDULED
    assert await there.passes() == "two"
    assert await there.ends(TOO_LONG) is Ending.RESCHEDULED
    for _ in range(PASSES):
        assert await there.passes() == "one"
        assert await there.ends(KEPT_OUT) is Ending.RESCHEDULED
    assert await there.passes() == "one"
    assert await there.ends(answers) is Ending.SUCCEEDED
    assert [model for model, outcome in there.calls() if outcome != "not_called"] == ["large", "small"]


async def test_a_job_that_came_back_is_still_taken_over_where_it_fits(world: JobWorld) -> None:
    """Past the window that was too small, to a larger one that was out, too."""
    there = await walk(world, "one/small", "two/large", "two/wide")
    assert await there.passes() == "two"
    assert there.at == ("large", "queued")
    assert await there.ends(TOO_LONG) is Ending.RESCHEDULED
    assert there.at == ("wide", "scheduled"), "a larger one lies ahead"
    world.sql("UPDATE assayline.jobs SET hop = 0, provider = 'one', model = 'small' WHERE id = %s", there.job)
    assert await there.passes() == "two"
    assert there.at == ("wide", "queued")
    assert await there.ends(answers) is Ending.SUCCEEDED
