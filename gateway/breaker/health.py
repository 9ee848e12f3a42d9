"""What the outcome of a call says about its provider's health."""

from __future__ import annotations

from enum import StrEnum

from gateway.errors import AuthRejected, GatewayError, Overloaded, QuotaExhausted


class Health(StrEnum):
    """What an outcome says. The scripts know these words."""

    WORKS = "works"
    """It did what it was asked for, and we pay for it."""
    FAILS = "fails"
    OVERLOADED = "overloaded"
    """It fails, for it is short of capacity: fewer calls at once may go."""
    REJECTED = "rejected"
    """The account's key is wrong, or may not do this: no call of it will go."""
    EXHAUSTED = "exhausted"
    """The account has no quota or no money left."""
    SILENT = "silent"
    """Nothing: no call was made, or it was refused for what was asked, by whom, or how fast."""


OF_ACCOUNT = {AuthRejected: Health.REJECTED, QuotaExhausted: Health.EXHAUSTED}
"""What says nothing of a provider, and all of the account that asked."""


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
    for kind, health in OF_ACCOUNT.items():
        if isinstance(error, kind):
            return health
    if error.trips_breaker:
        return Health.OVERLOADED if isinstance(error, Overloaded) else Health.FAILS
    return Health.WORKS if error.paid else Health.SILENT
