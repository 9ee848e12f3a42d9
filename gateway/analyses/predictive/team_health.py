"""team_health: how well a team's way of working carries its work, from figures and notes about the team as a whole.

About the team, never about one of its members: with fewer than four people a figure is somebody's figure, so there are
no scores then, neither of a dimension nor of the whole.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Ask, Example, Result, Score, Sensitivity, Text
from gateway.analyses.evidence import Claims, Percent, Quote, Sentence, Unsaid, left_out, withdrawn
from gateway.analyses.shapes import ResultShape
from gateway.errors import PromptError

FEWEST_MEMBERS = 4
"""Below it what is said of the team is said of somebody: three figures and two known ones give the third."""


class Dimension(StrEnum):
    """What is looked at."""

    FLOW = "flow"
    QUALITY = "quality"
    COLLABORATION = "collaboration"
    LOAD = "load"
    KNOWLEDGE_SPREAD = "knowledge_spread"


class Rating(Result):
    """One dimension: 1 is failing, 10 carries itself."""

    evidence: Quote
    dimension: Dimension
    score: Score


class Experiment(Result):
    """Something the team may try, and how it would know that it helped."""

    dimension: Dimension
    recommendation: Sentence
    measure: Text


class TeamHealth(Result):
    """Ratings with what shows them; the whole only where there are some."""

    ratings: Annotated[list[Rating], Field(max_length=MAX_CLAIMS)]
    strengths: Claims
    concerns: Claims
    recommendations: Annotated[list[Experiment], Field(max_length=MAX_CLAIMS)]
    insufficient_evidence: Unsaid
    health_score: Score | None
    confidence_percent: Percent

    @model_validator(mode="after")
    def _the_whole_lies_among_its_parts(self) -> Self:
        scores = [one.score for one in self.ratings]
        if self.health_score is not None and not (scores and min(scores) <= self.health_score <= max(scores)):
            return withdrawn(self, "health_score", "ratings that it lies among")
        return self


class SmallTeam(TeamHealth):
    """The same for a team too small to be scored."""

    @model_validator(mode="after")
    def _no_scores(self) -> Self:
        kept = left_out(self, "ratings", [], "would rate somebody: the team has too few members")
        return kept if kept.health_score is None else withdrawn(kept, "health_score", "enough members")


USUAL, SMALL = ResultShape.of(TeamHealth), ResultShape.of(SmallTeam)


def shape_for(ask: Ask) -> ResultShape:
    """Return the shape for a team of the given size; one of unknown size is taken for large enough.

    Raises:
        PromptError: `team_size` is no whole number above 0.
    """
    size: Any = ask.context.get("team_size")
    if size is None:
        return USUAL
    if type(size) is not int or size < 1:
        raise PromptError("team_health: the context's team_size is a whole number above 0")
    return SMALL if size < FEWEST_MEMBERS else USUAL


ANALYSIS = Analysis(
    name="team_health",
    description="How well a team's way of working carries its work, by dimension, with things to try",
    shape=shape_for,
    fixed_schema=USUAL.schema,
    prompts=files("gateway") / "prompts" / "team_health",
    prompt_version="v1",
    max_output_tokens=2_500,
    max_content_bytes=200_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.PERSONAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "team_health.json",
        "Written for Assayline; the team and the figures are made up.",
        {"team": "billing", "team_size": 7, "period": "third quarter of 2026"},
    ),
)
