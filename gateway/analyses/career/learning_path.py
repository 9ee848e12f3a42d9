"""learning_path: from what somebody has shown to what a role takes, in steps that end with something to show.

The gaps come before the steps, and a step that closes no gap is no step. Time is told in weeks at the hours there are.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Sensitivity, Text
from gateway.analyses.evidence import Claims, Name, Sentence, Unsaid, left_out, same
from gateway.analyses.shapes import ResultShape

LONGEST_STEP_WEEKS = 12
"""A quarter: what takes longer has something to show in between, and is two steps."""


class Need(StrEnum):
    """How much the target role needs a skill."""

    ESSENTIAL = "essential"
    USEFUL = "useful"


class Gap(Result):
    """What the role takes and the profile does not show: `reason` says why it is taken for a gap."""

    reason: Sentence
    skill: Name
    need: Need


class Step(Result):
    """One step: the gap it closes, what to do, how long, and what shows that it is done."""

    skill: Name
    activity: Sentence
    weeks: Annotated[int, Field(ge=1, le=LONGEST_STEP_WEEKS)]
    shown_by: Sentence


class LearningPath(Result):
    """What is there, what is missing, and the way, in order."""

    current_skills: Claims
    gaps: Annotated[list[Gap], Field(max_length=MAX_CLAIMS)]
    steps: Annotated[list[Step], Field(max_length=MAX_CLAIMS)]
    recommendations: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    insufficient_evidence: Unsaid

    @model_validator(mode="after")
    def _steps_close_gaps(self) -> Self:
        kept = [step for step in self.steps if any(same(step.skill, gap.skill) for gap in self.gaps)]
        return left_out(self, "steps", kept, "close no gap that is named")


ANALYSIS = Analysis(
    name="learning_path",
    description="From the skills a profile shows to those a role takes: gaps, then steps with something to show",
    shape=ResultShape.of(LearningPath),
    prompts=files("gateway") / "prompts" / "learning_path",
    prompt_version="v1",
    max_output_tokens=2_500,
    max_content_bytes=100_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.PERSONAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "learning_path.txt",
        "Written for Assayline; the person is made up.",
        {"target_role": "backend engineer with on-call duty", "hours_per_week": 4},
    ),
)
