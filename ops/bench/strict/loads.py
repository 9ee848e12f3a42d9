"""The loads that a strict endpoint is put under, as data: what its account allows, and what its calls are like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

LARGE = 4_000_000
"""A limit on tokens that is kept and never met: what is measured is another kind."""


@dataclass(frozen=True, slots=True)
class Load:
    """One load.

    provider: whose way of counting, and whose protocol our workers speak; see `limits.COUNTED`.
    per_min: the account's limits by kind. bound_by: the kind whose use is measured.
    smallest_tokens, spread: outputs, log-uniform from the smallest to `spread` times as much.
    shortest_s, longest_s: how long calls take, in step with their output.
    least_use, most_refused: what is to be reached, as shares of the limit and of the calls.
    least_use_killed: the same use where a worker of four is killed every twenty seconds: less what is lost with each.
    calls_at_once: what the account allows of them; the endpoint counts, and does not refuse. None: any number.
    """

    name: str
    provider: str
    per_min: Mapping[str, int]
    bound_by: str
    smallest_tokens: int
    spread: float
    shortest_s: float
    longest_s: float
    least_use: float
    most_refused: float
    least_use_killed: float = 0.0
    calls_at_once: int | None = None

    @property
    def limit(self) -> int:
        """What a minute allows of the kind that is measured."""
        return self.per_min[self.bound_by]

    @property
    def max_tokens(self) -> int:
        """What callers let a call write: its longest output."""
        return round(self.smallest_tokens * self.spread)

    @property
    def mean_tokens(self) -> float:
        """A call's output in the mean of the distribution."""
        if self.spread == 1:
            return self.smallest_tokens
        return self.smallest_tokens * (self.spread - 1) / math.log(self.spread)

    @property
    def calls_per_min(self) -> float:
        """How many calls use up the limit."""
        return self.limit if self.bound_by == "requests" else self.limit / self.mean_tokens

    @property
    def calls_open(self) -> float:
        """How many of them are open at once, in the mean."""
        share = (self.mean_tokens / self.smallest_tokens - 1) / (self.spread - 1) if self.spread > 1 else 0.0
        mean_s = self.shortest_s + (self.longest_s - self.shortest_s) * share
        return self.calls_per_min / 60 * mean_s

    def draw(self, rng: Random) -> tuple[int, float]:
        """One call: what it writes, and for how many seconds."""
        factor = math.exp(rng.uniform(0.0, math.log(self.spread)))
        share = (factor - 1) / (self.spread - 1) if self.spread > 1 else 0.0
        return round(self.smallest_tokens * factor), self.shortest_s + (self.longest_s - self.shortest_s) * share

    def as_json(self) -> dict[str, Any]:
        """The load as an endpoint's process is given it."""
        return asdict(self)


LOADS: Mapping[str, Load] = {
    load.name: load
    for load in (
        Load("requests", "openai", {"requests": 600, "tokens": LARGE}, "requests", 20, 3, 0.3, 0.8, 0.98, 0.0, 0.97),
        Load(
            "short", "anthropic", {"requests": 10_000, "input_tokens": LARGE, "output_tokens": 1_000_000},
            "output_tokens", 100, 20, 0.6, 2.0, 0.98, 0.001, 0.92,
        ),
        Load(
            "long", "anthropic", {"requests": 10_000, "input_tokens": LARGE, "output_tokens": 1_000_000},
            "output_tokens", 100, 20, 2.0, 40.0, 0.80, 0.0, 0.80,
        ),
    )
}  # fmt: skip
"""By name. Outputs of the token-bound ones vary twenty-fold, 634 tokens in the mean: about 1,580 calls a minute."""
