"""code_quality: how readable, maintainable and reliable a piece of source code is."""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated

from pydantic import Field

from gateway.analyses.base import MAX_CLAIMS, Analysis, Claims, Example, Result, Score, Sensitivity, Text
from gateway.analyses.shapes import ResultShape


class Severity(StrEnum):
    """How much a finding matters."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Finding(Result):
    """One fault, after the code it is about."""

    evidence: Text
    problem: Text
    severity: Severity
    suggestion: Text


class CodeQuality(Result):
    """Findings and strengths first; the scores follow from them."""

    findings: Annotated[list[Finding], Field(max_length=MAX_CLAIMS)]
    strengths: Claims
    summary: Text
    readability: Score
    maintainability: Score
    reliability: Score


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
