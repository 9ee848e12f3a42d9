"""A caller's own JSON schema: bounded, with its references written out, and the part of it that can be sent.

A worker serves many tenants on one loop, so no schema may make validation slow: patterns and `unevaluated…` are refused
(both can take exponential time), references are written out under a budget (thirty of them, each naming the next one
twice, stand for a billion parts), and so is an answer checked (six hundred alternatives for each of a thousand items
took seven seconds). Without references nothing is ever fetched either.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend

from gateway.analyses.schema_lint import BOUND_KEYWORDS, KEPT_KEYWORDS, STRIPPED_KEYWORDS, lint
from gateway.errors import ConfigurationError, RequestError
from gateway.response import NotValid

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from gateway.messages import JsonObject

    Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]

MAX_SCHEMA_CHARS = 20_000
"""Longest schema of a caller, as JSON. It goes into every question, and its tokens are paid for."""

MAX_PARTS = 2_000
"""Most values a schema may hold once its references are written out. The longest one without references has fewer."""

MAX_LEVELS = 64
"""Deepest nesting with its references written out: validation takes several frames of Python's stack for each level."""

MAX_STEPS = 100_000
"""Most checks of one keyword at one place an answer may take: about a second. An honest one takes a few thousand."""

COMPARED_IN_A_STEP = 10
"""Members of an enum, or fields of an object, that are looked through in the time of one check."""

REFUSED = frozenset(
    {
        *("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems"),
        *("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$anchor"),
    }
)
DECORATION = frozenset({"$schema", "$id", "$comment", "$defs", "definitions"})
REMARKS = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"})
NAME_MAPS = frozenset({"properties", "dependentSchemas", "dependentRequired"})
VALUES = frozenset({"enum", "const", "default", "examples"})
REF_PREFIXES = ("#/$defs/", "#/definitions/")


def written_out(schema: JsonObject) -> JsonObject:
    """Check a caller's schema (draft 2020-12) and write its references out.

    Raises:
        RequestError: it is no valid schema, does not describe an object, is too long, contains itself, or uses a
            keyword that is refused, or is nested too deep; the message names the place.
    """
    try:
        if len(json.dumps(schema)) > MAX_SCHEMA_CHARS:
            raise RequestError(f"schema: longer than {MAX_SCHEMA_CHARS} characters as JSON")
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise RequestError(f"schema: {error.json_path}: {error.message}") from error
    except RecursionError as error:
        raise RequestError(f"schema: nested deeper than {MAX_LEVELS} levels") from error
    definitions = {**schema.get("definitions", {}), **schema.get("$defs", {})}
    whole: JsonObject = _Writer(definitions).copy(schema, "$", (), 1)
    if whole.get("type") != "object":
        raise RequestError('schema: $: it describes an object: "type": "object"')
    return whole


def common_part(whole: JsonObject) -> JsonObject | None:
    """Return what can be sent to every provider of a schema without references, or None where it leaves their subset.

    Ranges and decoration are left out, as for our own schemas; for any other foreign keyword (a map, an optional
    field, a `oneOf`) nothing is sent: leaving it out would ask for something else.
    """
    sent = _stripped(whole)
    try:
        lint(sent, "the caller's schema")
    except ConfigurationError:
        return None
    return sent


def _unique_items(_: Any, wanted: bool, instance: Any, __: Any) -> Iterator[ValidationError]:
    """`uniqueItems` in linear time; jsonschema's own compares every two items."""
    if wanted and isinstance(instance, list) and len({_frozen(item) for item in instance}) < len(instance):
        yield ValidationError("two items are equal")


