"""growth_trajectory: how the kind of work somebody does has changed over a stated time.

A change has two ends: a quote from before and one from after, or it is none. Amounts are no growth: people take leave,
change teams and review instead of writing. So other explanations stand beside the changes, before any verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Sensitivity, Text
from gateway.analyses.evidence import Name, Percent, Quote, Sentence, Unsaid, same, unproved
from gateway.analyses.shapes import ResultShape


class Direction(StrEnum):
    """How the work changed in one area. A narrower field is not a worse one."""

    STEADY = "steady"
    DEEPER = "deeper"
    BROADER = "broader"
    NARROWER = "narrower"


class Trajectory(StrEnum):
    """All changes together."""

    STEADY = "steady"
    GROWING = "growing"
    SHIFTING = "shifting"
    """To other work, neither more nor less demanding."""
    NARROWING = "narrowing"


SHOWN_BY: Mapping[Trajectory, frozenset[Direction]] = {
    Trajectory.STEADY: frozenset(Direction),
    Trajectory.GROWING: frozenset({Direction.DEEPER, Direction.BROADER}),
    Trajectory.SHIFTING: frozenset({Direction.DEEPER, Direction.BROADER, Direction.NARROWER}),
    Trajectory.NARROWING: frozenset({Direction.NARROWER}),
}
"""The directions that speak for a verdict. A steady whole may hold changes that weigh each other up."""


class Change(Result):
    """One area of work, before and after."""

    earlier_evidence: Quote
    later_evidence: Quote
    area: Name
    direction: Direction

    def shows(self, trajectory: Trajectory) -> bool:
        """Whether this change speaks for a verdict. One line at both ends speaks for none."""
        return not same(self.earlier_evidence, self.later_evidence) and self.direction in SHOWN_BY[trajectory]


class Step(Result):
    """A next step that the work itself suggests, after what suggests it."""

    evidence: Quote
    recommendation: Sentence


class GrowthTrajectory(Result):
    """Changes, what else may explain them, and only then a verdict; null where no change has both ends.

    The summary says the trajectory in words, so it goes where that goes.
    """

    changes: Annotated[list[Change], Field(max_length=MAX_CLAIMS)]
    other_explanations: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    recommendations: Annotated[list[Step], Field(max_length=MAX_CLAIMS)]
    insufficient_evidence: Unsaid
    summary: Text | None
    trajectory: Trajectory | None
    confidence_percent: Percent

    @model_validator(mode="after")
    def _verdicts_rest_on_changes(self) -> Self:
        verdict = self.trajectory
        shown = bool(self.changes) if verdict is None else any(one.shows(verdict) for one in self.changes)
        return self if shown else unproved(self, ("trajectory", "summary"), "a change whose two ends show it")


ANALYSIS = Analysis(
    name="growth_trajectory",
    description="How somebody's work has changed over a time: each change quoted before and after, with other causes",
    shape=ResultShape.of(GrowthTrajectory),
    prompts=files("gateway") / "prompts" / "growth_trajectory",
    prompt_version="v1",
    max_output_tokens=2_500,
    max_content_bytes=200_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.PERSONAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "growth_trajectory.txt",
        "Written for Assayline; the project and the people are made up.",
        {"period": "2025-10 to 2026-09", "known_changes": "moved to the billing team in April"},
    ),
)
