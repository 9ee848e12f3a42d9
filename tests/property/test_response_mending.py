"""Whatever a model writes: mending ends, and never adds, drops or changes a value."""

from __future__ import annotations

import json
import re
from contextlib import suppress

from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.analyses.base import Result
from gateway.analyses.shapes import ResultShape
from gateway.json_tokens import UntidyJson, tokens_of_text, tokens_of_value
from gateway.response import Parsed, Unusable, mended


class Anything(Result):
    a: str
    b: int


# No lone surrogates: no provider can send one. Numbers stay where int and float survive a round trip.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LEAVES = (
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=5)
# Pieces of JSON in any order, most of it broken; no escapes, so that characters can be counted.
PIECES = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    '"',
    "'",
    " ",
    "a",
    "b",
    '"a"',
    '"a":',
    "'b'",
    "0",
    "1",
    "-1",
    "true",
    "null",
    "tru",
]
JSONISH = st.builds(lambda pieces: "{" + "".join(pieces) + "}", st.lists(st.sampled_from(PIECES), max_size=12))


@given(OBJECTS)
def test_the_tokens_of_a_value_are_those_of_its_text(value):
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert tokens_of_text(text) == tokens_of_value(value)


@given(OBJECTS, st.sampled_from(["{}", "```json\n{}\n```", "Sure!\n{}\nBye."]))
def test_a_proper_object_is_kept_through_mending_or_refused(value, around):
    """Mending may refuse what it does not understand, but what it gives back is the value."""
    with suppress(UntidyJson):
        assert json.loads(mended(around.replace("{}", json.dumps(value), 1))) == value


@given(OBJECTS)
def test_a_trailing_comma_never_changes_a_value(value):
    assume(value)
    with suppress(UntidyJson):
        assert json.loads(mended(json.dumps(value)[:-1] + ",}")) == value


@given(OBJECTS, st.data())
def test_a_cut_answer_is_never_mended(value, data):
    text = json.dumps(value)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    try:
        kept = mended(cut)
    except UntidyJson:
        return
    raise AssertionError(f"{cut!r} was cut and became {kept!r}")


@given(JSONISH)
@example('{"a": tru}')
@example('{"a": 1}{"b": 2}')
@example('{"a":1,"a":2}')
@example("{'a': \"b'}")
@example('{"a": , "b"}')
@example('{"a": "b", ...}')
def test_letters_and_digits_of_a_mended_text_are_those_of_the_text(text):
    """Seen from outside the tokens: no character that means something is added, lost or doubled."""
    # Only an exponent is written otherwise than it was read.
    assume(not re.search(r"[0-9]e-?[0-9]", text))
    try:
        value = mended(text)
    except UntidyJson:
        return
    inner = text[text.index("{") : text.rindex("}") + 1]
    assert sorted(re.findall(r"\w", value)) == sorted(re.findall(r"\w", inner))


@given(st.text(max_size=200) | JSONISH)
def test_reading_always_ends_in_data_or_in_words(text):
    found = ResultShape(Anything, {}, {}).read(text)
    if isinstance(found, Parsed):
        assert Anything.model_validate_json(json.dumps(found.data))
    else:
        assert isinstance(found, Unusable)
        assert found.errors


@given(TEXT, st.integers())
def test_a_valid_answer_is_never_called_repaired(a, b):
    assume("\x00" not in a)
    assert ResultShape(Anything, {}, {}).read(json.dumps({"a": a, "b": b})) == Parsed({"a": a, "b": b}, repaired=False)
