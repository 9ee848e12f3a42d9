"""job_description: a description of a role from notes about it, which shuts nobody out without need.

What the notes do not say is asked, not made up: no pay, no place, no benefit that nobody named. Wording that is known
to keep people from applying is found by a table, not left to the model's judgement alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Sensitivity, Text
from gateway.analyses.evidence import Name, Sentence, Unsaid
from gateway.analyses.shapes import ResultShape

WORDING: Mapping[str, str] = {
    r"\b(?:young|youthful|recent graduates? only|digital native)\b": "speaks of age",
    r"\bnative (?:english|german|french|speaker)": "asks for origin where a level of the language would do",
    r"\b(?:rock ?star|ninja|guru|hacker|superhero)\b": "is known to keep people from applying",
    r"\b(?:salesman|chairman|manpower|he will|his team)\b": "speaks of one gender",
    r"\b(?:able-bodied|physically fit)\b": "shuts out people with disabilities",
}
"""Wording that a description does without, and why (general equal-treatment law of the EU; J. Gaucher, D. Friesen and
A. Kay, "Evidence That Gendered Wording in Job Advertisements Exists", 2011)."""


class JobDescription(Result):
    """The description, and what is to be asked or worded otherwise before it goes out."""

    title: Name
    summary: Sentence
    responsibilities: Annotated[list[Sentence], Field(max_length=MAX_CLAIMS)]
    required_skills: Annotated[list[Name], Field(max_length=MAX_CLAIMS)]
    preferred_skills: Annotated[list[Name], Field(max_length=MAX_CLAIMS)]
    conditions: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    wording_notes: Annotated[list[Text], Field(max_length=MAX_CLAIMS + len(WORDING))]
    open_questions: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    insufficient_evidence: Unsaid

    @model_validator(mode="after")
    def _wording_is_looked_at(self) -> Self:
        skills = [*self.required_skills, *self.preferred_skills]
        written = "\n".join([self.title, self.summary, *self.responsibilities, *skills, *self.conditions])
        found = [(match[0], why) for rule, why in WORDING.items() if (match := re.search(rule, written, re.IGNORECASE))]
        notes = [note for word, why in found if (note := f"{word!r} {why}") not in self.wording_notes]
        return self.model_copy(update={"wording_notes": [*self.wording_notes, *notes]}) if notes else self


ANALYSIS = Analysis(
    name="job_description",
    description="A description of a role from notes, with nothing made up and wording that shuts nobody out",
    shape=ResultShape.of(JobDescription),
    prompts=files("gateway") / "prompts" / "job_description",
    prompt_version="v1",
    max_output_tokens=2_500,
    max_content_bytes=50_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.INTERNAL,
    temperature=0.3,
    example=Example(
        files("gateway") / "analyses" / "examples" / "job_description.txt",
        "Written for Assayline; the company is made up.",
        {"tone": "plain and friendly"},
    ),
)
