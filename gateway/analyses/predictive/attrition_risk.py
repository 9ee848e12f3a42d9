"""attrition_risk: signs in somebody's work that they may be drifting away, against what was usual for them.

A sign is a change against a baseline, not a level: the quiet are not leaving. Without a baseline there are signs to
look into and no score. Leave, health, family, age and the like are no signs here, whatever the material says.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Ask, Example, Result, Sensitivity, Text
from gateway.analyses.evidence import Name, Percent, Quote, Sentence, Unsaid, left_out, same, withdrawn
from gateway.analyses.shapes import ResultShape


class Effect(StrEnum):
    """What a factor does to the risk."""

    RAISES = "raises"
    LOWERS = "lowers"


class Factor(Result):
    """One change against the baseline, and how much it counts among the others."""

    evidence: Quote
    factor: Name
    effect: Effect
    weight_percent: Percent


class Recommendation(Result):
    """Something to change in the conditions of the work, after the factor it answers to: one of those named."""

    factor: Name
    recommendation: Sentence


class AttritionRisk(Result):
    """Factors, what else may explain them, what can be done, and only then a score (0 none, 100 all but certain)."""

    factors: Annotated[list[Factor], Field(max_length=MAX_CLAIMS)]
    other_explanations: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    recommendations: Annotated[list[Recommendation], Field(max_length=MAX_CLAIMS)]
    insufficient_evidence: Unsaid
    risk_score: Percent | None
    confidence_percent: Percent

    @model_validator(mode="after")
    def _all_rests_on_factors(self) -> Self:
        raised = any(one.effect is Effect.RAISES and one.weight_percent > 0 for one in self.factors)
        answers = [one for one in self.recommendations if any(same(one.factor, it.factor) for it in self.factors)]
        kept = left_out(self, "recommendations", answers, "answer to no factor that is named")
        return withdrawn(kept, "risk_score", "a factor that raises it") if self.risk_score and not raised else kept


class WithoutBaseline(AttritionRisk):
    """The same where nobody said what was usual: no score can rest on that."""

    @model_validator(mode="after")
    def _no_score(self) -> Self:
        return self if self.risk_score is None else withdrawn(self, "risk_score", "a baseline")


SCORED, UNSCORED = ResultShape.of(AttritionRisk), ResultShape.of(WithoutBaseline)


def shape_for(ask: Ask) -> ResultShape:
    """Return the shape with a score where the context has a baseline."""
    return SCORED if ask.context.get("baseline_metrics") else UNSCORED


ANALYSIS = Analysis(
    name="attrition_risk",
    description="Signs of drifting away in somebody's activity, against their own baseline, with other causes",
    shape=shape_for,
    fixed_schema=SCORED.schema,
    prompts=files("gateway") / "prompts" / "attrition_risk",
    prompt_version="v1",
    max_output_tokens=2_500,
    max_content_bytes=200_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.PERSONAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "attrition_risk.json",
        "Written for Assayline; the person and the figures are made up.",
        {
            "baseline_metrics": {"commits_per_week": 14, "reviews_per_week": 9, "design_notes_per_month": 3},
            "period": "2026-08 to 2026-10",
            "known_changes": "the team's lead changed in August",
        },
    ),
)
