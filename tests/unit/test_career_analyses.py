"""Plans, descriptions and rubrics: what holds them together."""

from __future__ import annotations

import json

import pytest

from gateway.analyses.base import Ask
from gateway.analyses.career import interview_rubric, job_description, learning_path
from gateway.response import Parsed, Unusable

STEP = {"skill": "SQL", "activity": "own the query of the report", "weeks": 4, "shown_by": "the report is merged"}
PATH = {
    "current_skills": [{"evidence": "the form library", "name": "React"}],
    "gaps": [{"reason": "had help with the query plan", "skill": "sql ", "need": "essential"}],
    "steps": [STEP],
    "recommendations": [],
    "insufficient_evidence": [],
}
JOB = {
    "title": "Payments engineer",
    "summary": "Works on the payments service with two others.",
    "responsibilities": ["Reconcile payments with the finance tooling team."],
    "required_skills": ["Python"],
    "preferred_skills": ["Kafka"],
    "conditions": ["Remote inside the EU."],
    "wording_notes": [],
    "open_questions": ["What does it pay?"],
    "insufficient_evidence": [],
}
CRITERION = {
    "evidence": "reading query plans",
    "skill": "Query plans",
    "question": "Tell of a slow query.",
    "strong_answer": "Names the node that cost most.",
    "adequate_answer": "Knows EXPLAIN.",
    "weak_answer": "Adds indexes at random.",
    "minutes": 10,
}
RUBRIC = {"criteria": [CRITERION], "not_to_be_asked": ["Family plans."], "insufficient_evidence": []}


def data(analysis, answer):
    found = analysis.ANALYSIS.shape_for(Ask("x")).read(json.dumps(answer))
    assert isinstance(found, Parsed), found
    return found.data


def test_what_holds_together_stands():
    assert data(learning_path, PATH) == PATH
    assert data(job_description, JOB) == JOB
    assert data(interview_rubric, RUBRIC) == RUBRIC


def test_a_step_that_closes_no_gap_is_withdrawn_and_said_to_be():
    found = data(learning_path, PATH | {"steps": [STEP, STEP | {"skill": "Kubernetes"}]})
    assert found["steps"] == [STEP]
    assert found["insufficient_evidence"] == ["1 of steps withdrawn: they close no gap that is named"]


@pytest.mark.parametrize("weeks", [0, 13, 1.5])
def test_a_step_takes_a_quarter_at_most(weeks):
    found = learning_path.ANALYSIS.shape_for(Ask("x")).read(json.dumps(PATH | {"steps": [STEP | {"weeks": weeks}]}))
    assert isinstance(found, Unusable)


@pytest.mark.parametrize(
    ("field", "words", "says"),
    [
        ("title", "Payments rockstar", "keep people from applying"),
        ("summary", "You join a young team.", "age"),
        ("required_skills", ["native German"], "origin"),
        ("preferred_skills", ["coding ninja"], "keep people from applying"),
        ("responsibilities", ["He will lead the chairman's project."], "gender"),
        ("conditions", ["Must be able-bodied."], "disabilities"),
    ],
)
def test_wording_that_shuts_out_is_noted_whatever_the_model_thought_of_it(field, words, says):
    found = data(job_description, JOB | {field: words})
    assert any(says in note for note in found["wording_notes"])
    assert data(job_description, found) == found, "noted once"


def test_plain_words_are_not_noted():
    assert (
        data(job_description, JOB | {"summary": "Hack days twice a year; younger code is documented."})["wording_notes"]
        == []
    )


def test_a_skill_is_asked_for_once():
    found = data(interview_rubric, RUBRIC | {"criteria": [CRITERION, CRITERION | {"skill": "query plans "}]})
    assert found["criteria"] == [CRITERION]
    assert found["insufficient_evidence"] == ["1 of criteria withdrawn: they ask for a skill a second time"]
