"""Task matching: everybody has a place, nobody is ranked, and a fit rests on a demand and on the profile."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.analyses.base import Ask
from gateway.analyses.planning.task_matching import MAX_CANDIDATES, MAX_LINES, shape_for
from gateway.analyses.schema_lint import common_schema
from gateway.errors import PromptError
from gateway.providers.fake.schema_example import example
from gateway.response import Parsed, Unusable

TWO = {"candidates": [{"id": "dev-1", "skills": ["SQL"]}, {"id": "dev-2", "skills": [], "experience": ["wrote SQL"]}]}
BARE = {"candidates": [{"id": "dev-1", "skills": [" "], "wants": "to learn SQL"}, {"id": "dev-2", "skills": ["SQL"]}]}

Json = Any


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


@pytest.mark.parametrize("fit", ["strong", "partial", "weak"])
def test_a_profile_that_holds_nothing_is_no_word_against_anybody(fit: str) -> None:
    covered = [{"evidence": "years of it", "demand": "example"}]
    one = {"candidate": "dev-1", "covered": covered, "not_shown": [], "fit": fit}
    parsed = shape_for(Ask("x", BARE)).read(json.dumps(matching(candidate_1=one)))
    assert isinstance(parsed, Parsed)
    assert (parsed.data["candidate_1"]["covered"], parsed.data["candidate_1"]["fit"]) == ([], None)
    assert parsed.data["candidate_2"]["fit"] == "strong"


@pytest.mark.parametrize(
    ("demands", "demand", "fit", "kept"),
    [
        (["SQL"], "sql ", "strong", "strong"),
        (["SQL"], "charm", "strong", None),
        (["SQL"], "charm", "weak", "weak"),
        ([], "SQL", "partial", None),
        ([], "SQL", "weak", None),
        ([], "SQL", None, None),
    ],
)
def test_a_fit_rests_on_a_demand_of_the_task(
    demands: list[str], demand: str, fit: str | None, kept: str | None
) -> None:
    one = {"candidate": "dev-1", "covered": [{"evidence": "SQL", "demand": demand}], "not_shown": [], "fit": fit}
    named = [{"evidence": "the query", "name": name} for name in demands]
    parsed = shape_for(Ask("x", TWO)).read(json.dumps(matching(demands=named, candidate_1=one)))
    assert isinstance(parsed, Parsed)
    assert parsed.data["candidate_1"]["fit"] == kept
    assert bool(parsed.data["candidate_1"]["not_shown"]) is (fit != kept)


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
