"""The tokens of a JSON-like text and of a JSON value, to see whether one is the other.

Brackets, colons, strings, numbers and literals are tokens; single commas, white space and the style
of quotes are not. Knows characters only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 32
"""Deepest nesting that is taken for an answer; result schemas have five levels."""

MAX_NUMBER_CHARS = 40
"""Longest number that is taken for one: Python refuses to convert thousands of digits."""


class UntidyJson(ValueError):
    """A text is no JSON object that could be mended. The message says why, without content."""


class Kind(StrEnum):
    """What a token is. A `word` is text outside quotes that is no literal: no JSON value has one."""

    MARK = "mark"
    STRING = "string"
    NUMBER = "number"
    LITERAL = "literal"
    WORD = "word"


@dataclass(frozen=True, slots=True)
class Token:
    """One token with its meaning: a string unescaped, a number as Python writes it, a literal as JSON spells it."""

    kind: Kind
    value: str


COLON = Token(Kind.MARK, ":")

_TOKEN = re.compile(
    r"""
      (?P<mark>[{}\[\]:])
    | "(?P<double>(?:[^"\\]|\\.)*)"
    | '(?P<single>(?:[^'\\]|\\.)*)'
    | (?P<number>-?(?:0|[1-9]\d*)(?P<fraction>(?:\.\d+)?(?:[eE][+-]?\d+)?))(?=[\s,\]}])
    | (?P<bare_key>[A-Za-z_$][\w$]*)(?=\s*:)
    | (?P<word>,\s*,|[^\s,:{}\[\]"']+)
    | (?P<skip>[\s,])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/"}
_LITERALS = {"true": "true", "false": "false", "null": "null", "True": "true", "False": "false", "None": "null"}
_OPENING = {"}": "{", "]": "["}


def object_text(text: str) -> str:
    """Return the only JSON object's text in an answer, from its first brace to the one that closes it.

    Raises:
        UntidyJson: there is none, it is not closed (the answer was cut), or there are brackets
            outside it: a second object, or a list of which it is a part.
    """
    start = text.find("{")
    if start < 0:
        raise UntidyJson("the answer holds no JSON object")
    end = _closing_place(text, start)
    if re.search(r"[{}\[\]]", text[:start] + text[end:]):
        raise UntidyJson("the answer holds more than one JSON value; which one is meant is not clear")
    return text[start:end]


def tokens_of_text(text: str) -> list[Token]:
    """Return the tokens of a JSON-like text.

    Raises:
        UntidyJson: a string is not closed.
    """
    return [token for token, _ in _scan(text, 0)]


def tokens_of_value(value: object) -> list[Token]:
    """Return the tokens of a JSON value, as `tokens_of_text` finds them in its text."""
    return list(_flat(value))


def _closing_place(text: str, start: int) -> int:
    """Return the place after the bracket that closes the object at `start`."""
    opened: list[str] = []
    for token, end in _scan(text, start):
        if token.kind is not Kind.MARK or token == COLON:
            continue
        if token.value not in _OPENING:
            opened.append(token.value)
        elif opened.pop() != _OPENING[token.value]:
            raise UntidyJson("the JSON object's brackets do not match")
        if len(opened) > MAX_DEPTH:
            raise UntidyJson(f"the JSON object is nested deeper than {MAX_DEPTH} levels")
        if not opened:
            return end
    raise UntidyJson("the JSON object is not closed: the answer is cut off")


def _scan(text: str, start: int) -> Iterator[tuple[Token, int]]:
    """Yield each token from `start` on, with the place after it."""
    place = start
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            # Only a quote that nothing closes matches none of the alternatives.
            raise UntidyJson("a string is not closed: the answer is cut off, or a quote in it is not escaped")
        place = match.end()
        if match.lastgroup != "skip":
            yield _token(match), place


def _token(match: re.Match[str]) -> Token:
    # `fraction` closes before `number` does, so `lastgroup` is always the outer group.
    text = match[0]
    match match.lastgroup:
        case "mark":
            return Token(Kind.MARK, text)
        case "double" | "single":
            return Token(Kind.STRING, _joined(_unescaped(text[1:-1])))
        case "bare_key":
            return Token(Kind.STRING, text)
        case "number" if len(text) <= MAX_NUMBER_CHARS:
            return Token(Kind.NUMBER, repr(float(text)) if match["fraction"] else str(int(text)))
        case _:
            return Token(Kind.LITERAL, _LITERALS[text]) if text in _LITERALS else Token(Kind.WORD, text)


def _unescaped(text: str) -> str:
    """Resolve a string's escapes. An unknown one keeps its backslash, as `json_repair` has it."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(_escape, text)


def _joined(text: str) -> str:
    r"""Join surrogate pairs: two \u escapes may stand for one character, and parsers differ on joining them."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _escape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPES.get(code, match[0])


def _flat(value: object) -> Iterator[Token]:
    if isinstance(value, dict):
        yield Token(Kind.MARK, "{")
        for key, child in value.items():
            yield from (_leaf(str(key)), COLON)
            yield from _flat(child)
        yield Token(Kind.MARK, "}")
    elif isinstance(value, list):
        yield Token(Kind.MARK, "[")
        for child in value:
            yield from _flat(child)
        yield Token(Kind.MARK, "]")
    else:
        yield _leaf(value)


def _leaf(value: object) -> Token:
    if isinstance(value, str):
        return Token(Kind.STRING, _joined(value))
    if value is None or isinstance(value, bool):
        return Token(Kind.LITERAL, json.dumps(value))
    return Token(Kind.NUMBER, repr(value))
