"""What a judgement must rest on: a statement carries its quote, and a verdict that nothing shows is withdrawn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

from gateway.analyses.base import Result
from gateway.analyses.code.code_complexity import ORDINARY, CodeComplexity
from gateway.analyses.code.code_quality import ORDINARY as ORDINARY_QUALITY
from gateway.analyses.code.code_quality import CodeQuality
from gateway.analyses.code.skill_extraction import SkillExtraction
from gateway.analyses.developer.developer_profile import DeveloperProfile
from gateway.analyses.developer.growth_trajectory import GrowthTrajectory
from gateway.analyses.developer.soft_skills import SoftSkills
from gateway.analyses.planning.task_signals import READY, TaskSignals
from gateway.analyses.predictive.attrition_risk import AttritionRisk
from gateway.analyses.predictive.burnout_risk import FEWEST_WEEKS, BurnoutRisk
from gateway.analyses.predictive.performance_trajectory import PerformanceTrajectory
from gateway.analyses.predictive.team_health import TeamHealth
from gateway.analyses.schema_lint import common_schema
from gateway.analyses.shapes import ResultShape
from gateway.providers.fake.schema_example import example
from gateway.response import Parsed, Unusable

MODELS = [
    *(SkillExtraction, CodeQuality, CodeComplexity),
    *(DeveloperProfile, SoftSkills, GrowthTrajectory),
    *(AttritionRisk, BurnoutRisk, PerformanceTrajectory, TeamHealth),
    TaskSignals,
]
RISKS = (AttritionRisk, BurnoutRisk, TeamHealth)
"""What these put a number on is a risk or a way of working, with what shows it."""
EARLIER, LATER = "2025-10 fixed a typo", "2026-06 wrote the design"

Json = Any


def change(direction: str, later: str = LATER) -> Json:
    return {"earlier_evidence": EARLIER, "later_evidence": later, "area": "billing", "direction": direction}


def answer(model: type[Result], **changes: Json) -> Json:
    return {**example(common_schema(model)), **changes}


def read(model: type[Result], told: Json) -> Json:
    parsed = ResultShape.of(model).read(json.dumps(told))
    assert isinstance(parsed, Parsed), parsed
    return parsed.data


WITHDRAWN: list[tuple[type[Result], Json, str]] = [
    (SkillExtraction, {"complexity_evidence": " "}, "complexity"),
    (CodeQuality, {"reliability": 4, "findings": []}, "reliability"),
    (CodeComplexity, {"complexity_evidence": " "}, "complexity"),
    (CodeComplexity, {"complexity": 6, "hotspots": []}, "complexity"),
    (DeveloperProfile, {"contributions": [], "skills": []}, "summary"),
    (SoftSkills, {"observations": []}, "summary"),
    (GrowthTrajectory, {"changes": []}, "summary"),
    (GrowthTrajectory, {"changes": []}, "trajectory"),
    (GrowthTrajectory, {"changes": [change("deeper", later=f" {EARLIER}")], "trajectory": "growing"}, "trajectory"),
    (GrowthTrajectory, {"changes": [change("steady")], "trajectory": "growing"}, "trajectory"),
    (GrowthTrajectory, {"changes": [change("deeper")], "trajectory": "narrowing"}, "trajectory"),
    (GrowthTrajectory, {"changes": [change("steady")], "trajectory": "shifting"}, "trajectory"),
    (TaskSignals, {"complexity_evidence": ""}, "complexity"),
    (TaskSignals, {"clarity": 7, "open_questions": []}, "clarity"),
]
KEPT: list[tuple[type[Result], Json, str]] = [
    (CodeQuality, {"reliability": 4}, "reliability"),
    (
        CodeQuality,
        dict.fromkeys(("readability", "maintainability", "reliability"), 5) | {"findings": []},
        "reliability",
    ),
    (CodeComplexity, {"complexity": 5, "hotspots": []}, "complexity"),
    (CodeComplexity, {"complexity": 6}, "complexity"),
    (DeveloperProfile, {"contributions": []}, "summary"),
    (DeveloperProfile, {"skills": []}, "summary"),
    (SoftSkills, {}, "summary"),
    (GrowthTrajectory, {"changes": [change("steady"), change("broader")], "trajectory": "growing"}, "trajectory"),
    (GrowthTrajectory, {"changes": [change("narrower")], "trajectory": "narrowing"}, "trajectory"),
    (GrowthTrajectory, {"changes": [change("narrower")], "trajectory": "shifting"}, "trajectory"),
    (GrowthTrajectory, {"changes": [change("steady")], "trajectory": "steady"}, "trajectory"),
    (TaskSignals, {"clarity": 8, "open_questions": []}, "clarity"),
    (TaskSignals, {"clarity": 1}, "clarity"),
]


@pytest.mark.parametrize(("model", "changes", "verdict"), WITHDRAWN)
def test_a_verdict_that_nothing_shows_is_withdrawn_and_said_to_be(
    model: type[Result], changes: Json, verdict: str
) -> None:
    told = answer(model, **changes)
    data = read(model, told)
    assert data[verdict] is None
    (note,) = [line for line in data["insufficient_evidence"] if line.startswith(verdict)]
    assert note.startswith(f"{verdict} is withdrawn: it came without ")
    others = told.keys() - {"insufficient_evidence", "summary", "trajectory", "readability", "maintainability", verdict}
    assert {name: data[name] for name in others} == {name: told[name] for name in others}


def test_a_withdrawn_sentence_about_a_person_is_not_kept_by_the_note() -> None:
    data = read(SoftSkills, answer(SoftSkills, observations=[], summary="x" * 4_000))
    assert "xx" not in json.dumps(data)
    assert read(SoftSkills, data) == data


def test_the_prompts_say_the_bounds_that_the_rules_keep() -> None:
    assert f"Above {ORDINARY} there is a hotspot." in prompt_text("code_complexity")
    assert f"Below {ORDINARY_QUALITY} there is a finding." in prompt_text("code_quality")
    assert f"at least {FEWEST_WEEKS} of them, risk_score is null" in prompt_text("burnout_risk")
    assert f"below {READY} there are open_questions" in prompt_text("task_signals")


def prompt_text(name: str) -> str:
    return (files("gateway") / "prompts" / name / "v1.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("model", "changes", "verdict"), KEPT)
def test_a_verdict_that_something_shows_stands(model: type[Result], changes: Json, verdict: str) -> None:
    told = answer(model, **changes)
    data = read(model, told)
    assert data[verdict] == told[verdict]
    assert data["insufficient_evidence"] == told["insufficient_evidence"]


@pytest.mark.parametrize("model", MODELS)
def test_nothing_at_all_can_be_said(model: type[Result]) -> None:
    """Too little material is an answer: lists empty, verdicts null. Nothing forces a model to make something up."""
    empty = {name: blank(child) for name, child in common_schema(model)["properties"].items()}
    told = {**empty, **({"task_type": "other"} if model is TaskSignals else {})}
    assert read(model, told) == told


def blank(schema: Json) -> Json:
    if "anyOf" in schema:
        return None
    return {"array": [], "string": "", "integer": 0}[schema["type"]]


def statements(told: Json, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all objects within an answer that carry a quote."""
    if isinstance(told, dict):
        yield from ((*place, name) for name in told if place and name.endswith("evidence") and name[:7] != "further")
    for key, value in told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, list) else ():
        yield from statements(value, (*place, key))


