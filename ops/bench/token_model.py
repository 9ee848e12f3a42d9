"""How a token limit is best kept: algorithms against a strict endpoint, in virtual time. The figures of ADR 0010.

    python -m ops.bench.token_model

The endpoint counts output as it is produced, by a token bucket of a minute's worth AND a sliding minute, and refuses a
call where either is used up. Callers are never short of work; a refusal makes them wait a second. Outputs vary
twenty-fold (log-uniform, 100 to 2,000 tokens). Short calls take up to 2 s, long ones 2 to 40 s, in step with their
output.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from gateway.catalog_entries import Limits
from gateway.limits.rates import Need, buckets

MINUTE_S = 60.0
STEP_S, LONG_STEP_S = 0.01, 0.05
FIRST_S, LAST_S = 60.0, 300.0
"""Minutes two to five are measured."""
SMALLEST, SPREAD = 100.0, 20.0
CLOSED_S = 1.0
SEEDS = (1, 2, 3)
LIMITS = (100_000, 300_000, 1_000_000)

Load = Callable[[Random], tuple[float, float]]


def short(rng: Random) -> tuple[float, float]:
    """Tokens and seconds of a call of 0.6 to 2 s."""
    factor = math.exp(rng.uniform(0.0, math.log(SPREAD)))
    return SMALLEST * factor, 0.5 + 1.5 * factor / SPREAD


def long(rng: Random) -> tuple[float, float]:
    """Tokens and seconds of a call of 2 to 40 s."""
    factor = math.exp(rng.uniform(0.0, math.log(SPREAD)))
    return SMALLEST * factor, 2.0 * factor


@dataclass(frozen=True, slots=True)
class Known:
    """What a limiter knows of outputs before a call: mean and 95th percentile."""

    mean: float
    p95: float

    @classmethod
    def of(cls, load: Load) -> Known:
        """From a sample of the load."""
        rng = Random(0)
        sample = sorted(load(rng)[0] for _ in range(4_000))
        return cls(sum(sample) / len(sample), sample[int(0.95 * len(sample))])


class Minute:
    """What was counted in the last minute, in slots of `slot_s`; a slot goes when it is out as a whole."""

    def __init__(self, slot_s: float) -> None:
        self._slot_s = slot_s
        self._slots: deque[tuple[int, float]] = deque()
        self._total = 0.0

    def add(self, at_s: float, amount: float) -> None:
        """Count an amount."""
        self._slots.append((math.floor(at_s / self._slot_s), amount))
        self._total += amount

    def total(self, now_s: float) -> float:
        """What was counted since a minute ago."""
        while self._slots and (self._slots[0][0] + 1) * self._slot_s <= now_s - MINUTE_S:
            self._total -= self._slots.popleft()[1]
        return self._total


class Algorithm(Protocol):
    """Decides which call may go, and hears what it has used."""

    def admits(self, now_s: float) -> bool:
        """Reserve for a call, or say no."""
        ...

    def ended(self, now_s: float, used: float) -> None:
        """A call has ended, and used so many tokens."""
        ...


class Gcra:
    """A virtual schedule (GCRA). `reserved` tokens are taken before a call, the difference is settled after it."""

    def __init__(self, rate: float, room: float, reserved: float) -> None:
        self._rate = rate
        self._room = max(room, reserved)
        self._reserved = reserved
        self._tat_s = 0.0

    def admits(self, now_s: float) -> bool:
        """See `Algorithm.admits`."""
        tat_s = max(self._tat_s, now_s) + self._reserved / self._rate
        if tat_s - now_s > self._room / self._rate:
            return False
        self._tat_s = tat_s
        return True

    def ended(self, now_s: float, used: float) -> None:
        """See `Algorithm.ended`."""
        self._tat_s += (used - self._reserved) / self._rate


class Window:
    """A minute of 240 slots: what ended in it, and what is reserved for the calls that are open."""

    def __init__(self, limit: float, reserved: float) -> None:
        self._limit = limit
        self._reserved = reserved
        self._open = 0
        self._minute = Minute(0.25)

    def admits(self, now_s: float) -> bool:
        """See `Algorithm.admits`."""
        if self._minute.total(now_s) + (self._open + 1) * self._reserved > self._limit:
            return False
        self._open += 1
        return True

    def ended(self, now_s: float, used: float) -> None:
        """See `Algorithm.ended`."""
        self._open -= 1
        self._minute.add(now_s, used)


@dataclass(slots=True)
class Endpoint:
    """The provider. `open` holds begin, end and tokens a second of each call."""

    limit: float
    level: float = field(init=False)
    at_s: float = 0.0
    produced: float = 0.0
    highest: float = 0.0
    open: list[tuple[float, float, float]] = field(default_factory=list)
    minute: Minute = field(default_factory=lambda: Minute(LONG_STEP_S))

    def __post_init__(self) -> None:
        self.level = self.limit

    def takes(self, now_s: float, tokens: float, duration_s: float) -> bool:
        """Whether a call is let in."""
        if self.level <= 0 or self.minute.total(now_s) >= self.limit:
            return False
        self.open.append((now_s, now_s + duration_s, tokens / duration_s))
        return True

    def advance(self, now_s: float) -> None:
        """Produce until now."""
        while self.at_s + LONG_STEP_S <= now_s + 1e-9:
            since_s, self.at_s = self.at_s, self.at_s + LONG_STEP_S
            made = sum(
                rate * (min(end, self.at_s) - max(begin, since_s))
                for begin, end, rate in self.open
                if begin < self.at_s
            )
            self.open = [call for call in self.open if call[1] > self.at_s]
            self.level = min(self.limit, self.level + self.limit * LONG_STEP_S / MINUTE_S) - made
            self.minute.add(since_s, made)
            self.highest = max(self.highest, self.minute.total(self.at_s))
            if FIRST_S < self.at_s <= LAST_S:
                self.produced += made


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a run: share of the limit used, share of the calls refused, the highest minute as a share, calls open."""

    use: float
    refused: float
    highest: float
    most_open: int


