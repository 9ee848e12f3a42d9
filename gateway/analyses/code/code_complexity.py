"""code_complexity: how hard a piece of source code is to follow and to change, what makes it so, and what need not.

Unlike `code_quality` it looks for no faults: complexity that the problem demands is none. It says nothing of whoever
wrote the code, and counts nothing: a model cannot count branches reliably, and a linter can.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Score, Sensitivity, Text
from gateway.analyses.evidence import Name, Quote, Sentence, Unsaid, withdrawn
from gateway.analyses.shapes import ResultShape

ORDINARY = 5
"""The middle of the scale. Whoever calls code harder than that can point at what makes it hard."""


class Cause(StrEnum):
    """What makes a place hard to follow."""

    BRANCHING = "branching"
    NESTING = "nesting"
    STATE = "state"
    CONCURRENCY = "concurrency"
    ALGORITHM = "algorithm"
    INDIRECTION = "indirection"


class Growth(StrEnum):
    """How the running time grows with the input."""

    CONSTANT = "constant"
    LOGARITHMIC = "logarithmic"
    LINEAR = "linear"
    LINEARITHMIC = "linearithmic"
    QUADRATIC = "quadratic"
    POLYNOMIAL = "polynomial"
    EXPONENTIAL = "exponential"


class Hotspot(Result):
    """One hard place. `simplification` is null where the problem itself demands it: then it is no fault."""

    evidence: Quote
    cause: Cause
    explanation: Sentence
    simplification: Text | None


class TimeGrowth(Result):
    """How the time grows, with what, and the loop or call that shows it."""

    evidence: Quote
    grows_with: Name
    growth: Growth


class CodeComplexity(Result):
    """Hard places and growth first; the score follows from them, and is null where there is too little code."""

    language: Text
    hotspots: Annotated[list[Hotspot], Field(max_length=MAX_CLAIMS)]
    time_growth: TimeGrowth | None
    insufficient_evidence: Unsaid
    complexity_evidence: Text
    complexity: Score | None

    @model_validator(mode="after")
    def _score_rests_on_something(self) -> Self:
        if self.complexity is None:
            return self
        if not self.complexity_evidence.strip():
            return withdrawn(self, "complexity", "complexity_evidence")
        if self.complexity > ORDINARY and not self.hotspots:
            return withdrawn(self, "complexity", "a hotspot")
        return self


ANALYSIS = Analysis(
    name="code_complexity",
    description="How hard source code is to follow and change: each hard place quoted, and whether it need be hard",
    shape=ResultShape.of(CodeComplexity),
    prompts=files("gateway") / "prompts" / "code_complexity",
    prompt_version="v1",
    max_output_tokens=2_500,
    max_content_bytes=200_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.INTERNAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "code_complexity.ts",
        "Written for Assayline.",
        {"file_path": "web/src/rooms/book.ts", "language": "TypeScript"},
    ),
)
