"""`completion`: the caller's own question, in the form the caller wants."""

from __future__ import annotations

import json

import pytest

from gateway.analyses.base import Ask
from gateway.analyses.registry import load_analyses
from gateway.analyses.shapes import OutputFormat, SchemaShape, TextShape
from gateway.analyses.text.completion import ANALYSIS
from gateway.calls.hop import Hop, Seat
from gateway.catalog import load_catalog
from gateway.errors import RequestError
from gateway.limits.group import LimitGroup
from gateway.messages import Message, ModelRef
from gateway.providers.base import ProviderConfig
from gateway.providers.registry import create
from gateway.question import Wishes, write_question
from gateway.response import Parsed, Unusable

CLOSED = {
    "type": "object",
    "additionalProperties": False,
    "required": ["town"],
    "properties": {"town": {"type": "string"}, "people": {"type": "integer", "minimum": 0}},
}
STRICT = {**CLOSED, "required": ["town", "people"]}
NESTED = {
    "type": "object",
    "$defs": {"d12": {}, **{f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(12)}},
    "properties": {"a": {"$ref": "#/$defs/d0"}},
}


def nots(levels):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


CHAIN = {"c40": {}, **{f"c{n}": {"items": {"items": {"$ref": f"#/$defs/c{n + 1}"}}} for n in range(40)}}


def asked(content="Where?", **fields):
    catalog = load_catalog(None, {"ASSAYLINE_FAKE": "1"})
    ref = ModelRef("fake", "scripted")
    hop = Hop(
        ref,
        catalog.model(ref),
        (Seat(LimitGroup(ref.provider, "default", "default"), create(ProviderConfig("fake", "fake"))),),
        120,
    )
    return write_question(load_analyses(offered=[]).get("completion"), Ask(content, **fields), hop, Wishes())


def test_a_bare_prompt_is_sent_as_it_is_and_unfenced():
    question = asked("Write {{ a haiku }}.")
    assert question.request.messages == (Message("user", "Write {{ a haiku }}."),)
    assert question.request.schema is None


