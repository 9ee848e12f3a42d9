"""interview_rubric: questions for an interview, each about one skill of the role, with answers that anchor its levels.

The anchors make two interviewers judge alike. What the role does not take is not asked; what the law does not let be
asked stands on a list of its own.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Sensitivity, Text
from gateway.analyses.evidence import Name, Quote, Sentence, Unsaid, left_out
from gateway.analyses.shapes import ResultShape


class Criterion(Result):
    """One skill, the words of the role that call for it, one question, and what answers of three levels hold."""

    evidence: Quote
    skill: Name
    question: Sentence
    strong_answer: Sentence
    adequate_answer: Sentence
    weak_answer: Sentence
    minutes: Annotated[int, Field(ge=1, le=60)]


class InterviewRubric(Result):
    """The criteria in the order in which they are asked."""

    criteria: Annotated[list[Criterion], Field(max_length=20)]
    not_to_be_asked: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    insufficient_evidence: Unsaid

    @model_validator(mode="after")
    def _a_skill_is_asked_once(self) -> Self:
        first: dict[str, Criterion] = {}
        for one in self.criteria:
            first.setdefault(one.skill.strip().casefold(), one)
        return left_out(self, "criteria", [*first.values()], "ask for a skill a second time")


ANALYSIS = Analysis(
    name="interview_rubric",
    description="Interview questions tied to the skills of a role, each with answers that anchor its levels",
    shape=ResultShape.of(InterviewRubric),
    prompts=files("gateway") / "prompts" / "interview_rubric",
    prompt_version="v1",
    max_output_tokens=3_000,
    max_content_bytes=50_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.INTERNAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "interview_rubric.txt",
        "Written for Assayline; the company is made up.",
        {"minutes": 45, "level": "mid-level"},
    ),
)
