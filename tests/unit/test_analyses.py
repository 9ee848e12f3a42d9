"""Analyses: result models, the schemas that are sent, registration."""

from __future__ import annotations

import json
from dataclasses import replace
from enum import IntEnum
from importlib.metadata import EntryPoint
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from gateway.analyses.base import Analysis, Ask, Result, ResultShape
from gateway.analyses.code.skill_extraction import ANALYSIS as SKILLS
from gateway.analyses.code.skill_extraction import SkillExtraction
from gateway.analyses.registry import SHIPPED, load_analyses, register
from gateway.analyses.schema_lint import bounded_schema, common_schema
from gateway.analyses.text.text_classification import shape_for
from gateway.errors import ConfigurationError, PromptError, UnknownAnalysis

SKILLS_ANSWER: dict[str, Any] = {
    "language": "Python",
    "skills": [{"evidence": "async with lock:", "name": "asyncio"}],
    "frameworks": [],
    "patterns": [],
    "quality_indicators": [],
    "insufficient_evidence": [],
    "complexity_evidence": "one branch",
    "complexity": 3,
}


class Leaf(Result):
    """Notes for developers."""

    value: str


class Node(Result):
    children: list[Node]


class Nested(Result):
    a: Leaf


class Deep(Result):
    a: list[list[list[Nested]]]


class Open(BaseModel):
    a: str


class Map(Result):
    a: dict[str, str]


class Optional(Result):
    a: str = "x"


class Union(Result):
    a: str | int


class Number(IntEnum):
    ONE = 1


class IntegerEnum(Result):
    a: Number


class Untyped(Result):
    a: Any


class UntypedList(Result):
    a: list[Any]


class Empty(Result):
    pass


class Fine(Result):
    text: Annotated[str, Field(min_length=1, max_length=9, pattern="x+", description="What it says")]
    rank: Annotated[int, Field(ge=1, le=5, multiple_of=1)]
    kind: Literal["a"]
    leaf: Leaf | None
    leaves: Annotated[list[Leaf], Field(max_length=3)]


@pytest.mark.parametrize(
    ("model", "finding"),
    [
        (Node, "contains itself"),
        (Deep, "deeper than 5"),
        (Open, r"\$: additionalProperties"),
        (Map, r"\$\.a: additionalProperties"),
        (Optional, r"\$: a not required"),
        (Union, r"\$\.a: a union"),
        (IntegerEnum, r"\$\.a: an enum"),
        (Untyped, r"\$\.a: no type"),
        (UntypedList, r"\$\.a: an array without items"),
        (Empty, "without fields"),
    ],
)
def test_a_schema_outside_the_common_subset_is_refused_with_its_place(model, finding):
    with pytest.raises(ConfigurationError, match=finding):
        common_schema(model)


def test_ranges_and_decoration_are_not_sent_and_references_are_written_out():
    leaf = {
        "type": "object",
        "properties": {"value": {"type": "string"}},
        "required": ["value"],
        "additionalProperties": False,
    }
    assert common_schema(Fine)["properties"] == {
        "text": {"type": "string", "description": "What it says"},
        "rank": {"type": "integer"},
        "kind": {"type": "string", "enum": ["a"]},
        "leaf": {"anyOf": [leaf, {"type": "null"}]},
        "leaves": {"type": "array", "items": leaf},
    }


def test_bounds_are_sent_to_servers_that_enforce_them():
    assert bounded_schema(Fine)["properties"]["rank"] == {"type": "integer", "minimum": 1, "maximum": 5}
    assert "maxLength" not in json.dumps(bounded_schema(Fine))
    skill = bounded_schema(SkillExtraction)["properties"]["skills"]["items"]
    assert skill["properties"]["name"]["minLength"] == 1  # or a small model writes none


def test_pydantic_enforces_what_is_not_sent():
    assert SkillExtraction.model_validate_json(json.dumps(SKILLS_ANSWER)).complexity == 3
    for wrong in (
        {"complexity": 11},
        {"complexity": "3"},
        {"language": None},
        {"extra": 1},
        {"skills": [{"name": "x"}]},
        {"skills": [{"evidence": " ", "name": "x"}]},
    ):
        with pytest.raises(ValidationError):
            SkillExtraction.model_validate_json(json.dumps(SKILLS_ANSWER | wrong))