def test_the_content_is_the_last_turn_after_the_callers_own():
    turns = (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello"))
    assert asked("And now?", messages=turns).request.messages == (*turns, Message("user", "And now?"))


def test_messages_alone_are_a_question():
    turns = (Message("user", "Hi"),)
    assert asked("", messages=turns).request.messages == turns


def test_messages_that_end_with_the_assistant_need_a_content():
    with pytest.raises(RequestError, match="the last of the messages is the user's"):
        asked("", messages=(Message("user", "Hi"), Message("assistant", "Hello")))


def test_a_schema_within_the_common_subset_is_sent_and_described():
    request = asked(schema=STRICT).request
    assert request.schema == {
        "type": "object",
        "additionalProperties": False,
        "required": ["town", "people"],
        "properties": {"town": {"type": "string"}, "people": {"type": "integer"}},
    }
    assert json.dumps(STRICT) in request.messages[0].content


def test_a_schema_beyond_the_common_subset_is_only_described():
    request = asked(schema=CLOSED).request
    assert request.schema is None
    assert json.dumps(CLOSED) in request.messages[0].content


def test_the_answer_is_held_to_the_whole_schema():
    shape = SchemaShape.of(CLOSED)
    assert shape.read('{"town": "Ulm"}') == Parsed({"town": "Ulm"}, repaired=False)
    assert shape.read('{"town": "Ulm", "people": -1}') == Unusable(("$.people: breaks minimum",))
    assert shape.read('{"town": 7, "x": 1}') == Unusable(("$: breaks additionalProperties", "$.town: breaks type"))
    assert shape.read('```json\n{"town": "Ulm",}\n```') == Parsed({"town": "Ulm"}, repaired=True)


def test_references_are_written_out_and_a_field_may_be_called_pattern():
    town = {
        "type": "object",
        "additionalProperties": False,
        "required": ["pattern"],
        "properties": {"pattern": {"type": "string"}},
    }
    schema = {
        **STRICT,
        "$defs": {"Town": town},
        "properties": {**STRICT["properties"], "town": {"$ref": "#/$defs/Town"}},
    }
    shape = SchemaShape.of(schema)
    assert shape.schema is not None
    assert shape.schema["properties"]["town"] == town
    assert shape.read('{"town": {"pattern": "grid"}, "people": 1}') == Parsed(
        {"town": {"pattern": "grid"}, "people": 1}, repaired=False
    )
    assert isinstance(shape.read('{"town": "Ulm", "people": 1}'), Unusable)


@pytest.mark.parametrize("part", [True, False, {"type": ["string", "null"]}, {"anyOf": [True, {"type": "null"}]}, {}])
def test_a_part_that_names_no_single_type_is_only_described_and_checked(part):
    shape = SchemaShape.of({**STRICT, "properties": {**STRICT["properties"], "town": part}})
    assert shape.schema is None
    fits = isinstance(shape.read('{"town": "Ulm", "people": 1}'), Parsed)
    assert fits is (part is not False)


def test_what_stands_beside_a_reference_holds_with_it():
    named = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    beside = {"$ref": "#/$defs/Named", "required": ["age"], "properties": {"age": {"type": "integer"}}}
    shape = SchemaShape.of({"type": "object", "$defs": {"Named": named}, "properties": {"who": beside}})
    assert isinstance(shape.read('{"who": {"name": "Ann", "age": 7}}'), Parsed)
    assert shape.read('{"who": {"age": 7}}') == Unusable(("$.who: breaks required",))
    assert shape.read('{"who": {"name": 7, "age": 7}}') == Unusable(("$.who.name: breaks type",))


def listed(**items):
    return SchemaShape.of({"type": "object", "properties": {"a": {"type": "array", **items}}})


@pytest.mark.timeout(5)
def test_many_items_are_told_apart_in_no_time():
    """Comparing every two of them took 14 s, with every other job of the worker waiting."""
    shape = listed(uniqueItems=True)
    many = [{"n": number} for number in range(5_000)]
    assert isinstance(shape.read(json.dumps({"a": many})), Parsed)
    assert shape.read(json.dumps({"a": [*many, {"n": 7}]})) == Unusable(("$.a: breaks uniqueItems",))


@pytest.mark.timeout(30)  # a second where nothing else runs; unbounded it would be minutes
@pytest.mark.parametrize("items", [{"anyOf": [{"const": n} for n in range(600)]}, {"enum": list(range(3_000))}])
def test_an_answer_that_takes_too_long_to_check_is_none(items):
    too_much = Unusable(("there is too much in it to be checked against the schema",))
    assert listed(items=items).read(json.dumps({"a": [599] * 20_000})) == too_much
    assert isinstance(listed(items=items).read(json.dumps({"a": [599] * 30})), Parsed)


@pytest.mark.parametrize(
    ("items", "unique"),
    [("[1, true]", True), ("[1, 1.0]", False), ("[[], {}]", True), ('[{"a": [1]}, {"a": [1]}]', False)],
)
def test_items_are_equal_as_json_has_it(items, unique):
    assert isinstance(listed(uniqueItems=True).read(f'{{"a": {items}}}'), Parsed) is unique


@pytest.mark.parametrize(
    ("number", "fits"), [("0.3", True), ("0.35", False), ("9" * 400, True), ("1e308", True), ("true", True)]
)
def test_multiples_are_reckoned_in_decimals(number, fits):
    shape = listed(items={"multipleOf": 0.1})
    assert isinstance(shape.read(f'{{"a": [{number}]}}'), Parsed) is fits


@pytest.mark.parametrize("value", ["1e999", "-1e999", "[" * 40 + "]" * 40, "[" * 900 + "]" * 900])
def test_what_no_store_could_hold_is_no_answer(value):
    """Numbers beyond a float's range, and nesting that whoever writes it down would break on."""
    for shape in (TextShape(OutputFormat.JSON), SchemaShape.of({"type": "object"})):
        assert isinstance(shape.read(f'{{"a": {value}}}'), Unusable)
        assert isinstance(shape.read('{"a": ' + "[" * 31 + "]" * 31 + "}"), Parsed)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "objekt"}, r"schema: \$\.type: 'objekt' is not valid"),
        ({"type": "string"}, "describes an object"),
        ({}, "describes an object"),
        ({"type": "object", "description": "x" * 20_000}, "longer than 20000"),
        (
            {"type": "object", "properties": {"a": {"pattern": "(a+)+$"}}},
            r"\$\.properties\.a: pattern is not supported",
        ),
        ({"type": "object", "properties": {"properties": {"pattern": "a+"}}}, "pattern is not supported"),
        ({"type": "object", "properties": {"a": {"$ref": "https://example.org/x"}}}, "names no entry of"),
        (NESTED, "more than 2000 values"),
        ({"type": "object", "properties": {"a": nots(70)}}, "deeper than 64 levels"),
        ({"type": "object", "properties": {"a": nots(2_000)}}, "deeper than 64 levels"),
        ({"type": "object", "$defs": CHAIN, "properties": {"a": {"$ref": "#/$defs/c0"}}}, "deeper than 64 levels"),
        ({"type": "object", "unevaluatedProperties": True}, "unevaluatedProperties is not supported"),
        (
            {"type": "object", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "items": {"$ref": "#/$defs/a"}},
            "itself",
        ),
    ],
)
def test_an_unusable_schema_is_the_callers_fault(schema, says):
    with pytest.raises(RequestError, match=says):
        ANALYSIS.shape_for(Ask("x", schema=schema))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"output_format": "yaml"}, "one of text, markdown, code, json, not 'yaml'"),
        ({"output_format": "code", "schema": STRICT}, "a schema means json, not code"),
        ({"context": {"schema": STRICT}}, "context: schema is a field of its own"),
        ({"context": {"output_format": "code"}}, "context: output_format is a field of its own"),
    ],
)
def test_an_unusable_format_is_the_callers_fault(fields, says):
    with pytest.raises(RequestError, match=says):
        ANALYSIS.shape_for(Ask("x", **fields))


