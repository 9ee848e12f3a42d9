"""The decisions of a strict provider: which call is let in, and what is counted of it, when. Pure; the clock is given.

Which kinds there are, and what a call counts of each, goes by the provider that is named:

    openai      requests; tokens: input and `max_tokens` together, on arrival, nothing given back
    anthropic   requests; input tokens on arrival; output tokens as they are produced, over the call's duration

A call that is refused counts nothing. A call whose caller has gone goes on to its end: what is produced is counted.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ops.bench.strict.meter import Meter


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it arrives: its input, what it may write at most, what it will write, and for how long it takes."""

    input_tokens: int
    max_tokens: int
    output_tokens: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class Kind:
    """What is counted: an amount on arrival, or, where there is none, the output as it is produced."""

    name: str
    on_arrival: Callable[[Call], int] | None = None


COUNTED: Mapping[str, tuple[Kind, ...]] = {
    "openai": (
        Kind("requests", lambda _: 1),
        Kind("tokens", lambda call: call.input_tokens + call.max_tokens),
    ),
    "anthropic": (
        Kind("requests", lambda _: 1),
        Kind("input_tokens", lambda call: call.input_tokens),
        Kind("output_tokens"),
    ),
}
"""By provider. The names are those of the catalog's limits without their unit."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that was not let in: what there was too little of, and after how many seconds it would be enough."""

    kind: str
    wait_s: float


class StrictLimits:
    """One account."""

    def __init__(self, provider: str, per_min: Mapping[str, float], clock: Callable[[], float]) -> None:
        """Make an account with full buckets.

        Args:
            provider: a key of `COUNTED`.
            per_min: the limits by kind; a kind without one is counted and not limited.
            clock: seconds; must not go back.

        Raises:
            ValueError: the provider is unknown, or counts no such kind.
        """
        if provider not in COUNTED:
            raise ValueError(f"no provider {provider!r}; there are {', '.join(COUNTED)}")
        self._kinds = {kind.name: kind for kind in COUNTED[provider]}
        if unknown := per_min.keys() - self._kinds.keys():
            raise ValueError(f"{provider} does not count {', '.join(sorted(unknown))}")
        self.provider = provider
        self._per_min = dict(per_min)
        self._clock = clock
        self.start()

    def start(self) -> None:
        """Begin anew: full buckets, an empty minute, no record. Calls that are open are forgotten."""
        self._begun_s = self._clock()
        self.meters = {name: Meter(self._per_min.get(name, float("inf")), self._begun_s) for name in self._kinds}
        self._ends: list[tuple[float, float]] = []
        self._refused: list[tuple[float, str]] = []
        self._most_open = 0
        self._highest = dict.fromkeys(self._kinds, 0.0)

    def arrive(self, call: Call) -> Refusal | None:
        """Let a call in, or refuse it."""
        self.advance()
        amounts = {name: kind.on_arrival(call) if kind.on_arrival else 0 for name, kind in self._kinds.items()}
        lacking = [name for name, amount in amounts.items() if not self.meters[name].allows(amount)]
        if lacking:
            waits = {name: self.meters[name].wait_s(amounts[name]) for name in lacking}
            longest = max(waits, key=lambda name: waits[name])
            self._refused.append((self._now_s, longest))
            return Refusal(longest, waits[longest])
        for name, amount in amounts.items():
            self.meters[name].take(amount)
        self._open(call)
        self._note_highest()
        return None

    def advance(self) -> None:
        """Count what was produced until now."""
        now_s = self._clock()
        while self._ends and self._ends[0][0] <= now_s:
            ended_s, per_s = heapq.heappop(self._ends)
            self._count_until(ended_s)
            self._produce(-per_s)
            self._note_highest()
        self._count_until(now_s)

    def record(self) -> dict[str, Any]:
        """Everything since `start`, by whole seconds, the one under way left out.

        Returns:
            `counted`: by kind, what was counted in each second; `refused`: calls refused in each second; `refused_for`:
            by kind, all of them; `most_open`: calls open at once; `highest_minute`: by kind, the most that any sixty
            seconds held; `per_min`: the limits.
        """
        self.advance()
        seconds = int(self._now_s - self._begun_s)
        edges = [self._begun_s + second for second in range(1, seconds + 1)]
        refused, refused_for = [0] * seconds, dict.fromkeys(self._kinds, 0)
        for at_s, kind in self._refused:
            refused_for[kind] += 1
            if (second := int(at_s - self._begun_s)) < seconds:
                refused[second] += 1
        self._note_highest()
        return {
            "counted": {name: _steps([0.0, *map(meter.until, edges)]) for name, meter in self.meters.items()},
            "refused": refused,
            "refused_for": refused_for,
            "most_open": self._most_open,
            "highest_minute": dict(self._highest),
            "per_min": dict(self._per_min),
        }

    @property
    def _now_s(self) -> float:
        return next(iter(self.meters.values())).now_s

    def _count_until(self, at_s: float) -> None:
        for meter in self.meters.values():
            meter.advance(at_s)

    def _open(self, call: Call) -> None:
        """Produce a call's output evenly over its duration."""
        per_s = call.output_tokens / call.duration_s
        self._produce(per_s)
        heapq.heappush(self._ends, (self._now_s + call.duration_s, per_s))
        self._most_open = max(self._most_open, len(self._ends))

    def _produce(self, per_s: float) -> None:
        for name, kind in self._kinds.items():
            if kind.on_arrival is None:
                self.meters[name].produce(per_s)

    def _note_highest(self) -> None:
        """A minute's amount peaks where an amount has come or a slope changes, but for what leaves at its other end."""
        for name, meter in self.meters.items():
            self._highest[name] = max(self._highest[name], meter.in_minute())


def _steps(totals: list[float]) -> list[float]:
    """What each second added, to a thousandth: JSON of a whole run stays small."""
    return [round(then - before, 3) for before, then in pairwise(totals)]