def _frozen(value: Any) -> Hashable:
    """A value that equals another where JSON has them equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return frozenset((key, _frozen(child)) for key, child in value.items())
    if isinstance(value, list):
        return tuple(_frozen(child) for child in value)
    return isinstance(value, bool), value


def _multiple_of(_: Any, factor: float, instance: Any, __: Any) -> Iterator[ValidationError]:
    """`multipleOf` in decimals, as they are written: 0.3 is a multiple of 0.1, and no number is too large."""
    if type(instance) in (int, float) and Fraction(str(instance)) % Fraction(str(factor)):
        yield ValidationError(f"not a multiple of {factor}")


def _counted(keyword: Keyword) -> Keyword:
    """Return the keyword's check, which pays for itself out of the answer's steps."""

    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        left = _steps_left.get() - 1 - (len(value) // COMPARED_IN_A_STEP if isinstance(value, (list, dict)) else 0)
        if left < 0:
            raise NotValid(("there is too much in it to be checked against the schema",))
        _steps_left.set(left)
        yield from keyword(validator, value, instance, schema) or ()

    return check


_steps_left: ContextVar[int] = ContextVar("steps_left")
_KEYWORDS = {**Draft202012Validator.VALIDATORS, "uniqueItems": _unique_items, "multipleOf": _multiple_of}
Validator: type[Draft202012Validator] = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {name: _counted(keyword) for name, keyword in _KEYWORDS.items()}
)
"""Draft 2020-12 with every check counted, and the two keywords that were slow or failed replaced."""


def broken_rules(validator: Draft202012Validator, data: Any) -> list[str]:
    """Return the places of an answer that break a rule, and the rule; the value stays out, it may be personal.

    Raises:
        NotValid: it would take too long to tell.
    """
    _steps_left.set(MAX_STEPS)
    found = sorted(validator.iter_errors(data), key=lambda error: error.json_path)
    return [f"{error.json_path}: breaks {error.validator}" for error in found]


@dataclass(slots=True)
class _Writer:
    """Copies a schema, each reference replaced by what it names."""

    definitions: JsonObject
    parts: int = 0

    def copy(self, node: Any, place: str, open_refs: tuple[str, ...], level: int, *, names: bool = False) -> Any:
        """Copy a schema, or (`names`) a map whose keys are the caller's names and not keywords."""
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise RequestError(f"schema: with its references written out it holds more than {MAX_PARTS} values")
        if level > MAX_LEVELS:
            raise RequestError(f"schema: nested deeper than {MAX_LEVELS} levels")
        if isinstance(node, list):
            return [self.copy(child, f"{place}[{index}]", open_refs, level + 1) for index, child in enumerate(node)]
        if not isinstance(node, dict):
            return node
        if names:
            return {key: self.copy(value, f"{place}.{key}", open_refs, level + 1) for key, value in node.items()}
        for keyword in sorted(REFUSED & node.keys()):
            raise RequestError(f"schema: {place}: {keyword} is not supported")
        if "$ref" in node:
            node, open_refs = self._resolved(node, place, open_refs)
            return self.copy(node, place, open_refs, level)
        return {
            key: value
            if key in VALUES
            else self.copy(value, f"{place}.{key}", open_refs, level + 1, names=key in NAME_MAPS)
            for key, value in node.items()
            if key not in DECORATION
        }

    def _resolved(self, node: JsonObject, place: str, open_refs: tuple[str, ...]) -> tuple[JsonObject, tuple[str, ...]]:
        """Return what stands for a reference: what it names, and what the caller wrote beside it. Both hold."""
        ref = str(node["$ref"])
        name = next((ref.removeprefix(prefix) for prefix in REF_PREFIXES if ref.startswith(prefix)), None)
        found = None if name is None else self.definitions.get(name)
        if not isinstance(found, dict):
            raise RequestError(f"schema: {place}: {ref!r} names no entry of $defs")
        if ref in open_refs:
            raise RequestError(f"schema: {place}: {ref} contains itself")
        beside = {key: value for key, value in node.items() if key != "$ref" and key not in DECORATION}
        both = {**found, **beside} if beside.keys() <= REMARKS else {"allOf": [found, beside]}
        return both, (*open_refs, ref)


def _stripped(node: JsonObject) -> JsonObject:
    """Leave out of a schema what pydantic-style decoration and ranges it holds; keep everything else for the linter."""
    kept = {
        key: value for key, value in node.items() if key not in (STRIPPED_KEYWORDS | BOUND_KEYWORDS) - KEPT_KEYWORDS
    }
    if "const" in node:
        kept["enum"] = [node["const"]]
    if isinstance(node.get("properties"), dict):
        kept["properties"] = {name: _stripped_child(child) for name, child in node["properties"].items()}
    if "items" in node:
        kept["items"] = _stripped_child(node["items"])
    if "anyOf" in node:
        kept["anyOf"] = [_stripped_child(child) for child in node["anyOf"]]
    return kept


def _stripped_child(child: Any) -> Any:
    return _stripped(child) if isinstance(child, dict) else child