def run(algorithm: Algorithm, load: Load, limit: float, seed: int) -> Outcome:
    """Five minutes of one load under one algorithm."""
    rng, endpoint = Random(seed), Endpoint(limit)
    ends: list[tuple[float, float]] = []
    calls = refused = most_open = 0
    now_s = closed_until_s = 0.0
    while now_s < LAST_S:
        while ends and ends[0][0] <= now_s:
            ended_s, tokens = heapq.heappop(ends)
            algorithm.ended(ended_s, tokens)
        while now_s >= closed_until_s and algorithm.admits(now_s):
            tokens, duration_s = load(rng)
            calls += 1
            if endpoint.takes(now_s, tokens, duration_s):
                heapq.heappush(ends, (now_s + duration_s, tokens))
            else:
                refused += 1
                algorithm.ended(now_s, 0.0)
                closed_until_s = now_s + CLOSED_S
        most_open = max(most_open, len(ends))
        now_s += STEP_S
        endpoint.advance(now_s)
    minutes = (LAST_S - FIRST_S) / MINUTE_S
    return Outcome(endpoint.produced / (minutes * limit), refused / calls, endpoint.highest / limit, most_open)


def ours(limit: int, known: Known) -> Algorithm:
    """As `gateway.limits` does it."""
    need = Need(0, 0, round(known.p95))
    [bucket] = buckets(Limits(output_tokens_per_min=limit), need, largest=need)
    return Gcra(bucket.per_min / MINUTE_S, bucket.room, known.p95)


ALGORITHMS: dict[str, Callable[[int, Known], Algorithm]] = {
    "GCRA, p95, room for 4 calls (ours)": ours,
    "GCRA, p95, room 2 %": lambda limit, known: Gcra(0.98 * limit / MINUTE_S, 0.02 * limit, known.p95),
    "GCRA, mean, room 2 %": lambda limit, known: Gcra(0.98 * limit / MINUTE_S, 0.02 * limit, known.mean),
    "window, p95": lambda limit, known: Window(limit, known.p95),
    "window, mean": lambda limit, known: Window(limit, known.mean),
}


def main() -> None:
    """Print the table."""
    say = sys.stdout.write
    say("| limit/min | calls | algorithm | used | refused | highest minute | open at most |\n")
    say("|---|---|---|---|---|---|---|\n")
    for limit in LIMITS:
        for load in (short, long):
            known = Known.of(load)
            for name, make in ALGORITHMS.items():
                found = [run(make(limit, known), load, limit, seed) for seed in SEEDS]
                shares = (
                    " ".join(f"{100 * one.use:.1f}" for one in found),
                    " ".join(f"{100 * one.refused:.2f}" for one in found),
                    " ".join(f"{100 * one.highest:.0f}" for one in found),
                )
                most_open = max(one.most_open for one in found)
                say(f"| {limit:,} | {load.__name__} | {name} | {' % | '.join(shares)} % | {most_open} |\n")


if __name__ == "__main__":
    main()
