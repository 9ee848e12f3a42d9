"""From an answer's text to validated data: the repair ladder, as pure functions.

1. A cut or refused answer never gets here: its finish reason is looked at first (`gateway.gateway`).
2. The text as it is, read strictly.
3. The one JSON object in the text (fences and prose around it dropped), its punctuation mended by
   `json_repair`, read strictly and marked `repaired`.
4. What went wrong, in words, for one re-ask (`reask_messages`).

Rung 3 must not make anything up: a wrong answer that validates is worse than none. `json_repair`
turns `tru` into the string "tru", prose into "", drops a duplicate key and closes what was cut off.
So its result counts only if its tokens (brackets, keys, strings, numbers, literals, in order) are
exactly those of the text: it may have mended commas, colons, quotes and Python's literals, nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import json_repair

from gateway.json_tokens import MAX_DEPTH, UntidyJson, object_text, tokens_of_text, tokens_of_value
from gateway.messages import Message

if TYPE_CHECKING:
    from gateway.messages import JsonObject

MAX_REPAIR_CHARS = 64 * 1024
"""Longest text that rung 3 takes on: four times the longest answer an analysis allows."""

BROKEN = "the JSON object is broken: look for quotes, commas, doubled keys and words outside quotes"

MAX_ERRORS_SHOWN = 8
"""Findings shown to the model; the first ones usually cause the rest."""

MAX_ECHO_CHARS = 6_000
"""How much of its own answer the model sees again; a small window must hold it beside the question."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A valid answer. `repaired`: the text had to be mended first."""

    data: JsonObject
    repaired: bool


@dataclass(frozen=True, slots=True)
class Unusable:
    """No valid answer, and why, in words the model (and a person) can act on. Holds keys, never values.

    `wanted` ends the sentence "Answer the same question again, …".
    """

    errors: tuple[str, ...]
    wanted: str = "with one complete JSON object of the described shape and nothing else"


class NotValid(Exception):
    """The text is JSON, and breaks the shape's rules. `errors` name places and rules, never values."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        super().__init__(*errors)
        self.errors = errors


Validate = Callable[[str], "JsonObject"]
"""Reads JSON text into data that satisfies a shape; raises NotValid."""


def read_json(text: str, validate: Validate) -> Parsed | Unusable:
    """Read an answer by rungs 2 and 3.

    Args:
        text: the whole answer, finished normally.
        validate: the shape it must satisfy.

    Returns:
        The data, or what is wrong: of the text as it is if that was JSON, else of the mended text.
    """
    try:
        return Parsed(_validated(text, validate), repaired=False)
    except _NotJson:
        return _read_mended(text, validate)
    except NotValid as error:
        return Unusable(error.errors)


def _read_mended(text: str, validate: Validate) -> Parsed | Unusable:
    try:
        return Parsed(_validated(mended(text), validate), repaired=True)
    except UntidyJson as error:
        return Unusable((str(error),))
    except NotValid as error:
        return Unusable(error.errors)


def mended(text: str) -> str:
    """Return the one JSON object in `text` as proper JSON, without adding, dropping or changing a value.

    Raises:
        UntidyJson: there is none, there are several, it is not closed, or it cannot be mended faithfully.
    """
    if len(text) > MAX_REPAIR_CHARS:
        raise UntidyJson("the answer is not JSON, and too long to mend")
    candidate = object_text(text)
    expected = tokens_of_text(candidate)
    # json_repair parses whatever comes and has failed in many ways; any failure means "not mended".
    try:
        value = json_repair.loads(candidate)
        proper = json.dumps(value, allow_nan=False)
    except Exception as error:
        raise UntidyJson(BROKEN) from error
    if tokens_of_value(value) != expected:
        raise UntidyJson(BROKEN)
    return proper


def reask_messages(asked: tuple[Message, ...], answer: str, problem: Unusable) -> tuple[Message, ...]:
    """Return the conversation of the one re-ask: the question, the model's answer, what is wrong with it."""
    found = "\n".join(f"- {error}" for error in problem.errors)
    wish = f"That answer cannot be used:\n{found}\nAnswer the same question again, {problem.wanted}."
    return (*asked, Message("assistant", answer[:MAX_ECHO_CHARS]), Message("user", wish))


class _NotJson(NotValid):
    """The text is not JSON."""


def _validated(text: str, validate: Validate) -> JsonObject:
    """Read JSON strictly: no doubled keys, no number beyond a float's range, no NUL, and the shape's rules.

    Raises:
        _NotJson: it is not JSON.
        NotValid: it is, but not an acceptable answer.
    """
    try:
        plain = json.loads(text, object_pairs_hook=_single_keys, parse_constant=_no_constant, parse_float=_finite_float)
    except (ValueError, RecursionError) as error:
        raise _NotJson(("the answer is not JSON",)) from error
    # A text has few brackets as a rule: then there is nothing to walk through.
    if text.count("{") + text.count("[") > MAX_DEPTH and _deeper_than(plain, MAX_DEPTH):
        raise NotValid((f"the answer is nested deeper than {MAX_DEPTH} levels",))
    data = validate(text)
    # Postgres's jsonb cannot hold NUL. "u0000" in the text is rare, so the walk is too.
    if "u0000" in text and _holds_nul(data):
        raise NotValid(("a text holds a NUL character (\\u0000); leave it out",))
    return data


def _single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = {key for key, _ in pairs}
    if len(keys) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is beyond a float's range")
    return number


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [child for node in layer for child in _children(node)]
    return any(isinstance(node, (dict, list)) for node in layer)


def first_few(errors: list[str]) -> tuple[str, ...]:
    """Return the first `MAX_ERRORS_SHOWN` findings, and how many more there are."""
    more = len(errors) - MAX_ERRORS_SHOWN
    return (*errors[:MAX_ERRORS_SHOWN], *((f"and {more} more",) if more > 0 else ()))


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    return any(_holds_nul(child) for child in _children(value))


def _children(value: object) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