def test_the_seeds_names_of_a_skill_extraction_are_there():
    assert {"skills", "language", "frameworks", "patterns", "complexity", "quality_indicators"} <= set(
        SkillExtraction.model_fields
    )


def test_labels_narrow_the_answer_and_the_schema():
    shape = shape_for(Ask("x", {"labels": ["bug report", "question"]}))
    assert shape.schema["properties"]["label"] == {"type": "string", "enum": ["bug report", "question"]}
    answer = {"evidence": "crashes", "label": "bug report", "confidence_percent": 90}
    assert shape.model.model_validate_json(json.dumps(answer)).model_dump(mode="json") == answer
    with pytest.raises(ValidationError):
        shape.model.model_validate_json(json.dumps(answer | {"label": "praise"}))


def test_the_shape_of_a_label_set_is_built_once():
    assert shape_for(Ask("x", {"labels": ["x", "y"]})) is shape_for(Ask("x", {"labels": ("x", "y")}))


@pytest.mark.parametrize(
    "labels",
    [None, "ab", [], ["one"], ["a", "a"], ["a", ""], ["a", 1], ["a", "b\nc"], ["a", "x" * 101], list("ab") * 60],
)
def test_unusable_labels_are_the_callers_fault(labels):
    with pytest.raises(PromptError, match="labels"):
        shape_for(Ask("x", {"labels": labels}))


def test_the_shipped_analyses_have_the_seeds_cache_times():
    longer = {"skill_extraction": 604_800, "code_quality": 86_400}
    for name, entry in load_analyses([]).entries.items():
        assert entry.analysis.cache_ttl_s == longer.get(name, 3_600), name


def test_an_unknown_analysis_is_named_with_those_there_are():
    with pytest.raises(UnknownAnalysis, match=r"'astrology'.*skill_extraction, code_quality, .*text_classification"):
        load_analyses([]).get("astrology")


def test_a_third_partys_analysis_comes_by_entry_point():
    point = EntryPoint("theirs", f"{__name__}:THEIRS", "assayline.analyses")
    registry = load_analyses([point])
    assert registry.names()[-1] == "theirs"
    assert registry.get("theirs").analysis is THEIRS


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("theirs", "no_such_module:X", "ModuleNotFoundError"),
        ("other", f"{__name__}:THEIRS", "not an Analysis of that name"),
        ("leaf", f"{__name__}:Leaf", "not an Analysis"),
    ],
)
def test_a_broken_entry_point_is_named(name, value, message):
    with pytest.raises(ConfigurationError, match=f"{name}.*{message}"):
        load_analyses([EntryPoint(name, value, "assayline.analyses")])


@pytest.mark.parametrize(
    ("analyses", "message"),
    [
        ([SKILLS, SKILLS], "twice"),
        ([replace(SKILLS, name="Skill Extraction")], "a name is"),
        ([replace(SKILLS, prompt_version="v9")], "no version v9"),
        ([replace(SKILLS, shape=ResultShape(Leaf, {"type": "string"}, {}))], "the root is an object"),
    ],
)
def test_a_wrong_entry_is_refused_at_registration(analyses: list[Analysis], message):
    with pytest.raises(ConfigurationError, match=message):
        register(analyses)


THEIRS = replace(SKILLS, name="theirs")


def test_only_what_the_caller_brings_changes_the_schema_of_an_answer():
    brought = {"text_classification", "task_matching", "completion"}
    assert {analysis.name for analysis in SHIPPED if analysis.result_schema is None} == brought


def test_every_shipped_analysis_bounds_what_it_reads_and_writes():
    assert all(0 < analysis.max_output_tokens <= 8_192 for analysis in SHIPPED)
    assert all(0 < analysis.max_content_bytes <= 1_048_576 for analysis in SHIPPED)
