"""The plan of faults: the same from the same seed, every kind in it, everything undone, and in time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench.chaos import JOBS, LEAST_S, Course, course_of
from ops.bench.faults.plan import (
    CLOCKED,
    DISPATCHER,
    DRAWN,
    GAP_S,
    POSTGRES,
    REDIS,
    SETTLE_S,
    WORKER,
    Fault,
    Fleet,
    Kind,
    edges,
    plan,
)

SEEDS = st.integers(min_value=0, max_value=2**32)
SIZES = st.sampled_from([round(LEAST_S), 3_400, JOBS])
"""A run of few jobs has the least time, from 3,375 on more come a second, no more in a full one."""


@given(seed=SEEDS, jobs=SIZES)
def test_the_same_seed_is_the_same_plan(seed: int, jobs: int) -> None:
    course = course_of(jobs)
    assert course.plan(seed) == course.plan(seed)
    assert course.plan(seed) != course.plan(seed + 1)


@given(seed=SEEDS, jobs=SIZES)
def test_every_kind_is_there_and_all_is_undone_in_time(seed: int, jobs: int) -> None:
    course = course_of(jobs)
    faults = course.plan(seed)
    assert {fault.kind for fault in faults} == set(Kind)
    assert all(0 < fault.at_s <= fault.ends_s <= course.faults_s for fault in faults)
    assert course.faults_s + course.calm_s == pytest.approx(jobs / course.per_s)
    done = edges(faults)
    assert [at_s for at_s, _, _ in done] == sorted(at_s for at_s, _, _ in done)
    for fault in faults:
        begins, ends = (place for place, (_, one, _) in enumerate(done) if one == fault)
        assert (done[begins][2], done[ends][2]) == (False, True)


@given(seed=SEEDS)
def test_faults_come_every_few_seconds(seed: int) -> None:
    course = Course()
    faults = course.plan(seed)
    assert all(later.at_s - earlier.at_s >= GAP_S[0] for earlier, later in pairwise(faults))
    # Where nothing fits, one is left out; a run is nowhere near being without.
    assert len(faults) >= 0.8 * course.faults_s / GAP_S[1]
    assert sum(fault.kind is Kind.KILL_WORKER for fault in faults) >= 5


@given(seed=SEEDS, jobs=SIZES)
def test_no_two_faults_are_in_each_others_way(seed: int, jobs: int) -> None:
    faults = course_of(jobs).plan(seed)
    for server in (REDIS, POSTGRES):
        away = [fault for fault in faults if DRAWN[fault.kind].takes == server]
        assert all(later.at_s >= earlier.ends_s + SETTLE_S for earlier, later in pairwise(away))
        needing = [fault for fault in faults if DRAWN[fault.kind].needs == server]
        assert not any(gone.at_s <= fault.at_s <= gone.ends_s for fault in needing for gone in away)
    for kind in Kind:
        same = [fault for fault in faults if fault.kind is kind]
        assert all(later.at_s >= earlier.ends_s + DRAWN[kind].apart_s for earlier, later in pairwise(same))
    for name in (WORKER, DISPATCHER):
        struck = [fault for fault in faults if DRAWN[fault.kind].strikes == name]
        assert not any(
            later.place == earlier.place and later.at_s < earlier.ends_s
            for place, earlier in enumerate(struck)
            for later in struck[place + 1 :]
        )


@given(seed=SEEDS, workers=st.integers(1, 8), dispatchers=st.integers(1, 3), beats=st.integers(0, 2))
def test_only_what_there_is_is_struck(seed: int, workers: int, dispatchers: int, beats: int) -> None:
    fleet = Fleet(workers, dispatchers, beats)
    faults = plan(seed, 200.0, fleet)
    for fault in faults:
        drawn = DRAWN[fault.kind]
        assert 0 <= fault.place < (fleet.of(drawn.strikes) if drawn.strikes else 1)
        assert drawn.lasts_s[0] <= fault.lasts_s <= drawn.lasts_s[1]
        assert drawn.amount[0] <= fault.amount <= drawn.amount[1]
    assert fleet.of(CLOCKED) == workers + dispatchers + beats


def test_a_plan_for_which_there_is_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="20 s are too few for 14 kinds of faults"):
        plan(1, 20.0, Fleet(4, 2))


def test_a_fault_is_told_in_words() -> None:
    assert (Fault(1.0, Kind.KILL_WORKER, place=2).which, Fault(1.0, Kind.STALL_REDIS).which) == ("worker 3", "redis")
    assert Fault(1.0, Kind.CLOCK, amount=-12.4).amount_told == "-12 s"
    assert Fault(1.0, Kind.COPIES, amount=12.4).amount_told == "12 jobs"
    assert Fault(1.0, Kind.FLUSH).amount_told == Fault(1.0, Kind.FLUSH).which == ""
