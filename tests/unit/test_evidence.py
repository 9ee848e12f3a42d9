"""What a judgement must rest on: a statement carries its quote, and a verdict that nothing shows is withdrawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.analyses.base import Ask, Result
from gateway.analyses.code.code_complexity import ORDINARY, CodeComplexity
from gateway.analyses.developer.developer_profile import DeveloperProfile
from gateway.analyses.developer.growth_trajectory import GrowthTrajectory
from gateway.analyses.developer.soft_skills import SoftSkills
from gateway.analyses.planning.task_matching import MAX_CANDIDATES, MAX_LINES, shape_for
from gateway.analyses.planning.task_signals import READY, TaskSignals
from gateway.analyses.schema_lint import common_schema
from gateway.analyses.shapes import ResultShape
from gateway.errors import PromptError
from gateway.providers.fake.schema_example import example
from gateway.response import Parsed, Unusable

MODELS = [CodeComplexity, DeveloperProfile, SoftSkills, GrowthTrajectory, TaskSignals]
TWO = {"candidates": [{"id": "dev-1", "skills": ["SQL"]}, {"id": "dev-2", "skills": []}]}
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
    others = told.keys() - {"insufficient_evidence", "summary", "trajectory", verdict}
    assert {name: data[name] for name in others} == {name: told[name] for name in others}


def test_a_withdrawn_sentence_about_a_person_is_not_kept_by_the_note() -> None:
    data = read(SoftSkills, answer(SoftSkills, observations=[], summary="x" * 4_000))
    assert "xx" not in json.dumps(data)
    assert read(SoftSkills, data) == data


def test_the_prompts_say_the_bounds_that_the_rules_keep() -> None:
    assert f"Above {ORDINARY} there is a hotspot." in prompt_text("code_complexity")
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
def test_no_new_statement_stands_without_its_quote(model: type[Result]) -> None:
    """`Claims`, shared with older analyses, are the exception: theirs may be empty."""
    told = answer(model)
    claims = {"frameworks", "domains", "dependencies", "risks"}
    places = [place for place in statements(told) if place[0] not in claims]
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
        for child in schema["properties"].values():
            for inner in (child.get("items"), *child.get("anyOf", [])):
                if isinstance(inner, dict) and "properties" in inner:
                    assert "evidence" in next(iter(inner["properties"]))
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
    assert numbers <= {"complexity", "clarity", "confidence_percent"}


# task_matching --------------------------------------------------------------------------------------------------------


def matching(**changes: Json) -> Json:
    return {**example(common_schema(shape_for(Ask("x", TWO)).model)), **changes}


def test_each_candidate_has_a_place_of_its_own() -> None:
    shape = shape_for(Ask("x", TWO))
    assert list(shape.schema["properties"]) == [
        "demands",
        "candidate_1",
        "candidate_2",
        "uncovered",
        "confidence_percent",
    ]
    assert shape.schema["properties"]["candidate_2"]["properties"]["candidate"]["enum"] == ["dev-2"]
    assert isinstance(shape.read(json.dumps(matching())), Parsed)


def swapped(told: Json) -> None:
    told["candidate_1"]["candidate"], told["candidate_2"]["candidate"] = "dev-2", "dev-1"


def left_out(told: Json) -> None:
    del told["candidate_2"]


def made_up(told: Json) -> None:
    told["candidate_3"] = {**told["candidate_1"], "candidate": "dev-3"}


def renamed(told: Json) -> None:
    told["candidate_1"]["candidate"] = "Ann"


def unproved(told: Json) -> None:
    told["candidate_1"]["covered"][0]["evidence"] = ""


@pytest.mark.parametrize("wrong", [swapped, left_out, made_up, renamed, unproved])
def test_nobody_is_mixed_up_left_out_or_made_up(wrong: Callable[[Json], None]) -> None:
    told = matching()
    wrong(told)
    assert isinstance(shape_for(Ask("x", TWO)).read(json.dumps(told)), Unusable)


@pytest.mark.parametrize(("fit", "kept"), [("strong", None), ("partial", None), ("weak", "weak"), (None, None)])
def test_a_fit_that_nothing_covers_is_withdrawn(fit: str | None, kept: str | None) -> None:
    one = {"candidate": "dev-1", "covered": [], "not_shown": [], "fit": fit}
    parsed = shape_for(Ask("x", TWO)).read(json.dumps(matching(candidate_1=one)))
    assert isinstance(parsed, Parsed)
    assert parsed.data["candidate_1"]["fit"] == kept
    notes = ["fit is withdrawn: it came without anything covered"] if fit != kept else []
    assert parsed.data["candidate_1"]["not_shown"] == notes
    assert parsed.data["candidate_2"]["fit"] == "strong"


def test_the_shape_of_a_team_is_built_once() -> None:
    assert shape_for(Ask("x", TWO)) is shape_for(Ask("y", {"candidates": tuple(TWO["candidates"])}))


@settings(deadline=None)
@given(st.lists(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=100), unique=True))
def test_any_ids_each_get_one_place_or_a_refusal_that_says_how_many_may_come(ids: list[str]) -> None:
    asked = Ask("x", {"candidates": [{"id": name, "skills": []} for name in ids]})
    if not 1 <= len(ids) <= MAX_CANDIDATES:
        with pytest.raises(PromptError, match="candidates: List should have at"):
            shape_for(asked)
        return
    shape = shape_for(asked)
    read_back = shape.read(json.dumps(example(shape.schema)))
    assert isinstance(read_back, Parsed)
    assert [read_back.data[f"candidate_{number}"]["candidate"] for number in range(1, len(ids) + 1)] == ids


@pytest.mark.parametrize(
    ("candidates", "said"),
    [
        (None, "candidates: Input should be a valid list"),
        ("dev-1", "candidates: Input should be a valid list"),
        ([], "at least 1"),
        ([{"id": f"dev-{n}", "skills": []} for n in range(MAX_CANDIDATES + 1)], f"at most {MAX_CANDIDATES}"),
        (["dev-1"], r"candidates\.0: Input should be"),
        ([{"skills": []}], r"candidates\.0\.id: Field required"),
        ([{"id": "dev-1"}], r"candidates\.0\.skills: Field required"),
        ([{"id": "", "skills": []}], r"candidates\.0\.id"),
        ([{"id": 7, "skills": []}], r"candidates\.0\.id"),
        ([{"id": "x" * 101, "skills": []}], r"candidates\.0\.id"),
        ([{"id": "a\nb", "skills": []}], "unprintable"),
        ([{"id": "dev-1", "skills": ["x"] * (MAX_LINES + 1)}], r"candidates\.0\.skills"),
        ([{"id": "dev-1", "skills": []}] * 2, "2 given with 1 different ids"),
        ([{"id": "dev-1", "skills": [], "age": 51}], r"candidates\.0\.age: Extra inputs"),
        ([{"id": "dev-1", "skills": [], "name": "Ann"}], r"candidates\.0\.name: Extra inputs"),
    ],
)
def test_unusable_candidates_are_refused_with_their_place(candidates: Json, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        shape_for(Ask("x", {"candidates": candidates}))


def test_a_refusal_does_not_repeat_a_profile() -> None:
    with pytest.raises(PromptError) as refused:
        shape_for(Ask("x", {"candidates": [{"id": "dev-1", "skills": "secret skill"}]}))
    assert "secret" not in str(refused.value)
