"""task_signals: what the description of a task says about the work: what it demands, what is missing, how hard it is.

It reads the description only. It names nobody to do the work, and gives no hours: a text about a task holds none that
could be relied on.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Score, Sensitivity, Text
from gateway.analyses.evidence import Claims, Name, Quote, Unsaid, withdrawn
from gateway.analyses.shapes import ResultShape

READY = 8
"""From this clarity on, work may begin with nothing to ask. Whoever gives less can say what is to be asked."""


class TaskType(StrEnum):
    """What kind of work a task is."""

    FEATURE = "feature"
    FIX = "fix"
    REFACTORING = "refactoring"
    RESEARCH = "research"
    OPERATIONS = "operations"
    DOCUMENTATION = "documentation"
    OTHER = "other"


class Source(StrEnum):
    """How a demand is known."""

    STATED = "stated"
    """In so many words."""
    IMPLIED = "implied"
    """The work described cannot be done without it."""


class Demand(Result):
    """A skill the work takes, after the words that show it."""

    evidence: Quote
    name: Name
    source: Source


class TaskSignals(Result):
    """What is said and what is not; the scores follow from it. `complexity` is null where no work is described."""

    task_type_evidence: Text
    task_type: TaskType
    skills: Annotated[list[Demand], Field(max_length=MAX_CLAIMS)]
    acceptance_criteria: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    dependencies: Claims
    risks: Claims
    deadline: Text | None
    open_questions: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    insufficient_evidence: Unsaid
    complexity_evidence: Text
    complexity: Score | None
    clarity: Score | None

    @model_validator(mode="after")
    def _scores_rest_on_something(self) -> Self:
        kept = self
        if self.complexity is not None and not self.complexity_evidence.strip():
            kept = withdrawn(kept, "complexity", "complexity_evidence")
        if self.clarity is not None and self.clarity < READY and not self.open_questions:
            kept = withdrawn(kept, "clarity", "open_questions")
        return kept


ANALYSIS = Analysis(
    name="task_signals",
    description="What a task's description demands and leaves open: skills, criteria, risks, questions, complexity",
    shape=ResultShape.of(TaskSignals),
    prompts=files("gateway") / "prompts" / "task_signals",
    prompt_version="v1",
    max_output_tokens=2_500,
    max_content_bytes=50_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.INTERNAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "task_signals.md",
        "Written for Assayline; the project is made up.",
        {"project": "a booking service for meeting rooms"},
    ),
)
