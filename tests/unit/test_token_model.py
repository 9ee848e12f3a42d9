"""The model behind ADR 0010: what it says of the algorithms must stay so."""

from __future__ import annotations

import pytest

from ops.bench.token_model import ALGORITHMS, Known, Load, Outcome, long, run, short

LOADS = pytest.mark.parametrize("load", [short, long])
OURS = "GCRA, p95, room for 4 calls (ours)"


def outcome(name: str, load: Load, limit: int) -> Outcome:
    return run(ALGORITHMS[name](limit, Known.of(load)), load, limit, seed=7)


@LOADS
@pytest.mark.parametrize(("limit", "least"), [(100_000, 0.89), (1_000_000, 0.975)])
def test_ours_uses_the_limit_and_is_never_refused(load: Load, limit: int, least: float) -> None:
    found = outcome(OURS, load, limit)
    assert found.refused == 0
    assert found.highest <= 1
    assert found.use >= least


def test_a_window_of_reservations_wastes_a_third_on_long_calls() -> None:
    assert outcome("window, p95", long, 1_000_000).use < 0.7


@LOADS
def test_reserving_the_mean_oversteps(load: Load) -> None:
    assert outcome("GCRA, mean, room 2 %", load, 100_000).refused > 0
    assert outcome("window, mean", load, 100_000).highest > 1.2


@LOADS
def test_a_bucket_too_small_spills_what_comes_back(load: Load) -> None:
    assert outcome("GCRA, p95, room 2 %", load, 100_000).use < 0.8
