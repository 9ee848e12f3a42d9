"""soft_skills: what somebody did, in words, while working with others: pull-request comments, reviews, threads.

It reports behaviour at a place in the text, never a trait: no personality, mood, motive or health, and no score, since
a score of a person's manner would be read as one of the person. What was seen once says so by its form.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Sensitivity, Text
from gateway.analyses.evidence import Percent, Quote, Sentence, Unsaid, withdrawn
from gateway.analyses.shapes import ResultShape


class SoftSkill(StrEnum):
    """What written work with others can show."""

    EXPLAINING = "explaining"
    ASKING = "asking"
    GIVING_FEEDBACK = "giving_feedback"
    TAKING_FEEDBACK = "taking_feedback"
    DISAGREEING = "disagreeing"
    TEACHING = "teaching"
    COORDINATING = "coordinating"
    OWNING_MISTAKES = "owning_mistakes"


class Effect(StrEnum):
    """What it did for the work, as the text shows it."""

    HELPED = "helped"
    HINDERED = "hindered"
    UNCLEAR = "unclear"


class Observation(Result):
    """One thing done. `further_evidence` is another place that shows the same; null: it was seen once, no habit."""

    evidence: Quote
    further_evidence: Text | None
    skill: SoftSkill
    behaviour: Sentence
    effect: Effect

    @field_validator("further_evidence")
    @classmethod
    def _is_another_place(cls, value: str | None, info: ValidationInfo) -> str | None:
        """The same words twice are one place, and so are none: read as what they are, seen once."""
        said = (value or "").strip()
        return None if said in ("", info.data.get("evidence", "").strip()) else value


class SoftSkills(Result):
    """Observations first; the summary follows from them, and is null where there are none."""

    observations: Annotated[list[Observation], Field(max_length=MAX_CLAIMS)]
    questions: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    insufficient_evidence: Unsaid
    summary: Text | None
    confidence_percent: Percent

    @model_validator(mode="after")
    def _summary_rests_on_something(self) -> Self:
        if self.summary is None or self.observations:
            return self
        return withdrawn(self, "summary", "observations")


ANALYSIS = Analysis(
    name="soft_skills",
    description="What somebody did in words while working with others: observations with quotes, no traits, no score",
    shape=ResultShape.of(SoftSkills),
    prompts=files("gateway") / "prompts" / "soft_skills",
    prompt_version="v1",
    max_output_tokens=2_500,
    max_content_bytes=200_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.PERSONAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "soft_skills.txt",
        "Written for Assayline; the project and the people are made up.",
        {"developer": "dev-17", "channel": "pull-request comments"},
    ),
)
