"""The body template and the pointers of a described endpoint: types kept, nothing lost, nothing read twice."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.messages import CompletionRequest, Message
from gateway.providers.rest.pointer import MOST_POINTER_CHARS, Pointer
from gateway.providers.rest.template import MOST_LEVELS, PLACEHOLDERS, UNSET, Text, parse, values

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}
TALK = (Message("system", "Be short."), Message("user", "Say hello."))
REASK = (*TALK, Message("assistant", "helo"), Message("user", "That is no word."))


def rendered(tree, **changes):
    settings = {"model": "m-1", "messages": TALK, "max_tokens": 100} | changes
    node = parse(tree)
    return node.render(values(CompletionRequest(**settings), node.names))


# Values and their types


@pytest.mark.parametrize(
    ("leaf", "value"),
    [
        ("{model}", "m-1"),
        ("{max_tokens}", 100),
        ("{temperature}", 0.25),
        ("{schema}", SCHEMA),
        ("{schema_name}", "skills"),
        ("{system}", "Be short."),
        ("{messages}", [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Say hello."}]),
        ("{prompt}", "System:\nBe short.\n\nUser:\nSay hello."),
        ("at most {max_tokens} tokens", "at most 100 tokens"),
        ("{model}@{temperature}", "m-1@0.25"),
        ("answer by {schema}", f"answer by {json.dumps(SCHEMA)}"),
        ("{{model}}", "{model}"),
        ("{{{model}}}", "{m-1}"),
        ("", ""),
        (7, 7),
        (None, None),
        (False, False),
        ([], []),
        ({}, {}),
    ],
)
def test_a_leaf(leaf, value):
    body = rendered({"leaf": leaf}, temperature=0.25, schema=SCHEMA, schema_name="skills")
    assert body == {"leaf": value}
    assert type(body["leaf"]) is type(value)


def test_placeholders_are_found_at_any_depth():
    tree = {"input": [{"role": "user", "parts": [{"text": "{prompt}"}]}], "config": {"limits": {"out": "{max_tokens}"}}}
    assert parse(tree).names == {"prompt", "max_tokens"}
    body = rendered(tree, messages=(Message("user", "hi"),))
    assert body == {"input": [{"role": "user", "parts": [{"text": "hi"}]}], "config": {"limits": {"out": 100}}}


# What has no value


@pytest.mark.parametrize(
    ("tree", "body"),
    [
        ({"t": "{temperature}", "m": "{max_tokens}"}, {"m": 100}),
        ({"t": "t={temperature}", "m": "{max_tokens}"}, {"m": 100}),
        ({"o": {"t": "{temperature}", "m": "{max_tokens}"}}, {"o": {"m": 100}}),
        (
            {
                "m": "{model}",
                "f": {"type": "json_schema", "json_schema": {"name": "{schema_name}", "schema": "{schema}"}},
            },
            {"m": "m-1"},
        ),
        ({"m": "{model}", "f": [{"s": "{schema}"}, "fixed"]}, {"m": "m-1"}),
        ({"l": ["{temperature}", "{model}", None]}, {"l": ["m-1", None]}),
        ({"m": "{model}", "kept": {"a": None, "b": {}}}, {"m": "m-1", "kept": {"a": None, "b": {}}}),
    ],
)
def test_what_the_request_does_not_have_is_left_out(tree, body):
    assert rendered(tree) == body


def test_a_zero_is_a_value():
    assert rendered({"t": "{temperature}", "m": "{model}"}, temperature=0.0) == {"t": 0.0, "m": "m-1"}


def test_without_any_value_the_whole_is_unset():
    assert rendered({"t": "{temperature}"}) is UNSET


# Nothing said to the model is lost


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (
            {"p": "{prompt}"},
            {"p": "System:\nBe short.\n\nUser:\nSay hello.\n\nAssistant:\nhelo\n\nUser:\nThat is no word."},
        ),
        (
            {"s": "{system}", "p": "{prompt}"},
            {"s": "Be short.", "p": "User:\nSay hello.\n\nAssistant:\nhelo\n\nUser:\nThat is no word."},
        ),
        ({"m": "{messages}"}, {"m": [{"role": m.role, "content": m.content} for m in REASK]}),
        (
            {"s": "{system}", "m": "{messages}"},
            {"s": "Be short.", "m": [{"role": m.role, "content": m.content} for m in REASK[1:]]},
        ),
    ],
)
def test_the_system_message_stands_once(tree, said):
    assert rendered(tree, messages=REASK) == said


def test_one_message_alone_is_the_prompt_as_it_is():
    assert rendered({"s": "{system}", "p": "{prompt}"}) == {"s": "Be short.", "p": "Say hello."}


def test_several_system_messages_are_one_text():
    messages = (Message("system", "A."), Message("system", "B."), Message("user", "C."))
    assert rendered({"s": "{system}", "p": "{prompt}"}, messages=messages) == {"s": "A.\n\nB.", "p": "C."}


@given(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=40)), min_size=1, max_size=5)
)
def test_whatever_is_asked_arrives_as_it_is(turns):
    """Braces, quotes and placeholders within a question are its text, in every form of body."""
    messages = tuple(Message(role, text) for role, text in turns)
    for tree in ({"p": "{prompt}"}, {"m": "{messages}"}, {"s": "{system}", "m": "{messages}"}, {"p": "Q: {prompt}"}):
        body = rendered(tree, messages=messages)
        sent = json.loads(json.dumps(body))
        for _, text in turns:
            assert (
                text in str(sent.get("p", ""))
                or any(text == m["content"] for m in sent.get("m", []))
                or text in sent["s"]
            )


@given(st.text(max_size=60))
def test_a_text_is_read_or_refused_and_never_breaks(text):
    try:
        node = Text.parse(text, PLACEHOLDERS)
    except ValueError:
        assert "{" in text or "}" in text
        return
    assert node.names <= PLACEHOLDERS


# What is refused


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ({"p": "{promt}"}, "at /p: unknown placeholder"),
        ({"a": [{"b": "{prompt} {x}"}]}, "at /a/0/b: unknown placeholder"),
        ({"p": "{}"}, "at /p: unknown placeholder"),
        ({"p": "{0}"}, "at /p: unknown placeholder"),
        ({"p": "{prompt.__class__}"}, "at /p: unknown placeholder"),
        ({"p": "{prompt[0]}"}, "at /p: unknown placeholder"),
        ({"p": "{prompt!r}"}, "at /p: unknown placeholder"),
        ({"p": "{prompt:>10}"}, "at /p: unknown placeholder"),
        ({"p": '{"a": 1}'}, "at /p: unknown placeholder"),
        ({"p": "{prompt"}, "at /p: .* written twice"),
        ({"p": "prompt}"}, "at /p: .* written twice"),
        ({"{model}": 1}, "a key is text without placeholders"),
        ({"a": {1: 2}}, "at /a: a key is text"),
    ],
)
def test_a_template_that_cannot_be_read_is_refused_and_its_place_named(tree, problem):
    with pytest.raises(ValueError, match=problem):
        parse(tree)


def test_nesting_is_bounded():
    def nested(levels):
        return "{model}" if levels == 1 else [nested(levels - 1)]

    parse(nested(MOST_LEVELS))
    with pytest.raises(ValueError, match=f"deeper than {MOST_LEVELS} levels"):
        parse(nested(MOST_LEVELS + 1))


# Pointers

DOCUMENT = {"a": [{"b": "x"}, "y"], "c.d": 1, "": 2, "e/f": 3, "g~h": 4, "0": 5, "null": None, "false": False, "~1": 6}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", DOCUMENT),
        ("/a/0/b", "x"),
        ("/a/1", "y"),
        ("/c.d", 1),
        ("/", 2),
        ("/e~1f", 3),
        ("/g~0h", 4),
        ("/0", 5),
        ("/~01", 6),
        ("/false", False),
        ("/null", None),
        ("/null/x", None),
        ("/a/2", None),
        ("/a/-1", None),
        ("/a/-", None),
        ("/a/00", None),
        ("/a/\u0661", None),
        ("/a/99999999999999999999", None),
        ("/a/1/0", None),
        ("/c.d/x", None),
        ("/missing", None),
    ],
)
def test_a_pointer_finds_its_value_or_nothing(pointer, value):
    found = Pointer.parse(pointer).find(DOCUMENT)
    assert found == value
    assert type(found) is type(value)
    assert str(Pointer.parse(pointer)) == pointer


@pytest.mark.parametrize("text", ["a", "a/b", "choices.0.text", "/a~", "/a~2b", "/" + "x" * MOST_POINTER_CHARS])
def test_what_is_no_pointer_is_refused(text):
    with pytest.raises(ValueError, match="JSON pointer"):
        Pointer.parse(text)


@given(st.text(max_size=30), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_a_pointer_never_breaks_on_a_document(text, document):
    Pointer.parse("/" + text.replace("~", "~0")).find(document)
