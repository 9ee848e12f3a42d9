"""What a check found, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it is. `noted` is neither good nor bad; `odd` works and may surprise; `wrong` does not work."""

    GOOD = "good"
    NOTED = "noted"
    ODD = "odd"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what stands there and, unless it is good, what to do."""

    verdict: Verdict
    subject: str
    said: str
    mend: str = ""

    def as_json(self) -> dict[str, str | None]:
        """The finding as `assayline doctor --json` writes it."""
        return {"verdict": self.verdict, "subject": self.subject, "said": self.said, "mend": self.mend or None}


def good(subject: str, said: str) -> Finding:
    """All is as it should be."""
    return Finding(Verdict.GOOD, subject, said)


def noted(subject: str, said: str) -> Finding:
    """Worth knowing, no more."""
    return Finding(Verdict.NOTED, subject, said)


def odd(subject: str, said: str, mend: str) -> Finding:
    """It works, and somebody should know."""
    return Finding(Verdict.ODD, subject, said, mend)


def wrong(subject: str, said: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(Verdict.WRONG, subject, said, mend)
