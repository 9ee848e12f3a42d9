"""What the analyses of risks and trends refuse to say, however sure a model is of it."""

from __future__ import annotations

import json

import pytest

from gateway.analyses.base import Ask
from gateway.analyses.predictive import attrition_risk, burnout_risk, performance_trajectory, team_health
from gateway.errors import PromptError
from gateway.response import Parsed, Unusable

FACTOR = {"evidence": "reviews 9 to 1", "factor": "fewer reviews", "effect": "raises", "weight_percent": 60}
ATTRITION = {
    "factors": [FACTOR],
    "other_explanations": [],
    "recommendations": [{"factor": "fewer reviews", "recommendation": "share on-call"}],
    "insufficient_evidence": [],
    "risk_score": 70,
    "confidence_percent": 40,
}
BURNOUT = {
    "signals": [{"evidence": "commits at 23:15", "signal": "late work", "strain": "hours", "weeks": 3}],
    "other_explanations": [],
    "protective": [],
    "recommendations": [{"strain": "hours", "recommendation": "a second person for the export job"}],
    "insufficient_evidence": [],
    "risk_score": 60,
    "confidence_percent": 50,
}
COMPARISON = {
    "earlier_evidence": "two weeks late",
    "later_evidence": "on the day",
    "aspect": "delivery",
    "trend": "improving",
}
PERFORMANCE = {
    "comparisons": [COMPARISON],
    "changed_conditions": [],
    "achievements": [],
    "support_needed": [],
    "insufficient_evidence": [],
    "summary": "Better.",
    "trajectory": "improving",
    "confidence_percent": 60,
}
TEAM = {
    "ratings": [
        {"evidence": "lead time 9.5", "dimension": "flow", "score": 3},
        {"evidence": "2 percent", "dimension": "quality", "score": 8},
    ],
    "strengths": [],
    "concerns": [],
    "recommendations": [],
    "insufficient_evidence": [],
    "health_score": 5,
    "confidence_percent": 60,
}


def read(analysis, answer, **context):
    return analysis.ANALYSIS.shape_for(Ask("x", context)).read(json.dumps(answer))


def data(analysis, answer, **context):
    found = read(analysis, answer, **context)
    assert isinstance(found, Parsed)
    return found.data


def test_a_score_with_what_shows_it_stands():
    assert data(attrition_risk, ATTRITION, baseline_metrics={"reviews": 9}) == ATTRITION
    assert data(burnout_risk, BURNOUT, timezone="Europe/Lisbon") == BURNOUT
    assert data(performance_trajectory, PERFORMANCE) == PERFORMANCE
    assert data(team_health, TEAM, team_size=7) == TEAM


@pytest.mark.parametrize("baseline", [None, {}, []])
def test_without_a_baseline_nobody_gets_an_attrition_score(baseline):
    found = data(attrition_risk, ATTRITION, baseline_metrics=baseline)
    assert found["risk_score"] is None
    assert found["factors"] == ATTRITION["factors"]
    assert found["insufficient_evidence"] == ["risk_score is withdrawn: it came without a baseline"]


@pytest.mark.parametrize("factors", [[], [FACTOR | {"effect": "lowers"}], [FACTOR | {"weight_percent": 0}]])
def test_an_attrition_score_needs_a_factor_that_raises_it(factors):
    found = data(attrition_risk, ATTRITION | {"factors": factors}, baseline_metrics={"reviews": 9})
    assert found["risk_score"] is None
    assert (
        data(attrition_risk, ATTRITION | {"factors": factors, "risk_score": 0}, baseline_metrics={"a": 1})["risk_score"]
        == 0
    )


@pytest.mark.parametrize(
    ("field", "value"), [("risk_score", 101), ("risk_score", -1), ("risk_score", 0.45), ("confidence_percent", None)]
)
def test_a_score_out_of_its_range_is_no_answer(field, value):
    assert isinstance(read(attrition_risk, ATTRITION | {field: value}, baseline_metrics={"a": 1}), Unusable)


