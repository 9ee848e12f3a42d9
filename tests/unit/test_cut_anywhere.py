"""An attempt is cut off at every turn of its way: its calls are closed, its job is left alone, nobody waits for it.

The gateway is real, with its cache, its admission and the re-ask of an answer that is no good; store, limiter and
provider are doubles that take a few turns of the loop for everything, as their originals do.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from callworld import Told
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.analyses.registry import load_analyses
from gateway.cache.answers import AnswerCache
from gateway.cache.memory import MemoryLayer
from gateway.calls.admission import Admission
from gateway.catalog import load_catalog
from gateway.gateway import Gateway
from gateway.ledger import CallOutcome
from gateway.messages import AnalysisResult, ModelRef
from gateway.provider_set import ProviderSet
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import FakeProvider
from tasks.ends import LastCall
from tasks.job import Claim
from tasks.run import Ending, Runner
from tasks.store import Beat, Incarnation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.ledger import CallEnd, CallLedger, CallStart
    from gateway.limits.reservation import Reservation

TURNS = 3
"""Of the loop, that each step of a double takes."""
LONGEST = 120
"""Turns; an attempt of two calls takes fewer."""
HANG_GUARD_S = 10.0
GOOD = json.dumps({"evidence": "it crashes", "label": "bug", "confidence_percent": 90})
NO_GOOD = json.dumps({"label": "none of them"})
CONTEXT = {"labels": ["bug", "praise"]}
MINI = ModelRef("openai", "gpt-5.4-mini")
WORKER = Incarnation(UUID(int=1), "host", 1, ("openai",), 8)


async def turns(*_: object) -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@cache
def catalog() -> Any:
    return load_catalog(None, {"OPENAI_API_KEY": "k"})


@cache
def analyses() -> Any:
    return load_analyses([])


def claim_of(job_id: UUID) -> Claim:
    return Claim(
        id=job_id, claim_no=1, analysis="text_classification", tenant="acme", lane="bulk", model=MINI,
        chain=(str(MINI),), hop=0, prompt_version=None, output_format=None, max_tokens=None, temperature=None,
        max_cost_usd=None, max_attempts=4, attempts_used=1, use_cache=True, use_fallback=True,
        deadline_in_s=None, spent_usd=None, unpriced_calls=None, content="it crashes", context=CONTEXT, messages=(),
        schema=None,
    )  # fmt: skip


@dataclass(slots=True)
class Store:
    """One job's rows. A statement is on its way for a while, and so is its reply."""

    owned: bool = True
    state: str = "queued"
    calls: dict[int, CallEnd | None] = field(default_factory=dict)
    """By number; None is `unknown`."""

    async def claim(self, job_id: UUID, *_: object, **__: object) -> Claim | None:
        claimed = self.owned
        if claimed:
            self.state, self.calls[1] = "running", None
        await turns()
        return claim_of(job_id) if claimed else None

    async def open_call(self, _: Claim, call_no: int, end: CallEnd, __: CallStart) -> tuple[bool, bool]:
        owned, self.calls[call_no] = self.owned, end
        if owned:
            self.calls[call_no + 1] = None
        await turns()
        return owned, owned

    async def close_call(self, _: Claim, call_no: int, end: CallEnd) -> None:
        self.calls[call_no] = end
        await turns()

    async def succeed(self, _: Claim, call_no: int, end: CallEnd, *__: object, **___: object) -> bool:
        return await self._ended("succeeded", call_no, end)

    async def fail(self, _: Claim, call_no: int, end: CallEnd, **__: object) -> bool:
        return await self._ended("failed", call_no, end)

    async def reschedule(self, _: Claim, call_no: int, end: CallEnd, **__: object) -> bool:
        return await self._ended("scheduled", call_no, end)

    async def hand_back(self, _: Incarnation, ends: Sequence[LastCall]) -> int:
        for last in ends:
            self.calls[last.call_no] = last.end
        handed_back = self.owned and self.state == "running"
        if handed_back:
            self.state = "scheduled"
        return int(handed_back)

    async def heartbeat(self, *_: object, held: Sequence[tuple[UUID, int]], **__: object) -> Beat:
        return Beat(False, () if self.owned else tuple(held))

    async def _ended(self, state: str, call_no: int, end: CallEnd) -> bool:
        await turns()
        owned, self.calls[call_no] = self.owned, end
        if owned:
            self.state = state
        await turns()
        return owned

    @property
    def outcomes(self) -> tuple[str, ...]:
        return tuple("unknown" if end is None else end.outcome.value for _, end in sorted(self.calls.items()))


