"""burnout_risk: strain that shows in the rhythm of somebody's work, and which conditions it points to.

No diagnosis: it reads calendars and commits, not people. Late hours may be another time zone or a choice, so without a
zone the hours say nothing. What it recommends is aimed at the work, never at the person.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Ask, Example, Result, Sensitivity, Text
from gateway.analyses.evidence import Name, Percent, Quote, Sentence, Unsaid, left_out, withdrawn
from gateway.analyses.shapes import ResultShape

FEWEST_WEEKS = 2
"""A sign that shows in one week alone does not last, whatever its strength."""


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
    def _all_rests_on_signals(self) -> Self:
        return self.resting_on_signals()

    def resting_on_signals(self) -> Self:
        """Return it without what no signal shows."""
        shown = {one.strain for one in self.signals}
        relief = [one for one in self.recommendations if one.strain in shown]
        kept = left_out(self, "recommendations", relief, "relieve no strain that a signal shows")
        lasting = any(one.weeks >= FEWEST_WEEKS for one in self.signals)
        return withdrawn(kept, "risk_score", "a signal that lasts") if self.risk_score and not lasting else kept


class WithoutZone(BurnoutRisk):
    """The same where nobody said which time zone the hours are in: they may be anybody's office hours."""

    @model_validator(mode="after")
    def _no_hours(self) -> Self:
        kept = [one for one in self.signals if one.strain is not Strain.HOURS]
        return left_out(self, "signals", kept, "speak of hours, and no time zone is given").resting_on_signals()


ZONED, UNZONED = ResultShape.of(BurnoutRisk), ResultShape.of(WithoutZone)


def shape_for(ask: Ask) -> ResultShape:
    """Return the shape in which hours count where the context has a time zone."""
    return ZONED if ask.context.get("timezone") else UNZONED


ANALYSIS = Analysis(
    name="burnout_risk",
    description="Strain that shows in the rhythm of somebody's work, with other readings, and conditions to change",
    shape=shape_for,
    fixed_schema=ZONED.schema,
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
