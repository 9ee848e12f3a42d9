"""performance_trajectory: how the outcome of somebody's work has developed from one period to the next.

Outcome, not activity: what was delivered, how it held, what others could build on it. It compares a person with the
same person earlier, and says where the work itself changed. It foretells nothing.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Sensitivity, Text
from gateway.analyses.evidence import Claims, Percent, Quote, Unsaid, same, unproved
from gateway.analyses.shapes import ResultShape


class Aspect(StrEnum):
    """What a comparison is about."""

    DELIVERY = "delivery"
    QUALITY = "quality"
    SCOPE = "scope"
    COLLABORATION = "collaboration"


class Trend(StrEnum):
    """How it went on."""

    STEADY = "steady"
    IMPROVING = "improving"
    DECLINING = "declining"


class Comparison(Result):
    """One aspect in two periods: two different quotes, or it compares nothing."""

    earlier_evidence: Quote
    later_evidence: Quote
    aspect: Aspect
    trend: Trend

    def shows(self, trajectory: Trend) -> bool:
        """Whether it speaks for a verdict. A steady whole may hold trends that weigh each other up."""
        two = not same(self.earlier_evidence, self.later_evidence)
        return two and trajectory in (Trend.STEADY, self.trend)


class PerformanceTrajectory(Result):
    """Comparisons, what changed around the work, and a trajectory that at least one of them shows.

    The summary says the trajectory in words, so it goes where that goes.
    """

    comparisons: Annotated[list[Comparison], Field(max_length=MAX_CLAIMS)]
    changed_conditions: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    achievements: Claims
    support_needed: Claims
    insufficient_evidence: Unsaid
    summary: Text | None
    trajectory: Trend | None
    confidence_percent: Percent

    @model_validator(mode="after")
    def _a_trajectory_is_shown(self) -> Self:
        verdict = self.trajectory
        shown = bool(self.comparisons) if verdict is None else any(one.shows(verdict) for one in self.comparisons)
        return self if shown else unproved(self, ("trajectory", "summary"), "a comparison that shows it")


ANALYSIS = Analysis(
    name="performance_trajectory",
    description="How the outcome of somebody's work developed between periods, each comparison quoted at both ends",
    shape=ResultShape.of(PerformanceTrajectory),
    prompts=files("gateway") / "prompts" / "performance_trajectory",
    prompt_version="v1",
    max_output_tokens=2_500,
    max_content_bytes=200_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.PERSONAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "performance_trajectory.txt",
        "Written for Assayline; the person and the records are made up.",
        {"role": "backend engineer", "period": "2026, first and second half"},
    ),
)