@dataclass(slots=True)
class SlowLimiter(Told):
    """Takes its time to say yes, and then the call waits for a date. What is reserved is to be settled."""

    reserved: int = 0

    async def reserve(self, *args: Any, **kwargs: Any) -> Reservation:
        await turns()
        made = await Told.reserve(self, *args, **kwargs)
        self.reserved += 1
        return made


class Heard:
    def __init__(self) -> None:
        self.ends: list[str] = []

    async def ended(self, _: UUID, state: str, __: object) -> None:
        await turns()
        self.ends.append(state)


class Process:
    """A worker: one gateway for its attempts, a store for each job."""

    def __init__(self, *answers: str) -> None:
        self.provider = FakeProvider(ProviderConfig("openai", "fake"), script=answers, sleep=turns)
        self.limiter = SlowLimiter(wait_s=0.5)
        self.memory = MemoryLayer()
        admission = Admission(self.limiter, slots=8, sleep=turns, clock=lambda: 0.0)  # type: ignore[arg-type]
        providers = ProviderSet({"openai": [self.provider.config]}, lambda _: self.provider)
        self.gateway = Gateway(
            catalog(), analyses(), providers, admission=admission, cache=AnswerCache(self.memory), clock=lambda: 0.0
        )

    async def analyze(self, claim: Claim, ledger: CallLedger) -> AnalysisResult:
        return await self.gateway.analyze(
            claim.analysis, claim.content, context=claim.context, tenant=claim.tenant, model=claim.model, ledger=ledger
        )

    def account(self, _: str) -> str:
        return "default"

    def lease_s(self, _: str) -> float:
        return 300.0

    def __getattr__(self, name: str) -> Any:
        """What a verdict asks: windows, refusals, spare accounts. Nothing moves on here."""
        return lambda *_: 0

    def runner(self, store: Store) -> Runner:
        return Runner(store, self, Heard(), WORKER)  # type: ignore[arg-type]


async def cut_at(turn: int, stop_at: int | None = None) -> tuple[Ending, Store]:
    """Run an attempt and cancel its job at a turn of the loop, and stop its worker at another; None: never."""
    process, store, job = Process(NO_GOOD, GOOD), Store(), uuid4()
    runner = process.runner(store)
    running = asyncio.create_task(runner.run(job, 1, "openai"))
    for now in range(LONGEST):
        if now == turn and store.state != "succeeded":
            store.owned = False
            runner.heard(f"cancel {job} 1")
        if now == turn + 1:
            await runner.beat()  # says the same once more
        if now == stop_at:
            runner.stopping = True
            for task in runner.attempts.tasks:
                task.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(HANG_GUARD_S):
        ending = await running
    await runner.hand_back()
    assert len(process.limiter.settled) == process.limiter.reserved
    assert process.memory._queues == {}, "it leads, and nobody else will ever be asked"
    assert runner.attempts.tasks == set()
    assert "unknown" not in store.outcomes
    return ending, store


def well_ended(ending: Ending, store: Store, *, stopped: bool) -> None:
    """Whoever loses its job leaves it as it is, and what was sent is on record with what it cost."""
    if not store.owned:
        assert ending in {Ending.CUT, Ending.FENCED, Ending.STALE} | ({Ending.HANDED_BACK} if stopped else set())
        assert store.state == ("queued" if ending is Ending.STALE else "running"), "nothing is written to the job"
    elif stopped:
        assert ending in {Ending.SUCCEEDED, Ending.HANDED_BACK}
    else:
        assert ending is Ending.SUCCEEDED
    for end in store.calls.values():
        assert end is not None
        if end.outcome is CallOutcome.ABANDONED:
            assert end.estimated
            assert end.cost_usd is not None
            assert end.cost_usd > Decimal(0)


