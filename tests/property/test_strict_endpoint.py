"""The strict endpoint against the plainest reading of its rules: a bucket, and a minute of what was let in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench.strict.limits import Call, StrictLimits

LIMIT = 100
GAPS_S = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 5.0, 15.0, 59.75, 60.0])
"""Fractions of two: the plain reading and the meter must agree on what is exactly a minute old."""
ARRIVALS = st.lists(st.tuples(GAPS_S, st.integers(1, 60)), max_size=60)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@given(ARRIVALS)
def test_arrivals_are_let_in_by_bucket_and_sliding_minute(arrivals: list[tuple[float, int]]) -> None:
    clock = Clock()
    limits = StrictLimits("anthropic", {"input_tokens": LIMIT}, clock)
    taken: list[tuple[float, int]] = []
    level = float(LIMIT)
    for gap_s, amount in arrivals:
        clock.now_s += gap_s
        level = min(LIMIT, level + gap_s * LIMIT / 60)
        in_minute = sum(size for at_s, size in taken if at_s > clock.now_s - 60)
        fits = amount <= level + 1e-6 and amount + in_minute <= LIMIT
        refusal = limits.arrive(Call(amount, 1, 0, 1.0))
        assert (refusal is None) is fits
        if fits:
            taken.append((clock.now_s, amount))
            level -= amount


@given(ARRIVALS, st.integers(1, LIMIT))
def test_who_comes_again_when_told_is_let_in_and_not_before(arrivals: list[tuple[float, int]], amount: int) -> None:
    clock = Clock()
    limits = StrictLimits("anthropic", {"input_tokens": LIMIT}, clock)
    for gap_s, size in arrivals:
        clock.now_s += gap_s
        limits.arrive(Call(size, 1, 0, 1.0))
    refusal = limits.arrive(Call(amount, 1, 0, 1.0))
    if refusal is not None:
        told_s = clock.now_s + refusal.wait_s
        clock.now_s = told_s - min(0.01, refusal.wait_s / 2)
        assert limits.arrive(Call(amount, 1, 0, 1.0)) is not None
        clock.now_s = told_s + 1e-6
        assert limits.arrive(Call(amount, 1, 0, 1.0)) is None


@given(st.lists(st.tuples(GAPS_S, st.integers(1, 60), st.sampled_from([0.5, 2.0, 40.0, 90.0])), max_size=40))
def test_output_is_counted_evenly_over_a_calls_duration(calls: list[tuple[float, int, float]]) -> None:
    clock = Clock()
    limits = StrictLimits("anthropic", {"output_tokens": LIMIT}, clock)
    taken: list[tuple[float, int, float]] = []
    at_s, level = 0.0, float(LIMIT)

    def produced(since_s: float, to_s: float) -> float:
        shares = ((min(to_s, at + long_s) - max(since_s, at)) / long_s * tokens for at, tokens, long_s in taken)
        return sum(share for share in shares if share > 0)

    for gap_s, tokens, long_s in calls:
        clock.now_s += gap_s
        # The bucket overflows between two changes of what is produced, nowhere else.
        changes = sorted({clock.now_s, *(at + long for at, _, long in taken if at_s < at + long < clock.now_s)})
        for change in changes:
            level = min(LIMIT, level + (change - at_s) * LIMIT / 60 - produced(at_s, change))
            at_s = change
        in_minute = produced(clock.now_s - 60, clock.now_s)
        refusal = limits.arrive(Call(1, 1, tokens, long_s))
        meter = limits.meters["output_tokens"]
        assert meter.in_minute() == pytest.approx(in_minute, abs=1e-6)
        assert meter.level == pytest.approx(level, abs=1e-6)
        if min(abs(level), abs(in_minute - LIMIT)) > 1e-6:  # nearer than that, rounding decides
            assert (refusal is None) is (level > 0 and in_minute < LIMIT)
        if refusal is None:
            taken.append((clock.now_s, tokens, long_s))
    clock.now_s += 1_000
    total = sum(tokens for _, tokens, _ in taken)
    assert sum(limits.record()["counted"]["output_tokens"]) == pytest.approx(total, abs=1.0)
