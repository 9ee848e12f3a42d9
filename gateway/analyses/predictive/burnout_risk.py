"""burnout_risk: strain that shows in the rhythm of somebody's work, and which conditions it points to.

No diagnosis: it reads calendars and commits, not people. Late hours may be another time zone or a choice, so without a
zone the hours say nothing. What it recommends is aimed at the work, never at the person.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Sensitivity, Text
from gateway.analyses.evidence import Name, Percent, Quote, Sentence, Unsaid, withdrawn
from gateway.analyses.shapes import ResultShape


class Strain(StrEnum):
    """Where strain shows."""

    LOAD = "load"
    """More at once than before."""
    HOURS = "hours"
    """Work at times that are not this person's usual ones."""
    RECOVERY = "recovery"
    """Days off and breaks that go missing."""
    INTERRUPTIONS = "interruptions"
    SUPPORT = "support"
    """Alone with what others shared before."""


class Signal(Result):
    """One sign of strain, with the weeks it shows in."""

    evidence: Quote
    signal: Name
    strain: Strain
    weeks: Annotated[int, Field(ge=1, le=104)]


class Relief(Result):
    """A change of conditions that a manager can make, after the strain it is meant for."""

    strain: Strain
    recommendation: Sentence


class BurnoutRisk(Result):
    """Signals, other readings of them, relief, and a score (0 none, 100 severe) that says how much strain is shown."""

    signals: Annotated[list[Signal], Field(max_length=MAX_CLAIMS)]
    other_explanations: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    protective: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    recommendations: Annotated[list[Relief], Field(max_length=MAX_CLAIMS)]
    insufficient_evidence: Unsaid
    risk_score: Percent | None
    confidence_percent: Percent

    @model_validator(mode="after")
    def _a_score_rests_on_signals(self) -> Self:
        if self.risk_score and not self.signals:
            return withdrawn(self, "risk_score", "signals")
        return self


ANALYSIS = Analysis(
    name="burnout_risk",
    description="Strain that shows in the rhythm of somebody's work, with other readings, and conditions to change",
    shape=ResultShape.of(BurnoutRisk),
    prompts=files("gateway") / "prompts" / "burnout_risk",
    prompt_version="v1",
    max_output_tokens=2_500,
    max_content_bytes=200_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.PERSONAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "burnout_risk.txt",
        "Written for Assayline; the person and the weeks are made up.",
        {"timezone": "Europe/Lisbon", "usual_hours": "09:00 to 18:00"},
    ),
)
