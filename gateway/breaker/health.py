"""What the outcome of a call says about its provider's health."""

from __future__ import annotations

from enum import StrEnum

from gateway.errors import GatewayError, Overloaded


class Health(StrEnum):
    """What an outcome says. The scripts know these words."""

    WORKS = "works"
    """It did what it was asked for, and we pay for it."""
    FAILS = "fails"
    OVERLOADED = "overloaded"
    """It fails, for it is short of capacity: fewer calls at once may go."""
    SILENT = "silent"
    """Nothing: no call was made, or it was refused for what was asked, by whom, or how fast."""


def health_of(error: BaseException | None) -> Health:
    """Return what the end of a call says.

    Args:
        error: what it ended with; None: an answer. An answer that is of no use to us (refused by the model, cut,
            against the schema) was given and paid for, so the provider works.
    """
    if error is None:
        return Health.WORKS
    if not isinstance(error, GatewayError):
        return Health.SILENT
    if error.trips_breaker:
        return Health.OVERLOADED if isinstance(error, Overloaded) else Health.FAILS
    return Health.WORKS if error.paid else Health.SILENT
