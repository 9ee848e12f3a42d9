"""The parts of a result that tie a judgement to what shows it.

Whoever decides about a person by a result must see what each statement rests on, and what the material is too thin to
say. Two rules keep that. A statement carries its quote within it, so that none can be written without one. And a
verdict, or an item, that nothing in its own answer shows is withdrawn, in the open: withdrawing can only say less than
the model did, and the rest of the answer stands, so nobody pays for asking again.

These parts know nothing of any one analysis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field, StringConstraints

from gateway.analyses.base import MAX_CLAIMS, Result, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

Sentence = Annotated[str, StringConstraints(min_length=1, max_length=4_000, pattern=r"\S")]
"""Something said. Never blank."""

Quote = Sentence
"""A piece of the material, copied. Never blank: a statement without a quote is left out, not left unproved."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"\S")]
"""What the field calls a thing, a few words."""


class Claim(Result):
    """Something said to be shown, after the quote that shows it: evidence first makes a model look before it names."""

    evidence: Quote
    name: Name


Claims = Annotated[list[Claim], Field(max_length=MAX_CLAIMS)]

Percent = Annotated[int, Field(ge=0, le=100)]
"""How sure: 0 is a guess, 100 means the material allows no other reading."""

MOST_WITHDRAWN = 4
"""As many notes as `withdrawn` may add to a full list; no analysis has more rules."""

Unsaid = Annotated[list[Text], Field(max_length=MAX_CLAIMS + MOST_WITHDRAWN)]
"""What the material is too thin to say, one sentence each: so that nobody takes silence for a finding."""

AnyResult = TypeVar("AnyResult", bound=Result)


def withdrawn(result: AnyResult, verdict: str, lacking: str, notes: str = "insufficient_evidence") -> AnyResult:
    """Return the result with one verdict taken back, and said to be; what it was is not repeated, or it would be used.

    Args:
        result: what the model answered.
        verdict: the name of a nullable field.
        lacking: what it came without.
        notes: the name of the list that takes the sentence.
    """
    note = f"{verdict} is withdrawn: it came without {lacking}"
    return result.model_copy(update={verdict: None, notes: [*getattr(result, notes), note]})


def unproved(result: AnyResult, verdicts: Sequence[str], lacking: str) -> AnyResult:
    """Return the result with each of the verdicts that it gives `withdrawn`."""
    for verdict in verdicts:
        if getattr(result, verdict) is not None:
            result = withdrawn(result, verdict, lacking)
    return result


def left_out(
    result: AnyResult, items: str, kept: Sequence[Result], fault: str, notes: str = "insufficient_evidence"
) -> AnyResult:
    """Return the result with only `kept` of a list, and the others said to be withdrawn.

    Args:
        result: what the model answered.
        items: the name of the list.
        kept: those of it that stay.
        fault: what is wrong with the others, after "they".
        notes: the name of the list that takes the sentence.
    """
    gone = len(getattr(result, items)) - len(kept)
    if not gone:
        return result
    note = f"{gone} of {items} withdrawn: they {fault}"
    return result.model_copy(update={items: list(kept), notes: [*getattr(result, notes), note]})


def same(one: str, other: str) -> bool:
    """Whether two names or quotes are the same but for case and the blanks around them."""
    return one.strip().casefold() == other.strip().casefold()
