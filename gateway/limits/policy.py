"""What the fleet does when a provider is overloaded, how many retries it makes, and when it stops: as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.breaker.policy import SECOND_US, BreakerPolicy, Constants

BULK_SHARE = 0.8
"""Of the calls that an account allows at once."""


@dataclass(frozen=True, slots=True)
class OverloadPolicy:
    """How many calls may be open after a provider was overloaded: multiplicative decrease, additive increase.

    Of linear rules these two together come to a share that is fair and used up (D.-M. Chiu, R. Jain, "Analysis of the
    increase and decrease algorithms for congestion avoidance in computer networks", 1989).

    cut: what is left of the calls open at that time, at least one. Between TCP's half (RFC 5681) and the 0.9 of
        Netflix's `AIMDLimit`, and what CUBIC takes (RFC 9438).
    step: of the calls open at the cut, so many more with each round of successes, at least one as in TCP. A cut is
        regained after about twenty rounds.
    forget_s: after so long without a cut nothing is held back any more.
    """

    cut: float = 0.7
    step: float = 0.015
    forget_s: float = 600.0


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How many retries an account's calls may have, over all processes; a call of the next hop is none.

    share: retries for each other call (Google, "Site Reliability Engineering", 2016, chapter 21: 10 % per client).
    most: retries in hand at most, and at the start.
    one_every_s: a retry comes back with time alone, so that a system of few calls can retry, too (the reserve of
        Finagle's `RetryBudget`, there 10 a second). Ten a minute: two hundred calls that failed together at the only
        provider of their chain, with no other calls to pay for them, are all retried within twenty minutes, and not in
        an hour and a half; and against an account of 600 calls a minute it adds less than 2 % to the tenth.
    """

    share: float = 0.1
    most: int = 10
    one_every_s: float = 6.0


@dataclass(frozen=True, slots=True)
class Policy:
    """All that a limiter's scripts go by, beside the limits."""

    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    overload: OverloadPolicy = field(default_factory=OverloadPolicy)
    retries: RetryBudget = field(default_factory=RetryBudget)

    def constants(self) -> Constants:
        """Return it as the scripts take it: times in whole microseconds."""
        retry_us = round(self.retries.one_every_s * SECOND_US)
        return {
            **self.breaker.constants(),
            "bulk_share": BULK_SHARE,
            "cut": self.overload.cut,
            "step": self.overload.step,
            "forget_us": round(self.overload.forget_s * SECOND_US),
            "retry_us": retry_us,
            "deposit_us": round(retry_us * self.retries.share),
            "most_retries_us": self.retries.most * retry_us,
        }
