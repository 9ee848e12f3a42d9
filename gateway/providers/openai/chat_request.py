"""Our request written as an OpenAI chat-completions body, in the variants its servers want.

Differences between servers are options in the catalog, read here once, and not branches elsewhere.
Source of the wire format: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from gateway.messages import CompletionRequest, JsonObject

BOUND_STRING_CHARS = 80
"""Longest string a bounded schema lets a model write: a sentence. A small model under a grammar may not find
the closing quote of an unbounded one before max_tokens."""

BOUND_ARRAY_ITEMS = 4
"""Most items a bounded schema lets a model write, for the same reason."""

_SUBSCHEMAS = ("items", "additionalProperties", "not")
_SUBSCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SUBSCHEMA_MAPS = ("properties", "$defs", "definitions")


class OpenAIOptions(BaseModel):
    """`options` of a catalog entry whose dialect is openai_compatible."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    """OpenAI wants the first (reasoning models refuse the second); most other servers know only the second."""
    structured_output: bool = True
    """Whether the server understands response_format json_schema. If not, the schema is not sent."""
    bound_schema: bool = False
    """Whether maxLength and maxItems are added to the schema sent; a small local model needs them."""
    keepalive_s: float = Field(default=4.0, gt=0)
    """How long an idle connection is kept. Shorter than the 5 s after which uvicorn and llama.cpp close theirs,
    or a call may be sent into a closing connection."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the body, such as reasoning_effort. What we set ourselves wins."""


def chat_body(request: CompletionRequest, options: OpenAIOptions) -> JsonObject:
    """Return the JSON body that asks `request`."""
    body: JsonObject = {
        **options.extra_body,
        **request.extra_body,
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        options.max_tokens_field: request.max_tokens,
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.schema is not None and options.structured_output:
        body["response_format"] = _response_format(request.schema_name, request.schema, options)
    return body


def _response_format(name: str, schema: JsonObject, options: OpenAIOptions) -> JsonObject:
    sent = bounded(schema) if options.bound_schema else schema
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": sent}}


def bounded(schema: JsonObject) -> JsonObject:
    """Return a copy of `schema` in which every string and every array has an upper bound.

    A bound that is there stays if it is tighter; an array's minItems is never contradicted. Strings
    of an enum or a const are bounded already.
    """
    copy = {key: _bounded_part(key, value) for key, value in schema.items()}
    if _is("string", copy) and not ({"enum", "const"} & copy.keys()):
        copy["maxLength"] = _tightest(copy, "maxLength", "minLength", BOUND_STRING_CHARS)
    if _is("array", copy):
        copy["maxItems"] = _tightest(copy, "maxItems", "minItems", BOUND_ARRAY_ITEMS)
    return copy


def _bounded_part(key: str, value: Any) -> Any:
    if key in _SUBSCHEMAS and isinstance(value, dict):
        return bounded(value)
    if key in _SUBSCHEMA_LISTS:
        return [bounded(part) if isinstance(part, dict) else part for part in value]
    if key in _SUBSCHEMA_MAPS:
        return {name: bounded(part) if isinstance(part, dict) else part for name, part in value.items()}
    return value


def _is(kind: str, schema: JsonObject) -> bool:
    declared = schema.get("type")
    return declared == kind or (isinstance(declared, list) and kind in declared)


def _tightest(schema: JsonObject, upper: str, lower: str, bound: int) -> int:
    return int(max(min(schema.get(upper, bound), bound), schema.get(lower, 0)))
