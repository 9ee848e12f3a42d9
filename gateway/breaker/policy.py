"""When a breaker opens, for how long, and who may try whether the provider is well again: as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SECOND_US = 1_000_000
LONGEST_FIRST_OPEN_S, LONGEST_OPEN_S = 20.0, 45.0
"""Bounds of what may be set: a provider that is well again is in service again within a minute."""

PROBE_AGAIN_S = 1.0
"""When to ask again while a probe is under way: how long it takes, nobody knows."""

Constants = Mapping[str, int | float | str]
"""What a script is given, by name."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """What all breakers of a process go by.

    failures_in_a_row: so many open it (Envoy's outlier detection: `consecutive_5xx` 5).
    failure_rate, least_calls: it opens, too, where of at least so many calls this share failed (Hystrix's
        `errorThresholdPercentage` 50 and `requestVolumeThreshold` 20): every other call may fail for ever without five
        failures in a row.
    window_s: how far back calls count for the rate, at most; at least half of it.
    open_s: how long it is open at first (Hystrix's `sleepWindowInMilliseconds`: 5 s).
    growth, longest_open_s: each failed probe makes that longer, up to a bound.
    probe_again_s: see `PROBE_AGAIN_S`.
    forced_again_s: when to ask again while an operator holds it open.
    rejected_s, exhausted_s: how long an account is out whose key was rejected, or that has no quota or money left: no
        failures of the provider's, so the bound of how long those keep it out does not hold.
    """

    failures_in_a_row: int = 5
    failure_rate: float = 0.5
    least_calls: int = 20
    window_s: float = 30.0
    open_s: float = 5.0
    growth: float = 2.0
    longest_open_s: float = 45.0
    probe_again_s: float = PROBE_AGAIN_S
    forced_again_s: float = 10.0
    rejected_s: float = 300.0
    exhausted_s: float = 45.0

    def __post_init__(self) -> None:
        """Refuse what would never open, never close, or stay open longer than is promised."""
        within = {
            "failures_in_a_row": self.failures_in_a_row >= 1,
            "failure_rate": 0 < self.failure_rate <= 1,
            "least_calls": self.least_calls >= 1,
            "window_s": self.window_s > 0,
            "open_s": 0 < self.open_s <= LONGEST_FIRST_OPEN_S,
            "growth": self.growth >= 1,
            "longest_open_s": self.open_s <= self.longest_open_s <= LONGEST_OPEN_S,
            "probe_again_s": self.probe_again_s > 0,
            "forced_again_s": self.forced_again_s > 0,
            "rejected_s": self.rejected_s > 0,
            "exhausted_s": self.exhausted_s > 0,
        }
        if wrong := [name for name, right in within.items() if not right]:
            raise ValueError(f"a breaker cannot go by this {wrong[0]}: {getattr(self, wrong[0])}")

    def constants(self) -> Constants:
        """Return it as the scripts take it: times in whole microseconds."""
        return {
            "failures_in_a_row": self.failures_in_a_row,
            "failure_rate": self.failure_rate,
            "least_calls": self.least_calls,
            "span_us": round(self.window_s / 2 * SECOND_US),
            "open_us": round(self.open_s * SECOND_US),
            "growth": self.growth,
            "longest_open_us": round(self.longest_open_s * SECOND_US),
            "probe_again_us": round(self.probe_again_s * SECOND_US),
            "forced_again_us": round(self.forced_again_s * SECOND_US),
            "rejected_us": round(self.rejected_s * SECOND_US),
            "rejected_reason": "the key was rejected",
            "exhausted_us": round(self.exhausted_s * SECOND_US),
            "exhausted_reason": "its quota is used up",
        }