@pytest.mark.parametrize("model", MODELS)
def test_no_statement_stands_without_its_quote(model: type[Result]) -> None:
    told = answer(model)
    places = list(statements(told))
    assert places
    for *path, name in places:
        blanked = json.loads(json.dumps(told))
        holder = blanked
        for key in path:
            holder = holder[key]
        holder[name] = " "
        assert isinstance(ResultShape.of(model).read(json.dumps(blanked)), Unusable)


@pytest.mark.parametrize("model", MODELS)
def test_evidence_comes_before_what_follows_from_it_and_numbers_come_last(model: type[Result]) -> None:
    """Models write fields in order: a score written first is not derived from anything."""

    def is_number(child: Json) -> bool:
        return "integer" in [child.get("type"), *(arm.get("type") for arm in child.get("anyOf", []))]

    def check(schema: Json) -> None:
        fields = list(schema["properties"])
        numbers = [name for name in fields if is_number(schema["properties"][name])]
        assert fields[len(fields) - len(numbers) :] == numbers
        for name, child in schema["properties"].items():
            for inner in (child.get("items"), *child.get("anyOf", [])):
                if isinstance(inner, dict) and "properties" in inner:
                    # What is recommended follows from the statements before it.
                    assert "evidence" in next(iter(inner["properties"])) or name == "recommendations"
                    check(inner)

    check(common_schema(model))


@pytest.mark.parametrize("further", ["words", " words ", "", " "])
def test_the_same_words_twice_were_seen_once(further: str) -> None:
    seen = {"skill": "asking", "behaviour": "asked", "effect": "helped", "evidence": "words"}
    data = read(SoftSkills, answer(SoftSkills, observations=[{**seen, "further_evidence": further}]))
    assert data["observations"][0]["further_evidence"] is None
    data = read(SoftSkills, answer(SoftSkills, observations=[{**seen, "further_evidence": "other words"}]))
    assert data["observations"][0]["further_evidence"] == "other words"


@pytest.mark.parametrize("model", MODELS)
def test_nothing_here_scores_a_person(model: type[Result]) -> None:
    """Numbers judge code, tasks and the answer's own certainty; a person gets words and quotes."""
    schema = common_schema(model)["properties"]
    numbers = {name for name, child in schema.items() if "integer" in json.dumps(child)}
    code = {"complexity", "readability", "maintainability", "reliability"}
    risks = {"risk_score", "factors", "signals", "health_score", "ratings"}
    assert numbers <= {*code, "clarity", "confidence_percent"} | (risks if model in RISKS else set())
