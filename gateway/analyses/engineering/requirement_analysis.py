"""requirement_analysis: what a text really asks for, and what must be asked back before anybody builds it.

A requirement keeps its words beside it. What two readers would read differently is an ambiguity, not something to be
decided here.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Sensitivity, Text
from gateway.analyses.evidence import Quote, Sentence, Unsaid
from gateway.analyses.shapes import ResultShape


class Priority(StrEnum):
    """As the text has it; `unstated` where it says nothing."""

    UNSTATED = "unstated"
    MUST = "must"
    SHOULD = "should"
    COULD = "could"


class Requirement(Result):
    """One thing asked for, in one testable sentence after the words that ask for it."""

    evidence: Quote
    requirement: Sentence
    priority: Priority


class Ambiguity(Result):
    """Words that can be read in two ways, and the question that decides between them."""

    evidence: Quote
    readings: Sentence
    question: Sentence


class RequirementAnalysis(Result):
    """What is asked for, how it would be accepted, what is unclear; ready only where nothing is."""

    functional: Annotated[list[Requirement], Field(max_length=MAX_CLAIMS)]
    non_functional: Annotated[list[Requirement], Field(max_length=MAX_CLAIMS)]
    acceptance_criteria: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    ambiguities: Annotated[list[Ambiguity], Field(max_length=MAX_CLAIMS)]
    conflicts: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    out_of_scope: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    insufficient_evidence: Unsaid
    ready: bool

    @model_validator(mode="after")
    def _ready_means_nothing_to_ask(self) -> Self:
        asked = self.ambiguities or self.conflicts or not (self.functional or self.non_functional)
        if self.ready and asked:
            note = "ready is taken back: there is something to ask first"
            notes = [*self.insufficient_evidence, note]
            return self.model_copy(update={"ready": False, "insufficient_evidence": notes})
        return self


ANALYSIS = Analysis(
    name="requirement_analysis",
    description="What a text asks for, each requirement with its words, and what must be asked back first",
    shape=ResultShape.of(RequirementAnalysis),
    prompts=files("gateway") / "prompts" / "requirement_analysis",
    prompt_version="v1",
    max_output_tokens=3_000,
    max_content_bytes=100_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.INTERNAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "requirement_analysis.txt",
        "Written for Assayline; the product is made up.",
        {"product": "a library's lending system"},
    ),
)
