"""code_quality: how readable, maintainable and reliable a piece of source code is."""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Score, Sensitivity, Text
from gateway.analyses.evidence import Claims, Quote, Sentence, Unsaid, withdrawn
from gateway.analyses.shapes import ResultShape

ORDINARY = 5
"""The middle of the scale. Whoever calls code worse than that can point at a fault."""


class Severity(StrEnum):
    """How much a finding matters."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Finding(Result):
    """One fault, after the code it is about."""

    evidence: Quote
    problem: Sentence
    severity: Severity
    suggestion: Text


class CodeQuality(Result):
    """Findings and strengths first; the scores follow from them, and are null where there is too little code."""

    findings: Annotated[list[Finding], Field(max_length=MAX_CLAIMS)]
    strengths: Claims
    summary: Text
    insufficient_evidence: Unsaid
    readability: Score | None
    maintainability: Score | None
    reliability: Score | None

    @model_validator(mode="after")
    def _low_scores_rest_on_findings(self) -> Self:
        kept = self
        for name in ("readability", "maintainability", "reliability"):
            score = getattr(self, name)
            if score is not None and score < ORDINARY and not self.findings:
                kept = withdrawn(kept, name, "a finding")
        return kept


ANALYSIS = Analysis(
    name="code_quality",
    description="Readability, maintainability and reliability of source code, with a quote for each finding",
    shape=ResultShape.of(CodeQuality),
    prompts=files("gateway") / "prompts" / "code_quality",
    prompt_version="v1",
    max_output_tokens=2_500,
    max_content_bytes=200_000,
    cache_ttl_s=86_400,
    sensitivity=Sensitivity.INTERNAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "code_quality.js",
        "Written for Assayline.",
        {"file_path": "server/bookings.js"},
    ),
)
