"""What a call may have cost at most, reckoned without its request, against what admission reckons with it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from gateway.analyses.base import Ask
from gateway.analyses.registry import load_analyses
from gateway.calls.hops import Hops
from gateway.catalog import load_catalog
from gateway.ledger import CallKind
from gateway.messages import Message, ModelRef
from gateway.provider_set import ProviderSet
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import FakeProvider
from gateway.question import Wishes, write_question
from gateway.worst import SentCall, worst_usd

REGISTRY = load_analyses([])
CATALOG = load_catalog(None, {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"})
MODELS = [ModelRef("openai", "gpt-5.4-mini"), ModelRef("claude", "claude-haiku-5-5")]
TODAY = datetime.now(UTC).date()
NOT_MUCH_MORE = 2


def size_usd(name: str, ask: Ask, model: ModelRef, max_tokens: int | None = None) -> Decimal:
    """The worst cost that the ledger was told before the call."""
    provider = FakeProvider(ProviderConfig(model.provider, "fake"))
    hop = Hops(CATALOG, ProviderSet({model.provider: [provider.config]}, lambda _: provider)).of(model)
    question = write_question(REGISTRY.get(name), ask, hop, Wishes(max_tokens=max_tokens))
    worst = hop.size(question.request).worst_usd
    assert worst is not None
    return worst


def sent(name: str, ask: Ask, model: ModelRef = MODELS[0], **changes: Any) -> SentCall:
    """The same as the store has it."""
    turns = [{"role": turn.role, "content": turn.content} for turn in ask.messages]
    shaping = [json.dumps(part, ensure_ascii=False) for part in (dict(ask.context), ask.schema) if part is not None]
    parts = [ask.content, *shaping, *([json.dumps(turns, ensure_ascii=False)] if turns else [])]
    fields: dict[str, Any] = {
        "model": model,
        "analysis": name,
        "kind": CallKind.ANSWER,
        "prompt_version": None,
        "max_tokens": None,
        "input_bytes": sum(len(part.encode()) for part in parts),
        "shaping_bytes": sum(len(part.encode()) for part in shaping),
        "messages": len(turns),
        "day": TODAY,
    }
    return SentCall(**fields | changes)


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("name", REGISTRY.names())
def test_it_is_never_less_than_admission_reckoned_and_not_much_more(name: str, model: ModelRef) -> None:
    example = REGISTRY.get(name).analysis.example
    assert example is not None
    ask = Ask(example.content.read_text(encoding="utf-8"), example.context)
    found = worst_usd(sent(name, ask, model), CATALOG, REGISTRY)
    assert found is not None
    known = size_usd(name, ask, model)
    assert known <= found <= NOT_MUCH_MORE * known


def test_it_counts_the_callers_own_turns_schema_and_bounds() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    ask = Ask("go", {}, (Message("user", "ü" * 10_000), Message("assistant", "yes")), schema)
    found = worst_usd(sent("completion", ask, MODELS[0], max_tokens=50), CATALOG, REGISTRY)
    assert found is not None
    assert found >= size_usd("completion", ask, MODELS[0], 50)


def test_it_counts_labels_that_json_writes_longer() -> None:
    ask = Ask("x", {"labels": [f"ярлык {number}" for number in range(40)]})
    found = worst_usd(sent("text_classification", ask), CATALOG, REGISTRY)
    assert found is not None
    assert found >= size_usd("text_classification", ask, MODELS[0])


def test_a_repair_may_cost_more_than_its_answer() -> None:
    ask = Ask("it crashes", {"labels": ["bug"]})
    first, again = (
        worst_usd(sent("text_classification", ask, MODELS[0], kind=kind), CATALOG, REGISTRY) for kind in CallKind
    )
    assert first is not None
    assert again is not None
    assert again > first


@pytest.mark.parametrize(
    "changes",
    [{"model": ModelRef("openai", "gone")}, {"analysis": "gone"}, {"prompt_version": "v999"}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_nobody_knows_any_more_has_no_price(changes: dict[str, Any]) -> None:
    call = replace(sent("text_classification", Ask("x", {"labels": ["bug"]})), **changes)
    assert worst_usd(call, CATALOG, REGISTRY) is None


def test_the_price_is_that_of_its_day() -> None:
    call = sent("text_classification", Ask("x", {"labels": ["bug"]}), MODELS[0], day=date(2026, 11, 1))
    assert worst_usd(call, CATALOG, REGISTRY) is not None
