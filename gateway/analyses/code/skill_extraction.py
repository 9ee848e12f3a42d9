"""skill_extraction: the technical skills that a piece of source code shows."""

from __future__ import annotations

from importlib.resources import files
from typing import Self

from pydantic import model_validator

from gateway.analyses.base import Analysis, Example, Result, Score, Sensitivity, Text
from gateway.analyses.evidence import Claims, Unsaid, withdrawn
from gateway.analyses.shapes import ResultShape


class SkillExtraction(Result):
    """Skills, each with the code that shows it; complexity last, and null where there is too little to judge it by."""

    language: Text
    skills: Claims
    frameworks: Claims
    patterns: Claims
    quality_indicators: Claims
    insufficient_evidence: Unsaid
    complexity_evidence: Text
    complexity: Score | None

    @model_validator(mode="after")
    def _complexity_rests_on_something(self) -> Self:
        if self.complexity is None or self.complexity_evidence.strip():
            return self
        return withdrawn(self, "complexity", "complexity_evidence")


ANALYSIS = Analysis(
    name="skill_extraction",
    description="Technical skills, frameworks and patterns shown in source code, with evidence",
    shape=ResultShape.of(SkillExtraction),
    prompts=files("gateway") / "prompts" / "skill_extraction",
    prompt_version="v1",
    max_output_tokens=2_500,
    max_content_bytes=200_000,
    cache_ttl_s=604_800,
    sensitivity=Sensitivity.INTERNAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "skill_extraction.go",
        "Written for Assayline.",
        {"file_path": "crawler/fetch.go"},
    ),
)
