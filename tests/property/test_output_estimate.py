"""How much output is reserved: enough for nineteen of twenty calls, little more, never more than a call may write."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.estimate import FORGET_AT, GROWTH, MOST_KINDS, OutputEstimates

KIND, OTHER = ("text_classification", "v1", "openai/m"), ("text_classification", "v2", "openai/m")
PLENTY = 10**9
STREAM = 10 * FORGET_AT
NOISE = 0.005
"""More than two standard deviations of a share of 5 % in so many."""
OUTPUTS = st.integers(0, 200_000)


def seen(values: list[int]) -> OutputEstimates:
    estimates = OutputEstimates()
    for value in values:
        estimates.saw(KIND, value)
    return estimates


@given(st.lists(OUTPUTS, max_size=18), st.integers(1, 200_000))
def test_a_cold_start_reserves_all_that_a_call_may_write(values: list[int], max_tokens: int) -> None:
    assert seen(values).tokens(KIND, max_tokens) == max_tokens


@given(st.lists(OUTPUTS, min_size=19, max_size=300), st.integers(1, 200_000))
def test_never_more_than_a_call_may_write(values: list[int], max_tokens: int) -> None:
    assert seen(values).tokens(KIND, max_tokens) <= max_tokens


@given(st.lists(OUTPUTS, min_size=19, max_size=300))
def test_at_least_the_quantile_and_a_twentieth_more_at_most(values: list[int]) -> None:
    exact = sorted(values)[-(-(len(values) + 1) * 19 // 20) - 1]
    found = seen(values).tokens(KIND, PLENTY)
    assert exact <= found <= max(1, exact * GROWTH)


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nineteen_of_twenty_fit(spread: float, seed: int) -> None:
    """One long stream, much of it forgotten: the next value exceeds what was reserved for it once in twenty times."""
    rng, estimates, exceeded = Random(seed), OutputEstimates(), 0
    for _ in range(STREAM):
        value = round(rng.lognormvariate(6, spread))
        exceeded += value > estimates.tokens(KIND, PLENTY)
        estimates.saw(KIND, value)
    assert exceeded / STREAM <= 0.05 + NOISE


def test_kinds_do_not_know_each_other() -> None:
    estimates = seen([100] * 50)
    assert estimates.tokens(KIND, 4_000) == pytest.approx(100, rel=0.05)
    assert estimates.tokens(OTHER, 4_000) == 4_000


def test_what_was_long_ago_is_forgotten() -> None:
    estimates = seen([10_000] * FORGET_AT)
    for _ in range(3 * FORGET_AT):
        estimates.saw(KIND, 100)
    assert estimates.tokens(KIND, PLENTY) == pytest.approx(100, rel=0.05)


def test_the_kinds_are_bounded() -> None:
    estimates = seen([100] * 50)
    for number in range(MOST_KINDS):
        estimates.saw(number, 1)
    assert estimates.tokens(KIND, 4_000) == 4_000
    assert len(estimates._kinds) == MOST_KINDS
