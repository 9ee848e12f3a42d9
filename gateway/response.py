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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import json_repair
from pydantic import ValidationError

from gateway.json_tokens import UntidyJson, object_text, tokens_of_text, tokens_of_value
from gateway.messages import Message

if TYPE_CHECKING:
    from pydantic import BaseModel

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
    """No valid answer, and why, in words the model (and a person) can act on. Holds keys, never values."""

    errors: tuple[str, ...]


def read_answer(text: str, model: type[BaseModel]) -> Parsed | Unusable:
    """Read an answer by rungs 2 and 3.

    Args:
        text: the whole answer, finished normally.
        model: the result model it must satisfy.

    Returns:
        The data, or what is wrong: of the text as it is if that was JSON, else of the mended text.
    """
    try:
        return Parsed(_validated(text, model), repaired=False)
    except _NotJson:
        return _read_mended(text, model)
    except _Invalid as error:
        return Unusable(error.errors)


def _read_mended(text: str, model: type[BaseModel]) -> Parsed | Unusable:
    try:
        return Parsed(_validated(mended(text), model), repaired=True)
    except UntidyJson as error:
        return Unusable((str(error),))
    except _Invalid as error:
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
    wish = (
        f"That answer cannot be used:\n{found}\n"
        "Answer the same question again. Give one complete JSON object of the described shape, and nothing else."
    )
    return (*asked, Message("assistant", answer[:MAX_ECHO_CHARS]), Message("user", wish))


class _Invalid(Exception):
    """The text is JSON, and breaks the model's rules."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        super().__init__(*errors)
        self.errors = errors


class _NotJson(_Invalid):
    """The text is not JSON."""


def _validated(text: str, model: type[BaseModel]) -> JsonObject:
    """Read JSON strictly: no doubled keys, no NaN, no NUL characters, and the model's rules.

    Raises:
        _NotJson: it is not JSON.
        _Invalid: it is, but not an acceptable answer.
    """
    try:
        json.loads(text, object_pairs_hook=_single_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _NotJson(("the answer is not JSON",)) from error
    try:
        data = model.model_validate_json(text).model_dump(mode="json")
    except ValidationError as error:
        raise _Invalid(_in_words(error)) from error
    # Postgres's jsonb cannot hold NUL. "u0000" in the text is rare, so the walk is too.
    if "u0000" in text and _holds_nul(data):
        raise _Invalid(("a text holds a NUL character (\\u0000); leave it out",))
    return data


def _single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = {key for key, _ in pairs}
    if len(keys) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _in_words(error: ValidationError) -> tuple[str, ...]:
    """Name each finding's place and rule; the value stays out, it may be personal."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    words = [f"{'.'.join(map(str, item['loc'])) or 'the answer'}: {item['msg']}" for item in found]
    more = len(words) - MAX_ERRORS_SHOWN
    return (*words[:MAX_ERRORS_SHOWN], *((f"and {more} more",) if more > 0 else ()))


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_holds_nul(child) for child in children)
