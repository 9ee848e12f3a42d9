"""The key of an answer: any difference in what is asked makes another one, and nothing else does."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.analyses.base import Ask
from gateway.analyses.registry import load_analyses
from gateway.cache.key import answer_key, parts
from gateway.calls.hop import Hop, Seat
from gateway.catalog import load_catalog
from gateway.limits.group import LimitGroup
from gateway.messages import Message, ModelRef
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import FakeProvider
from gateway.question import Question, Wishes, write_question

REGISTRY = load_analyses([])
CATALOG = load_catalog(None, {})
LUNA, MINI = ModelRef("openai", "gpt-6-luna"), ModelRef("openai", "gpt-5.4-mini")
CONFIG = ProviderConfig("openai", "fake", base_url="https://one.example/v1", options={"region": "eu"})
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
ASK = Ask("what is it?", {}, (Message("user", "hello"), Message("assistant", "yes?")), SCHEMA, "json")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Served(FakeProvider):
    """An adapter of any options."""

    def __init__(self, config: ProviderConfig) -> None:
        self.config = config


def hop(config: ProviderConfig = CONFIG, ref: ModelRef = MINI, **entry: Any) -> Hop:
    listed = CATALOG.model(ref).model_copy(update=entry)
    return Hop(ref, listed, (Seat(LimitGroup(ref.provider, "main", "default"), Served(config)),), 120.0)


def question(ask: Ask = ASK, at: Hop | None = None, analysis: str = "completion", **wishes: Any) -> Question:
    return write_question(REGISTRY.get(analysis), ask, at or hop(), Wishes(**wishes))


def key(ask: Ask = ASK, at: Hop | None = None, *, tenant: str = "acme", **wishes: Any) -> str:
    found = answer_key(question(ask, at, **wishes), ask, tenant)
    assert found is not None
    return found


OTHERS: dict[str, str | None] = {
    "tenant": key(tenant="acme2"),
    "analysis": key(Ask("what is it?", {"labels": ["a", "b"]}), analysis="text_classification", max_tokens=4_096),
    "content": key(replace(ASK, content="what is it")),
    "context": key(Ask("x", {"labels": ["a", "c"]}), analysis="text_classification"),
    "context's order of a list": key(Ask("x", {"labels": ["c", "a"]}), analysis="text_classification"),
    "a number for its text": key(Ask("x", {"labels": ["1", "a"]}), analysis="text_classification"),
    "message": key(replace(ASK, messages=(Message("user", "hello!"), ASK.messages[1]))),
    "role": key(replace(ASK, messages=(Message("assistant", "hello"), ASK.messages[1]))),
    "no messages": key(replace(ASK, messages=())),
    "messages cut elsewhere": key(replace(ASK, messages=(Message("user", "helloyes?"),))),
    "schema": key(replace(ASK, schema=SCHEMA | {"properties": {"a": {"type": "string"}}})),
    "schema as read alone": key(replace(ASK, schema=SCHEMA | {"properties": {"a": {"type": "integer", "minimum": 1}}})),
    "no schema": key(replace(ASK, schema=None)),
    "output format": key(replace(ASK, schema=None, output_format="markdown")),
    "schema as sent": key(at=hop(capabilities=frozenset())),
    "max_tokens": key(max_tokens=77),
    "temperature": key(temperature=0.5),
    "model": key(at=hop(ref=LUNA, **CATALOG.model(MINI).model_dump())),
    "extra_body": key(at=hop(extra_body={"reasoning_effort": "high"})),
    "thinking room": key(at=hop(thinking_tokens=1_000)),
    "provider": key(at=replace(hop(), ref=ModelRef("azure", MINI.model))),
    "endpoint": key(at=hop(replace(CONFIG, base_url="https://two.example/v1"))),
    "no endpoint": key(at=hop(replace(CONFIG, base_url=None))),
    "dialect": key(at=hop(replace(CONFIG, dialect="openai_responses"))),
    "options": key(at=hop(replace(CONFIG, options={"region": "us"}))),
}


def test_whatever_is_asked_otherwise_has_another_key() -> None:
    keys = [key(), *OTHERS.values()]
    assert len(set(keys)) == len(keys), "two of the table are one"


def test_an_other_prompt_has_an_other_key() -> None:
    asked = question()
    other = replace(asked, prompt=replace(asked.prompt, fingerprint="0" * 64))
    assert answer_key(asked, ASK, "acme") != answer_key(other, ASK, "acme")


@pytest.mark.parametrize("name", sorted(parts(question(), ASK, "acme")))
def test_every_part_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else a part should say, another value of it is another key."""
    asked = question()
    before = answer_key(asked, ASK, "acme")
    monkeypatch.setattr("gateway.cache.key.parts", lambda *a: parts(*a) | {name: "something else"})
    assert answer_key(asked, ASK, "acme") != before


