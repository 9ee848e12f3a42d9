"""Remembered answers through the gateway: what is kept, what is not, and what the ledger and the log say."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gateway.analyses.registry import AnalysisRegistry, load_analyses
from gateway.build import build_gateway
from gateway.cache.answers import AnswerCache
from gateway.cache.memory import MemoryLayer
from gateway.catalog import load_catalog
from gateway.errors import (
    AnswerAwaited,
    BudgetSpent,
    ContentRefused,
    GatewayError,
    InvalidOutput,
    OutputTruncated,
    Throttled,
)
from gateway.gateway import Gateway
from gateway.ledger import CallEnd, CallOutcome, CallStart, MemoryLedger
from gateway.messages import AnalysisResult, Completion, FinishReason, ModelRef, Usage
from gateway.provider_set import ProviderSet
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import Answer, FakeProvider
from gateway.settings import Settings

ENV = {"OPENAI_API_KEY": "k", "ASSAYLINE_FAKE": "1"}
FAKE = {"ASSAYLINE_FAKE": "1"}
MINI, LUNA = ModelRef("openai", "gpt-5.4-mini"), ModelRef("openai", "gpt-6-luna")
GOOD = {"evidence": "it crashes", "label": "bug", "confidence_percent": 90}
LABELS = {"labels": ["bug", "praise"]}
NOTHING = Usage(0, 0)
REGISTRY = load_analyses([])


def said(text: str | dict[str, Any], reason: FinishReason = FinishReason.STOP) -> Completion:
    text = text if isinstance(text, str) else json.dumps(text)
    return Completion(text, reason, Usage(1_000, 100), "gpt-5.4-mini-served")


class World:
    """A gateway with a cache over a provider that gives `answers`, one a call."""

    def __init__(self, *answers: Answer, registry: AnalysisRegistry = REGISTRY, ttl_s: int | None = None) -> None:
        self.provider = FakeProvider(ProviderConfig("openai", "fake"), script=answers)
        providers = ProviderSet({"openai": [self.provider.config]}, lambda _: self.provider)
        self.clock_s = 100.0
        cache = AnswerCache(MemoryLayer(), ttl_s=ttl_s)
        self.gateway = Gateway(load_catalog(None, ENV), registry, providers, cache=cache, clock=lambda: self.clock_s)
        self.ledger = MemoryLedger()

    async def classify(self, content: str = "it crashes", **wishes: Any) -> AnalysisResult:
        given = {"context": LABELS, "model": MINI, "ledger": self.ledger} | wishes
        return await self.gateway.analyze("text_classification", content, **given)

    @property
    def outcomes(self) -> list[str]:
        return [call.end.outcome.value for call in self.ledger.calls if call.end]


async def test_the_second_time_no_call_is_made_and_the_ledger_says_so() -> None:
    world = World(said(GOOD))
    first = await world.classify()
    second = await world.classify()
    assert world.provider.calls == 1
    assert (first.cached, second.cached) == (False, True)
    assert (second.data, second.model, second.prompt_version) == (GOOD, "gpt-5.4-mini-served", "v1")
    assert (second.usage, second.cost_usd, second.calls, second.repaired) == (NOTHING, Decimal(0), 0, False)
    call = world.ledger.calls[1]
    assert call.end == CallEnd(CallOutcome.CACHED, 0.0, usage=NOTHING, cost_usd=Decimal(0))
    assert (call.start.model, call.start.account) == (MINI, "default")


async def test_ones_changes_to_a_result_are_not_anothers() -> None:
    world = World(said(GOOD))
    for _ in range(3):
        result = await world.classify()
        assert result.data == GOOD
        result.data["label"] = "changed"


@pytest.mark.parametrize(
    "otherwise",
    [
        {"tenant": "another"},
        {"content": "it crashes."},
        {"context": {"labels": ["bug", "praise", "other"]}},
        {"model": LUNA},
        {"max_tokens": 200},
        {"temperature": 0.9},
        {"use_cache": False},
    ],
    ids=lambda otherwise: next(iter(otherwise)),
)
async def test_who_asks_otherwise_is_answered_anew(otherwise: dict[str, Any]) -> None:
    world = World(said(GOOD), said(GOOD | {"label": "praise"}))
    await world.classify()
    result = await world.classify(**otherwise)
    assert (result.data["label"], result.cached, world.provider.calls) == ("praise", False, 2)


async def test_an_answer_wanted_fresh_is_not_kept_either() -> None:
    world = World(said(GOOD), said(GOOD))
    await world.classify(use_cache=False)
    assert (await world.classify()).cached is False


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ([Throttled("slow down")], Throttled),
        ([said(GOOD, FinishReason.LENGTH)], OutputTruncated),
        ([said(GOOD, FinishReason.REFUSAL)], ContentRefused),
        ([said("no idea"), said("none")], InvalidOutput),
    ],
    ids=["429", "truncated", "refused", "invalid"],
)
async def test_an_error_is_never_remembered(bad: list[Answer], error: type[GatewayError]) -> None:
    world = World(*bad, said(GOOD))
    with pytest.raises(error):
        await world.classify()
    result = await world.classify()
    assert (result.data, result.cached) == (GOOD, False)


@pytest.mark.parametrize(
    "repaired", [[said(f"```json\n{json.dumps(GOOD)}\n```")], [said("no idea"), said(GOOD)]], ids=["mended", "re-asked"]
)
async def test_a_repaired_answer_is_never_remembered(repaired: list[Answer]) -> None:
    world = World(*repaired, said(GOOD), said(GOOD))
    assert (await world.classify()).repaired is True
    second = await world.classify()
    assert (second.repaired, second.cached) == (False, False)


async def test_text_code_and_a_callers_own_schema_are_remembered_as_they_were_read() -> None:
    code = said("```python\nprint(1)\n```")
    world = World(code, said("  hello\n"), said('{"a": 1}'))
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    for wish in ({"output_format": "code"}, {"output_format": "text"}, {"schema": schema}):
        first, second = [await world.gateway.analyze("completion", "go", model=MINI, **wish) for _ in range(2)]
        assert first.data == second.data
        assert (first.cached, second.cached) == (False, True)
    assert world.provider.calls == 3


async def test_what_must_not_be_remembered_is_not() -> None:
    entry = REGISTRY.get("text_classification")
    never = replace(entry, analysis=replace(entry.analysis, cache_ttl_s=0))
    world = World(said(GOOD), said(GOOD), registry=AnalysisRegistry({"text_classification": never}), ttl_s=60)
    await world.classify()
    assert (await world.classify()).cached is False


async def test_a_hit_needs_no_budget_and_no_price() -> None:
    """`open` refuses every call here; a remembered answer is none."""
    world = World(said(GOOD))
    await world.classify()
    result = await world.classify(ledger=MemoryLedger(max_calls=0))
    assert result.cached
    with pytest.raises(BudgetSpent):
        await world.classify("something else", ledger=MemoryLedger(max_calls=0))


async def test_a_spared_call_does_not_count() -> None:
    ledger = MemoryLedger(max_calls=1)
    world = World(said(GOOD), said(GOOD))
    await world.classify(ledger=MemoryLedger())
    await world.classify(ledger=ledger)
    await world.classify("something else", ledger=ledger)
    assert [call.end.outcome for call in ledger.calls if call.end] == [CallOutcome.CACHED, CallOutcome.SUCCEEDED]


async def test_equal_jobs_share_an_answer_and_nothing_else() -> None:
    """The leader may not spend: it fails by itself, and the next one asks with its own budget."""
    world = World(said(GOOD))
    poor = asyncio.create_task(world.classify(ledger=MemoryLedger(max_calls=0)))
    rich = [asyncio.create_task(world.classify()) for _ in range(9)]
    results = await asyncio.gather(*rich)
    with pytest.raises(BudgetSpent):
        await poor
    assert world.provider.calls == 1
    assert sorted(world.outcomes) == ["cached"] * 8 + ["succeeded"]
    assert {json.dumps(result.data) for result in results} == {json.dumps(GOOD)}


class Slow(MemoryLedger):
    """Opens a call only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.opening, self.may_open = asyncio.Event(), asyncio.Event()

    async def open(self, call: CallStart) -> int:
        self.opening.set()
        await self.may_open.wait()
        return await super().open(call)


