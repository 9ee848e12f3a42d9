"""The JSON schema that is sent to a provider, and the rules it must keep.

Providers accept different subsets of JSON schema; these are the rules of the strictest together
(Anthropic: no ranges, no recursion, few unions; OpenAI strict mode: every field required, closed
objects, at most five levels; Gemini: no maps). Ranges and lengths are enforced by pydantic when
the answer is read, so they are taken out of what is sent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

    from gateway.messages import JsonObject

MAX_LEVELS = 5
"""OpenAI's strict mode on some models: five levels of nesting, the root included."""

MAX_NULLABLE_FIELDS = 16
"""Anthropic: at most 16 unions in one schema."""

KEPT_KEYWORDS = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "anyOf", "description"}
)
"""What a sent schema may hold."""

BOUND_KEYWORDS = frozenset({"minimum", "maximum", "minLength"})
"""Left in for a model whose server enforces them (llama.cpp's grammars do: of integers and strings, not of numbers)."""

STRIPPED_KEYWORDS = frozenset(
    {
        *("title", "default", "examples", "format", "pattern", "multipleOf", "uniqueItems"),
        *("exclusiveMinimum", "exclusiveMaximum", "maxLength", "minItems", "maxItems"),
        *("$defs", "$ref", "const"),
    }
)
"""What pydantic writes or enforces, and a provider need not (or must not) see."""

SCALARS = ("string", "integer", "number", "boolean", "null")


def common_schema(model: type[BaseModel]) -> JsonObject:
    """Derive the schema every provider accepts: references written out, ranges and decoration left out; linted.

    Raises:
        ConfigurationError: the model breaks a rule; the message names it and the place.
    """
    schema = _sent(model, STRIPPED_KEYWORDS | BOUND_KEYWORDS)
    lint(schema, model.__name__)
    return schema


def bounded_schema(model: type[BaseModel]) -> JsonObject:
    """Derive the common schema with the bounds left in that servers enforce; raises as `common_schema`."""
    return _sent(model, STRIPPED_KEYWORDS)


def _sent(model: type[BaseModel], stripped: frozenset[str]) -> JsonObject:
    written = model.model_json_schema()
    # A class's docstring speaks to developers; only a field's own description is sent.
    written.pop("description", None)
    return _Inliner(model.__name__, written.get("$defs", {}), stripped).copy(written, ())


@dataclass(frozen=True, slots=True)
class _Inliner:
    """Copies a schema with its references written out and the stripped keywords gone."""

    name: str
    definitions: Mapping[str, JsonObject]
    stripped: frozenset[str]

    def copy(self, node: JsonObject, open_refs: tuple[str, ...]) -> JsonObject:
        if "$ref" in node:
            ref = str(node["$ref"]).removeprefix("#/$defs/")
            if ref in open_refs:
                raise ConfigurationError(f"schema of {self.name}: {ref} contains itself; providers refuse recursion")
            definition = {key: value for key, value in self.definitions[ref].items() if key != "description"}
            node, open_refs = {**definition, **node}, (*open_refs, ref)
        copy = {key: value for key, value in node.items() if key not in self.stripped}
        if "const" in node:
            copy["enum"] = [node["const"]]
        if "properties" in node:
            copy["properties"] = {field: self.copy(child, open_refs) for field, child in node["properties"].items()}
        if isinstance(node.get("items"), dict):
            copy["items"] = self.copy(node["items"], open_refs)
        if "anyOf" in node:
            copy["anyOf"] = [self.copy(child, open_refs) for child in node["anyOf"]]
        return copy


def lint(schema: JsonObject, name: str) -> None:
    """Check a schema against the rules.

    Raises:
        ConfigurationError: one is broken; the message lists all findings with their places.
    """
    findings = [*_findings(schema, "$", 1), *_root_findings(schema)]
    nullable = sum(1 for node in _nodes(schema) if "anyOf" in node)
    if nullable > MAX_NULLABLE_FIELDS:
        findings.append(f"$: {nullable} nullable fields, at most {MAX_NULLABLE_FIELDS}")
    if findings:
        raise ConfigurationError(f"schema of {name}: {'; '.join(findings)}")


def _root_findings(schema: JsonObject) -> Iterator[str]:
    if schema.get("type") != "object":
        yield "$: the root is an object"


def _findings(node: Any, place: str, level: int) -> Iterator[str]:
    """Yield each broken rule of a node and of all below it."""
    if not isinstance(node, dict):
        yield f"{place}: {json.dumps(node)} where a schema with a type is wanted"
        return
    if level > MAX_LEVELS:
        yield f"{place}: deeper than {MAX_LEVELS} levels"
        return
    foreign = sorted(node.keys() - KEPT_KEYWORDS)
    if foreign:
        yield f"{place}: {', '.join(foreign)} not in the common subset"
    if "anyOf" in node:
        yield from _union_findings(node, place, level)
    elif node.get("type") == "object":
        yield from _object_findings(node, place, level)
    elif node.get("type") == "array":
        yield from _array_findings(node, place, level)
    elif node.get("type") not in SCALARS:
        yield f"{place}: no type, or several"
    if "enum" in node and not all(isinstance(value, str) for value in node["enum"]):
        yield f"{place}: an enum holds strings only"


def _object_findings(node: JsonObject, place: str, level: int) -> Iterator[str]:
    fields = node.get("properties", {})
    if node.get("additionalProperties") is not False:
        yield f"{place}: additionalProperties is not false (a map, or a model without extra='forbid')"
    if not fields:
        yield f"{place}: an object without fields"
    optional = sorted(fields.keys() - set(node.get("required", [])))
    if optional:
        yield f"{place}: {', '.join(optional)} not required (make it nullable instead)"
    for field, child in fields.items():
        yield from _findings(child, f"{place}.{field}", level + 1)


def _array_findings(node: JsonObject, place: str, level: int) -> Iterator[str]:
    if isinstance(node.get("items"), dict) and node["items"]:
        yield from _findings(node["items"], f"{place}[]", level + 1)
    else:
        yield f"{place}: an array without items"


def _union_findings(node: JsonObject, place: str, level: int) -> Iterator[str]:
    arms = [arm for arm in node["anyOf"] if arm != {"type": "null"}]
    if len(node["anyOf"]) != 2 or len(arms) != 1:
        yield f"{place}: a union other than 'X or null'"
    for arm in arms:
        yield from _findings(arm, place, level)


def _nodes(node: Any) -> Iterator[JsonObject]:
    if not isinstance(node, dict):
        return
    yield node
    for child in [*node.get("properties", {}).values(), node.get("items"), *node.get("anyOf", [])]:
        yield from _nodes(child)
