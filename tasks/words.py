"""The words of requests: what a text, an id, an amount or an option may be, wherever it comes in from outside.

The bounds of options are those of `assayline_enqueue`, which judges every job whichever way it comes. Here they are
told to those who read the OpenAPI document, and a caller gets all that is wrong at once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

JsonMap = dict[str, Any]


class Closed(BaseModel):
    """Base of what comes in: unknown names are refused, and nothing is converted ("5" is no number)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @property
    def said(self) -> JsonMap:
        """What was given, as JSON: nothing that is null or absent."""
        return {name: value for name, value in self.model_dump(mode="json").items() if value is not None}


def text(longest: int, *, shortest: int = 0) -> StringConstraints:
    """A bound of a text, in characters."""
    return StringConstraints(min_length=shortest, max_length=longest)


def word(longest: int, *, shortest: int = 0) -> StringConstraints:
    """A bound of a text that is looked for: nothing stored has U+0000, and Postgres cannot even ask for it."""
    return StringConstraints(min_length=shortest, max_length=longest, pattern=r"^[^\x00]*$")


Word = Annotated[str, word(200, shortest=1)]

JOB_ID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
"""An id as it is written here. Python's UUID reads braces and URNs as well; one job has one address."""

IdText = Annotated[str, StringConstraints(pattern=JOB_ID), Field(examples=["01939f6e-7b1a-7c3e-9a51-4d2f6c8e0b17"])]
"""Text rather than UUID: the pattern is what is documented, and what is checked."""

Usd = (
    Annotated[float, Field(ge=0.000001, le=999_999)]
    | Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$")]
)
"""US dollars, as a number or, that nothing is rounded, as a text."""

BRANCHES = frozenset({"float", "str", "constrained-float", "constrained-str"})
"""How pydantic names the branches of a field that takes a number or a text; no field is called so."""

Lane = Literal["interactive", "bulk"]
Priority = Annotated[int, Field(ge=0, le=9)]
MaxTokens = Annotated[int, Field(ge=1, le=1_000_000)]
MaxAttempts = Annotated[int, Field(ge=1, le=20)]
Hops = Field(min_length=1, max_length=10)
"""How long a chain of models may be."""
Key = Annotated[str, word(255, shortest=1)]
"""An idempotency key."""
