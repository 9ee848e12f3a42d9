"""developer_profile: what a developer's commits and reviews show that the developer has done and can do.

It describes, and measures nobody: there is no total score, because people's work differs in kind and the material is
always a part of it. What the role asks for and the material does not show is unsaid, not a lack.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Sensitivity, Text
from gateway.analyses.evidence import Claims, Name, Percent, Quote, Sentence, Unsaid, withdrawn
from gateway.analyses.shapes import ResultShape


class Work(StrEnum):
    """Kinds of work. Reviews, tests and documentation are work as much as features are."""

    FEATURE = "feature"
    FIX = "fix"
    REFACTORING = "refactoring"
    TESTS = "tests"
    REVIEW = "review"
    DESIGN = "design"
    DOCUMENTATION = "documentation"
    OPERATIONS = "operations"


class Depth(StrEnum):
    """What the evidence shows of a skill; not how good somebody is."""

    USED = "used"
    """It occurs in the work."""
    APPLIED = "applied"
    """A problem was solved with it."""
    SHAPED = "shaped"
    """Others build on what was decided or made with it."""


class Contribution(Result):
    """One piece of work, after the line that shows it."""

    evidence: Quote
    kind: Work
    what: Sentence


class ShownSkill(Result):
    """A skill, after the line that shows it, and how deep that line goes."""

    evidence: Quote
    name: Name
    depth: Depth


class DeveloperProfile(Result):
    """The work, then what it shows; the summary follows from them, and is null where they are empty."""

    contributions: Annotated[list[Contribution], Field(max_length=MAX_CLAIMS)]
    skills: Annotated[list[ShownSkill], Field(max_length=MAX_CLAIMS)]
    frameworks: Claims
    domains: Claims
    insufficient_evidence: Unsaid
    summary: Text | None
    confidence_percent: Percent

    @model_validator(mode="after")
    def _summary_rests_on_something(self) -> Self:
        if self.summary is None or self.contributions or self.skills:
            return self
        return withdrawn(self, "summary", "contributions or skills")


ANALYSIS = Analysis(
    name="developer_profile",
    description="What commits and reviews show that a developer has done and can do, with a quote for each statement",
    shape=ResultShape.of(DeveloperProfile),
    prompts=files("gateway") / "prompts" / "developer_profile",
    prompt_version="v1",
    max_output_tokens=3_000,
    max_content_bytes=200_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.PERSONAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "developer_profile.txt",
        "Written for Assayline; the project and the people are made up.",
        {"developer": "dev-17", "role": "backend engineer", "period": "2026-07 to 2026-09"},
    ),
)
