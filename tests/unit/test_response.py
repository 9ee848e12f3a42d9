"""The repair ladder: what is mended, and above all what is not."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from pydantic import Field

from gateway.analyses.base import Result
from gateway.analyses.shapes import ResultShape
from gateway.json_tokens import UntidyJson
from gateway.messages import Message
from gateway.response import (
    MAX_ECHO_CHARS,
    MAX_ERRORS_SHOWN,
    MAX_REPAIR_CHARS,
    Parsed,
    Unusable,
    mended,
    reask_messages,
)


class Answer(Result):
    name: str
    score: Annotated[int, Field(ge=1, le=10)]
    tags: list[str]


GOOD: dict[str, Any] = {"name": "café", "score": 7, "tags": ["a", "b"]}


def read(text: str) -> Parsed | Unusable:
    return ResultShape(Answer, {}, {}).read(text)


def test_a_proper_answer_is_read_as_it_is():
    assert read(json.dumps(GOOD)) == Parsed(GOOD, repaired=False)


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"name": "café", "score": 7, "tags": ["a", "b"]}\n```',
        'Here you are:\n{"name": "café", "score": 7, "tags": ["a", "b"]}\nI hope it helps!',
        '{"name": "café", "score": 7, "tags": ["a", "b"],}',
        '{"name": "café", "score": 7, "tags": ["a", "b",]}',
        "{'name': 'café', 'score': 7, 'tags': ['a', 'b']}",
        '{name: "café", score: 7, tags: ["a", "b"]}',
        '{"name": "café" "score": 7 "tags": ["a" "b"]}',
        '{"name": "caf\\u00e9", "score": 7, "tags": ["a", "b"],}',
    ],
)
def test_what_is_mended_says_so(text):
    assert read(text) == Parsed(GOOD, repaired=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": None, "b": True, "c": False,}', {"a": None, "b": True, "c": False}),
        (r'{"a": "\d+ and \"x\"",}', {"a": r'\d+ and "x"'}),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
        (r'{"a": "\ud83d\ude00",}', {"a": "😀"}),
        ('{"a": -0.5, "b": 1E5, "c": 10,}', {"a": -0.5, "b": 1e5, "c": 10}),
        ('{"a": "{[,:]}", "b": {"c": []},}', {"a": "{[,:]}", "b": {"c": []}}),
        ("{'a': 'it\\'s', 'b': 'say \"x\"'}", {"a": "it's", "b": 'say "x"'}),
    ],
)
def test_mending_keeps_every_value(text, value):
    assert json.loads(mended(text)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": tru}', "words outside quotes"),  # json_repair: {"a": "tru"}
        ("I cannot judge this.", "no JSON object"),  # json_repair: ""
        ('{"a": 1} {"a": 2}', "more than one"),  # json_repair: the last
        ('{"a": 1,} or [1]', "more than one"),
        ('[{"a": 1},]', "more than one"),
        ('{"a": 1, "a": 2,}', "doubled keys"),  # json_repair: the last
        ('{"a": "cut o', "cut off"),  # json_repair closes it
        ('{"a": [1, 2', "cut off"),
        ('{"a": {"b": 1}', "cut off"),
        ('{"a": [1, 2}', "brackets"),
        ('{"a": 1, "b": }', "broken"),  # json_repair: "b": ""
        ('{"a": , "b"}', "broken"),
        ('{"a": "b", "c"}', "broken"),
        ('{"a" "b"}', "broken"),  # a colon says which is the key: it is not guessed
        ('{"a": 1,, "b": 2}', "broken"),  # json_repair: "a": "1,"
        ('{"a": [1,,2]}', "broken"),
        ('{"a": ...}', "broken"),
        ('{"a": [1, ...],}', "broken"),
        ('{"a": NaN}', "broken"),
        ('{"a": 1e999,}', "broken"),
        ('{"a": 01}', "broken"),
        ('{"a": +1}', "broken"),
        ('{"a": 1 /* sure? */}', "broken"),
        ('{"a": "he said "no" to me"}', "broken"),
        ("{“a”: “b”}", "broken"),
        ('{"a": ' + "9" * 5_000 + ",}", "broken"),
        ("{" * 100, "deeper"),
        ('{"a": "' + "x" * MAX_REPAIR_CHARS + '",}', "too long"),
        ("", "no JSON object"),
    ],
)
def test_nothing_is_made_up_dropped_or_chosen(text, why):
    with pytest.raises(UntidyJson, match=why):
        mended(text)


@pytest.mark.parametrize(
    ("change", "place"),
    [({"score": 11}, "score"), ({"score": "7"}, "score"), ({"more": 1}, "more"), ({"tags": [1]}, r"tags.0")],
)
def test_json_that_breaks_the_rules_is_not_mended_but_explained(change, place):
    found = read(json.dumps(GOOD | change))
    assert isinstance(found, Unusable)
    assert found.errors[0].startswith(f"{place}: ")


def test_a_missing_field_is_explained_after_mending_too():
    found = read("{'name': 'x', 'score': 1}")
    assert found == Unusable(("tags: Field required",))


def test_the_words_hold_no_values_and_are_bounded():
    found = read(json.dumps({f"secret{number}": "hush" for number in range(30)}))
    assert isinstance(found, Unusable)
    assert len(found.errors) == MAX_ERRORS_SHOWN + 1
    assert found.errors[-1].startswith("and ")
    assert "hush" not in " ".join(found.errors)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "x", "score": 1, "score": 2, "tags": []}',
        '{"name": "x", "score": NaN, "tags": []}',
        '{"name": "a\\u0000b", "score": 1, "tags": []}',
        '{"name": "x", "score": 1, "tags": ["\\ud800"]}',
        "[" * 50_000,
        '"just a string"',
        "null",
        "7",
    ],
)
def test_what_parsers_let_pass_or_choke_on_is_unusable(text):
    assert isinstance(read(text), Unusable)


def test_an_escaped_backslash_before_u0000_is_no_nul():
    assert read('{"name": "\\\\u0000", "score": 1, "tags": []}') == Parsed(
        {"name": "\\u0000", "score": 1, "tags": []}, repaired=False
    )


def test_the_reask_shows_question_answer_and_what_is_wrong():
    asked = (Message("system", "s"), Message("user", "u"))
    messages = reask_messages(asked, "x" * (MAX_ECHO_CHARS + 1), Unusable(("score: too large", "tags: missing")))
    assert messages[:2] == asked
    assert messages[2] == Message("assistant", "x" * MAX_ECHO_CHARS)
    assert "- score: too large\n- tags: missing" in messages[3].content
