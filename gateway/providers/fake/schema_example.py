"""A value that satisfies a JSON schema, always the same one. The fake provider answers with it.

Knows the subset of JSON schema that pydantic writes and our analyses use; says so when it meets more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.messages import JsonObject

EXAMPLE_TEXT = "example"
FORMATS: dict[str, str] = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "a@example.org",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
MAX_DEPTH = 32
"""Deeper than any schema of ours; a schema that needs a value of itself ends here."""


def example(schema: JsonObject) -> Any:
    """Return a value that satisfies `schema`: first enum member, first alternative, shortest array of at least one.

    Raises:
        ConfigurationError: the schema asks for what this builder cannot make (a pattern, no type, endless recursion).
    """
    return _value(schema, schema, 0)


def _value(schema: JsonObject, root: JsonObject, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ConfigurationError(f"the schema needs values nested deeper than {MAX_DEPTH}")
    if "$ref" in schema:
        return _value(_resolved(schema["$ref"], root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword in schema:
            return _value(schema[keyword][0], root, depth + 1)
    return _typed(schema, root, depth)


def _typed(schema: JsonObject, root: JsonObject, depth: int) -> Any:
    declared = schema.get("type")
    kind = declared[0] if isinstance(declared, list) else declared
    if kind == "object":
        return {name: _value(part, root, depth + 1) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return _array(schema, root, depth)
    if kind in _SCALARS:
        return _SCALARS[kind](schema)
    raise ConfigurationError(f"no example can be built for a schema of type {declared!r}")


def _resolved(reference: str, root: JsonObject) -> JsonObject:
    if not reference.startswith("#"):
        raise ConfigurationError(f"the schema refers to another document: {reference!r}")
    found = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        found = found[part] if part else found
    return found


def _array(schema: JsonObject, root: JsonObject, depth: int) -> list[Any]:
    length = min(max(1, schema.get("minItems", 0)), schema.get("maxItems", math.inf))
    return [_value(schema.get("items", {"type": "string"}), root, depth + 1) for _ in range(int(length))]


def _text(schema: JsonObject) -> str:
    if "pattern" in schema:
        raise ConfigurationError(f"no example can be built for the pattern {schema['pattern']!r}")
    text = FORMATS.get(schema.get("format", ""), EXAMPLE_TEXT).ljust(schema.get("minLength", 0), "x")
    return str(text[: schema.get("maxLength")])


def _integer(schema: JsonObject) -> int:
    """Return the smallest whole number allowed; without a lower bound 1, or the upper bound if that is less."""
    if "minimum" in schema:
        return math.ceil(float(schema["minimum"]))
    if "exclusiveMinimum" in schema:
        return math.floor(float(schema["exclusiveMinimum"])) + 1
    if "exclusiveMaximum" in schema:
        return min(1, math.ceil(float(schema["exclusiveMaximum"])) - 1)
    return min(1, math.floor(float(schema.get("maximum", 1))))


def _number(schema: JsonObject) -> float:
    """Return the number halfway between the bounds, where a missing bound lies one away from the other."""
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        low = 0.0 if high is None else float(high) - 1
    return (float(low) + (float(low) + 1 if high is None else float(high))) / 2


_SCALARS: dict[str, Callable[[JsonObject], Any]] = {
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": lambda _: True,
    "null": lambda _: None,
}