def test_a_factor_without_a_quote_is_no_answer():
    assert isinstance(read(attrition_risk, ATTRITION | {"factors": [FACTOR | {"evidence": "  "}]}), Unusable)


def test_a_recommendation_answers_to_a_factor_that_is_named():
    given = [{"factor": name, "recommendation": "share on-call"} for name in ("Fewer reviews ", "unhappy with the pay")]
    found = data(attrition_risk, ATTRITION | {"recommendations": given}, baseline_metrics={"a": 1})
    assert found["recommendations"] == given[:1]
    assert found["insufficient_evidence"] == ["1 of recommendations withdrawn: they answer to no factor that is named"]


@pytest.mark.parametrize(("weeks", "score"), [([], None), ([1, 1], None), ([1, 2], 60)])
def test_strain_that_does_not_last_has_no_score(weeks, score):
    signals = [BURNOUT["signals"][0] | {"weeks": number} for number in weeks]
    found = data(burnout_risk, BURNOUT | {"signals": signals}, timezone="Europe/Lisbon")
    assert found["risk_score"] == score
    assert bool(found["recommendations"]) is bool(signals), "relief is for a strain that is shown"


def test_without_a_time_zone_the_hours_say_nothing():
    load = {"evidence": "12 open tasks", "signal": "more at once", "strain": "load", "weeks": 4}
    found = data(burnout_risk, BURNOUT | {"signals": [*BURNOUT["signals"], load]})
    assert (found["signals"], found["recommendations"], found["risk_score"]) == ([load], [], 60)
    assert data(burnout_risk, BURNOUT)["risk_score"] is None
    assert data(burnout_risk, found) == found


@pytest.mark.parametrize(
    ("trends", "trajectory", "stands"),
    [
        (["improving"], "improving", True),
        (["improving"], "declining", False),
        (["improving", "declining"], "steady", True),
        ([], "steady", False),
        (["steady"], None, True),
    ],
)
def test_a_trajectory_is_shown_by_a_comparison(trends, trajectory, stands):
    comparisons = [COMPARISON | {"trend": trend} for trend in trends]
    found = data(performance_trajectory, PERFORMANCE | {"comparisons": comparisons, "trajectory": trajectory})
    assert (found["trajectory"] == trajectory) is stands
    assert (found["summary"] is None) is (not stands), "it would say in words what was withdrawn"


def test_one_line_at_both_ends_compares_nothing():
    same = COMPARISON | {"later_evidence": f" {COMPARISON['earlier_evidence']}"}
    for trajectory in ("improving", "steady"):
        found = data(performance_trajectory, PERFORMANCE | {"comparisons": [same], "trajectory": trajectory})
        assert (found["trajectory"], found["summary"]) == (None, None)


@pytest.mark.parametrize(("score", "stands"), [(2, False), (3, True), (8, True), (9, False), (None, True)])
def test_a_teams_whole_lies_among_its_parts(score, stands):
    assert (data(team_health, TEAM | {"health_score": score})["health_score"] == score) is stands


def test_a_team_without_ratings_has_no_score():
    assert data(team_health, TEAM | {"ratings": []})["health_score"] is None


@pytest.mark.parametrize(("size", "score"), [(1, None), (3, None), (4, 5), (None, 5)])
def test_a_team_too_small_has_no_score(size, score):
    found = data(team_health, TEAM, team_size=size)
    assert found["health_score"] == score
    assert found["ratings"] == ([] if score is None else TEAM["ratings"]), "a rating is a score too"


@pytest.mark.parametrize("size", [0, -1, 2.5, "seven", True])
def test_a_team_size_that_is_none_is_the_callers_fault(size):
    with pytest.raises(PromptError, match="team_size is a whole number above 0"):
        read(team_health, TEAM, team_size=size)