async def behind_a_leader_that_fails(world: World, waited_s: float) -> asyncio.Task[AnalysisResult]:
    """Let a question wait so long behind another one, which then fails."""
    slow = Slow()
    leader = asyncio.create_task(world.classify(ledger=slow))
    await slow.opening.wait()
    follower = asyncio.create_task(world.classify(timeout_s=30.0))
    for _ in range(10):
        await asyncio.sleep(0)
    world.clock_s += waited_s
    slow.may_open.set()
    await asyncio.wait([leader])
    assert isinstance(leader.exception(), Throttled)
    return follower


async def test_who_waited_asks_with_the_time_that_is_left() -> None:
    world = World(Throttled("slow down"), said(GOOD))
    follower = await behind_a_leader_that_fails(world, 20.0)
    assert (await follower).cached is False
    assert [request.timeout_s for request in world.provider.requests] == [120.0, 10.0]


async def test_who_has_no_time_left_makes_no_call() -> None:
    world = World(Throttled("slow down"), said(GOOD))
    follower = await behind_a_leader_that_fails(world, 29.5)
    with pytest.raises(AnswerAwaited, match=r"for 29\.5 s"):
        await follower
    assert world.provider.calls == 1
    assert world.ledger.calls == []


async def test_the_log_tells_hits(caplog: pytest.LogCaptureFixture) -> None:
    world = World(said(GOOD))
    with caplog.at_level(logging.INFO, "gateway"):
        await world.classify()
        await world.classify()
    lines = [record for record in caplog.records if record.message == "LLM analysis completed"]
    assert [vars(line)["cache_hit"] for line in lines] == [False, True]


async def test_a_composed_gateway_remembers_unless_it_is_switched_off() -> None:
    for settings, cached in ((Settings(), True), (Settings(cache_enabled=False), False)):
        gateway = build_gateway(
            settings, load_catalog(None, {"ASSAYLINE_FAKE": "1"}), {"ASSAYLINE_FAKE": "1"}, REGISTRY
        )
        ask = [await gateway.analyze("completion", "hello", model=ModelRef("fake", "scripted")) for _ in range(2)]
        assert [result.cached for result in ask] == [False, cached]
        await gateway.aclose()


async def test_a_hundred_equal_questions_are_one_call_and_ninety_nine_rows_that_say_cached() -> None:
    world = World(said(GOOD))
    results = await asyncio.gather(*(world.classify() for _ in range(100)))
    assert world.provider.calls == 1
    assert sum(result.cached for result in results) == 99
    assert sorted(world.outcomes) == ["cached"] * 99 + ["succeeded"]