def test_the_parts_are_those_that_were_thought_of() -> None:
    """A new field of an ask, a request or a provider's configuration must find its place here, or a reason."""
    request = {"model", "messages", "max_tokens", "temperature", "schema", "schema_name", "timeout_s", "extra_body"}
    assert set(question().request.__dataclass_fields__) == request
    assert set(ASK.__dataclass_fields__) == {"content", "context", "messages", "schema", "output_format"}
    assert set(Wishes.__dataclass_fields__) == {"prompt_version", "max_tokens", "temperature", "timeout_s"}
    # Not parts: the account and its key, which pay, and how long somebody waits.
    configuration = {"name", "dialect", "base_url", "account", "api_key", "timeout_s", "options"}
    assert set(ProviderConfig.__dataclass_fields__) == configuration


def test_what_no_answer_depends_on_is_no_part() -> None:
    plain = hop(replace(CONFIG, api_key="another", timeout_s=1.0))
    seats = (Seat(LimitGroup("fake", "second", "default"), plain.provider),)
    richer = replace(plain, seats=seats, timeout_s=7.0)
    assert key(at=richer, timeout_s=3.0) == key()


def test_the_fences_marker_is_no_part() -> None:
    ask = Ask("it crashes", {"labels": ["a", "b"]})
    one, two = question(ask, analysis="text_classification"), question(ask, analysis="text_classification")
    assert one.request.messages != two.request.messages
    assert answer_key(one, ask, "acme") == answer_key(two, ask, "acme")


def shuffled(value: Any, order: Any) -> Any:
    if isinstance(value, dict):
        names = order.draw(st.permutations(list(value)))
        return {name: shuffled(value[name], order) for name in names}
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), JSON, max_size=4), st.data())
def test_the_order_of_a_contexts_names_is_no_part(context: dict[str, Any], data: st.DataObject) -> None:
    asked = question()
    other = shuffled(copy.deepcopy(context), data)
    assert answer_key(asked, replace(ASK, context=context), "t") == answer_key(asked, replace(ASK, context=other), "t")


@given(st.dictionaries(st.text(), JSON, max_size=3), st.dictionaries(st.text(), JSON, max_size=3))
def test_contexts_that_print_otherwise_have_other_keys(one: dict[str, Any], two: dict[str, Any]) -> None:
    asked = question()
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    first, second = (answer_key(asked, replace(ASK, context=context), "t") for context in (one, two))
    assert (first == second) == same


@given(st.text(), st.text(), st.text(), st.text())
def test_no_two_texts_run_into_each_other(tenant: str, content: str, tenant2: str, content2: str) -> None:
    asked = question()

    def found(whose: str, text: str) -> str | None:
        text = text.encode("utf-8", "replace").decode()
        return answer_key(asked, replace(ASK, content=text), whose)

    same = (tenant, content.encode("utf-8", "replace")) == (tenant2, content2.encode("utf-8", "replace"))
    assert (found(tenant, content) == found(tenant2, content2)) == same


def test_a_context_without_a_canonical_form_has_no_key() -> None:
    assert answer_key(question(), replace(ASK, context={"a": {1: "x", "1": "y"}}), "t") is None


def test_a_key_says_nothing() -> None:
    assert len(key()) == 64
    assert int(key(), 16) > 0
