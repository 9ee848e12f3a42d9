"""The body of a chat completion: a bounded schema's every string and array has an end; OpenAI is to store nothing."""

from __future__ import annotations

import copy

import pytest

from gateway.messages import CompletionRequest, Message
from gateway.providers.base import ProviderConfig
from gateway.providers.openai.chat import OpenAICompatible
from gateway.providers.openai.chat_request import BOUND_ARRAY_ITEMS, BOUND_STRING_CHARS, bounded

NAME = {"type": "string"}
NAME_BOUND = {"type": "string", "maxLength": BOUND_STRING_CHARS}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (NAME, NAME_BOUND),
        ({"type": ["string", "null"]}, {"type": ["string", "null"], "maxLength": BOUND_STRING_CHARS}),
        ({"type": "string", "maxLength": 5}, {"type": "string", "maxLength": 5}),
        ({"type": "string", "maxLength": 10_000}, NAME_BOUND),
        ({"type": "string", "minLength": 900}, {"type": "string", "minLength": 900, "maxLength": 900}),
        ({"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["a"]}),
        ({"type": "string", "const": "a"}, {"type": "string", "const": "a"}),
        ({"type": "integer", "maximum": 3}, {"type": "integer", "maximum": 3}),
        ({"type": "array", "items": NAME}, {"type": "array", "items": NAME_BOUND, "maxItems": BOUND_ARRAY_ITEMS}),
        ({"type": "array", "maxItems": 1}, {"type": "array", "maxItems": 1}),
        ({"type": "array", "minItems": 9}, {"type": "array", "minItems": 9, "maxItems": 9}),
        ({"anyOf": [NAME, {"type": "null"}]}, {"anyOf": [NAME_BOUND, {"type": "null"}]}),
        ({"$defs": {"N": NAME}, "$ref": "#/$defs/N"}, {"$defs": {"N": NAME_BOUND}, "$ref": "#/$defs/N"}),
    ],
)
def test_bounds(schema, expected):
    assert bounded(schema) == expected


def test_a_property_called_type_or_items_is_a_property():
    schema = {"type": "object", "properties": {"type": NAME, "items": NAME}, "additionalProperties": False}
    assert bounded(schema)["properties"] == {"type": NAME_BOUND, "items": NAME_BOUND}
    assert bounded(schema)["additionalProperties"] is False


def test_the_schema_handed_in_is_left_as_it_was():
    schema = {"type": "array", "items": {"type": "object", "properties": {"name": dict(NAME)}}}
    before = copy.deepcopy(schema)
    bounded(schema)
    assert schema == before


@pytest.mark.parametrize(
    ("base_url", "told"),
    [
        ("https://api.openai.com/v1", False),
        ("https://eu.api.openai.com/v1", False),
        ("https://api.openai.com.example.org/v1", None),
        ("https://notapi.openai.com/v1", None),
        ("http://127.0.0.1:8080/v1", None),
    ],
)
async def test_openai_is_told_to_store_nothing_and_nobody_else_is(base_url: str, told: bool | None) -> None:
    asked = CompletionRequest("m", (Message("user", "who?"),), 10, extra_body={"store": True} if told is False else {})
    provider = OpenAICompatible(ProviderConfig("x", "openai_compatible", base_url, "key"))
    assert provider.body(asked).get("store") is told
    await provider.aclose()
