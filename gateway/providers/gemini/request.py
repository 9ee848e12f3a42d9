"""Our request written as the body of Gemini's generateContent.

Source of the wire format: the installed SDK (`google/genai/models.py`, `types.py`) and
https://ai.google.dev/api/generate-content.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.messages import CompletionRequest, JsonObject, Message

ROLES = {"user": "user", "assistant": "model"}

_MODEL = re.compile(r"(?P<kind>(?:models|tunedModels)/)?(?P<name>[A-Za-z0-9][\w.-]{0,127})", re.ASCII)


class GeminiOptions(BaseModel):
    """`options` of a catalog entry whose dialect is gemini."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keepalive_s: float = Field(default=4.0, gt=0)
    """How long an idle connection is kept."""
    api_version: str = Field(default="v1beta", pattern=r"^v[0-9][0-9a-z]{0,14}$")
    """The version where the base URL does not end with one. v1beta has all of v1, and the `-latest` models."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the body, such as safetySettings or generationConfig.thinkingConfig. What we set wins."""


def model_path(model: str) -> str:
    """Return a model's place in the API: `models/<name>`, or as it is where the kind is named.

    Raises:
        InvalidRequest: it is no model's name, and could lead elsewhere.
    """
    match = _MODEL.fullmatch(model)
    if match is None:
        raise InvalidRequest(f"{model[:80]!r} is not the name of a Gemini model")
    return f"{match['kind'] or 'models/'}{match['name']}"


def generate_body(request: CompletionRequest, options: GeminiOptions) -> JsonObject:
    """Return the JSON body that asks `request`. A model's own fields win over its provider's, and ours over both.

    Raises:
        InvalidRequest: a message cannot be written as UTF-8.
    """
    body: JsonObject = {
        **options.extra_body,
        **request.extra_body,
        "contents": _turns(message for message in request.messages if message.role != "system"),
        "generationConfig": {
            **_generation_config(options.extra_body),
            **_generation_config(request.extra_body),
            **_our_config(request),
        },
    }
    system = [_part(message) for message in request.messages if message.role == "system"]
    if system:
        body["systemInstruction"] = {"parts": system}
    return body


def _generation_config(extra_body: JsonObject) -> JsonObject:
    given = extra_body.get("generationConfig")
    return given if isinstance(given, dict) else {}


def _our_config(request: CompletionRequest) -> JsonObject:
    config: JsonObject = {"maxOutputTokens": request.max_tokens}
    if request.temperature is not None:
        config["temperature"] = request.temperature
    if request.schema is not None:
        config["responseMimeType"] = "application/json"
        config["responseSchema"] = gemini_schema(request.schema)
    return config


def _turns(messages: Iterable[Message]) -> list[JsonObject]:
    """Write the conversation's turns, neighbours of one role as one of several parts."""
    grouped = groupby(messages, key=lambda message: message.role)
    return [{"role": ROLES[role], "parts": [_part(one) for one in turns]} for role, turns in grouped]


def _part(message: Message) -> JsonObject:
    """Write a text. The SDK would escape what is not UTF-8, and send it."""
    try:
        message.content.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest("the request cannot be written as UTF-8 JSON: UnicodeEncodeError") from error
    return {"text": message.content}


def gemini_schema(schema: JsonObject, place: str = "$") -> JsonObject:
    """Return `schema` as Gemini's own Schema: types in capitals, nullable in place of a union with null.

    Objects are closed without saying so, and additionalProperties is a word it refuses. Fields are written in the order
    of `propertyOrdering`, alphabetically without it: evidence would come after the score it is for.

    Raises:
        InvalidRequest: there is a map, which would come back empty. The message names the place.
    """
    if "anyOf" in schema:
        return _union(schema, place)
    if schema.get("additionalProperties"):
        raise InvalidRequest(f"schema {place}: Gemini's response_schema has no maps (additionalProperties)")
    copy = {key: value for key, value in schema.items() if key not in ("additionalProperties", "type")}
    copy.update(_kind(schema.get("type")))
    if "enum" in copy:
        copy["format"] = "enum"
    if "items" in copy:
        copy["items"] = gemini_schema(copy["items"], f"{place}[]")
    if "properties" in copy:
        fields = copy["properties"].items()
        copy["properties"] = {name: gemini_schema(child, f"{place}.{name}") for name, child in fields}
        copy["propertyOrdering"] = list(copy["properties"])
    return copy


def _union(schema: JsonObject, place: str) -> JsonObject:
    arms = [arm for arm in schema["anyOf"] if arm.get("type") != "null"]
    nullable = {"nullable": True} if len(arms) < len(schema["anyOf"]) else {}
    around = {key: value for key, value in schema.items() if key != "anyOf"}
    if len(arms) == 1:
        return gemini_schema({**arms[0], **around}, place) | nullable
    return {**around, "anyOf": [gemini_schema(arm, place) for arm in arms]} | nullable


def _kind(kinds: object) -> JsonObject:
    """Write the first type that is not null; Gemini knows one to a place."""
    named = kinds if isinstance(kinds, list) else [kinds]
    first = next((kind for kind in named if kind not in ("null", None)), None)
    if first is None:
        return {}
    return {"type": str(first).upper()} | ({"nullable": True} if "null" in named else {})