@pytest.mark.parametrize(
    "field", [{"messages": (Message("user", "hi"),)}, {"schema": STRICT}, {"output_format": "json"}]
)
def test_a_fixed_analysis_takes_no_words_but_its_own(field):
    [name] = field
    entry = load_analyses(offered=[]).get("skill_extraction")
    with pytest.raises(RequestError, match=f"asks in its own words: it takes no {name}"):
        write_question(entry, Ask("x", **field), asked().hop, Wishes())


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (
            "Here you are:\n```python\nx = 1\n```\nDone.",
            Parsed({"code": "x = 1\n", "language": "python"}, repaired=False),
        ),
        ("```\nx\n```", Parsed({"code": "x\n", "language": None}, repaired=False)),
        ("~~~c++\nint x;\n~~~", Parsed({"code": "int x;\n", "language": "c++"}, repaired=False)),
        ("x = 1\n", Parsed({"code": "x = 1", "language": None}, repaired=False)),
        ("````md\n```py\nx\n```\n````", Parsed({"code": "```py\nx\n```\n", "language": "md"}, repaired=False)),
        (
            "```a\n1\n```\n```b\n2\n```",
            Unusable(("there are 2 code blocks; one is wanted",), "as one fenced code block"),
        ),
        ("```python\nx = 1\n``` and more\n```", Parsed({"code": "x = 1\n``` and more\n", "language": "python"}, False)),
        (
            '```python\n"""\n```\nfold(1)\n"""\n```',
            Unusable(("the code block is not closed",), "as one fenced code block"),
        ),
        ("```python\nx = 1", Unusable(("the code block is not closed",), "as one fenced code block")),
        ("  \n", Unusable(("the answer is empty",), "as code")),
    ],
)
def test_code_is_one_block_without_its_fence(text, read):
    assert TextShape(OutputFormat.CODE).read(text) == read


def test_text_and_markdown_are_kept_as_written():
    assert TextShape(OutputFormat.TEXT).read(" hi ") == Parsed({"text": "hi"}, repaired=False)
    assert TextShape(OutputFormat.MARKDOWN).read("# Hi\n") == Parsed({"markdown": "# Hi"}, repaired=False)


def test_json_without_a_schema_is_any_object():
    shape = TextShape(OutputFormat.JSON)
    assert shape.read('{"a": [1]}') == Parsed({"a": [1]}, repaired=False)
    assert isinstance(shape.read("[1]"), Unusable)