async def test_at_every_turn() -> None:
    """Before its claim's reply, waiting for a reservation and its date, in both calls, in the ledger, at its end."""
    seen: set[tuple[Ending, tuple[str, ...]]] = set()
    for turn in range(LONGEST):
        ending, store = await cut_at(turn)
        well_ended(ending, store, stopped=False)
        seen.add((ending, store.outcomes))
        if store.owned:
            break
    assert seen == {
        (Ending.STALE, ()),
        (Ending.CUT, ("not_called",)),
        (Ending.CUT, ("abandoned",)),
        (Ending.CUT, ("succeeded",)),
        (Ending.CUT, ("succeeded", "not_called")),
        (Ending.CUT, ("succeeded", "abandoned")),
        (Ending.CUT, ("succeeded", "succeeded")),
        (Ending.FENCED, ("succeeded", "succeeded")),
        (Ending.SUCCEEDED, ("succeeded", "succeeded")),
    }


@settings(max_examples=150, deadline=None)
@given(turn=st.integers(0, 60), stop_at=st.integers(0, 60))
def test_at_any_turn_of_a_worker_that_stops_at_any(turn: int, stop_at: int) -> None:
    ending, store = asyncio.run(cut_at(turn, stop_at))
    well_ended(ending, store, stopped=True)


@pytest.mark.parametrize("turn", range(1, 30, 2))
async def test_those_who_wait_for_its_answer_go_on(turn: int) -> None:
    """The lead of equal questions is cut: the next one asks, in its own name, and the rest have its answer."""
    process = Process(GOOD, GOOD)
    stores = [Store() for _ in range(4)]
    runners = [process.runner(store) for store in stores]
    jobs = [uuid4() for _ in stores]
    running = [asyncio.create_task(runner.run(job, 1, "openai")) for runner, job in zip(runners, jobs, strict=True)]
    for _ in range(turn):
        await asyncio.sleep(0)
    ended_before = stores[0].state == "succeeded"
    stores[0].owned = ended_before
    runners[0].heard(f"cancel {jobs[0]} 1")
    async with asyncio.timeout(HANG_GUARD_S):
        endings = await asyncio.gather(*running)
    assert endings[1:] == [Ending.SUCCEEDED] * 3
    assert ended_before or endings[0] in {Ending.CUT, Ending.FENCED}
    assert process.provider.calls <= 2
    assert sorted(store.outcomes for store in stores[1:])[:2] == [("cached",)] * 2


async def test_a_follower_that_is_cut_made_no_call_and_is_missed_by_nobody() -> None:
    process = Process(GOOD)
    lead, follower = Store(), Store()
    leading = asyncio.create_task(process.runner(lead).run(uuid4(), 1, "openai"))
    runner, job = process.runner(follower), uuid4()
    following = asyncio.create_task(runner.run(job, 1, "openai"))
    await turns()
    await turns()
    assert any(process.memory._queues.values()), "it waits for the other one"
    follower.owned = False
    runner.heard(f"cancel {job} 1")
    async with asyncio.timeout(HANG_GUARD_S):
        assert await following is Ending.CUT
        assert await leading is Ending.SUCCEEDED
    assert (follower.outcomes, follower.state) == (("not_called",), "running")
    assert (lead.outcomes, process.provider.calls) == (("succeeded",), 1)


async def test_a_job_whose_cancelling_is_heard_before_its_claim_is_cut_before_its_call() -> None:
    """The claim's reply and the notification come over two connections."""
    process, store, job = Process(), Store(), uuid4()
    runner = process.runner(store)
    running = asyncio.create_task(runner.run(job, 1, "openai"))
    await asyncio.sleep(0)
    assert store.state == "running"
    assert runner.attempts.tasks == set()
    runner.heard(f"cancel {job} 1")
    assert await running is Ending.CUT
    assert (store.outcomes, process.provider.calls) == (("not_called",), 0)


@pytest.mark.parametrize("told", ["", "cancel", "cancel x 1", f"cancel {UUID(int=2)} one", f"stop {UUID(int=2)} 1"])
async def test_what_is_not_understood_is_said_and_cuts_nothing(told: str, caplog: pytest.LogCaptureFixture) -> None:
    process, store, job = Process(GOOD), Store(), UUID(int=2)
    runner = process.runner(store)
    running = asyncio.create_task(runner.run(job, 1, "openai"))
    await turns()
    runner.heard(told)
    assert "not understood" in caplog.text
    assert await running is Ending.SUCCEEDED
