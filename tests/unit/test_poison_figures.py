"""What the rule for poison does to the guilty and the innocent, in virtual time. Figures of ADR 0014.

`COUNTING` is the rule that others go by, for comparison: the third death is enough, whoever else dies.
"""

from __future__ import annotations

import pytest
from deathworld import Deaths, Fleet

from tasks.poison import Suspicion

COUNTING = Suspicion(certain=3, longest_apart_s=0.0)
ENDS_BADLY = ("poison", "bury")
CHAOS = Fleet(kill_every_s=4.0)
"""10,000 jobs of one to two seconds at 400 slots, one of four workers killed about every four seconds."""
FULL = Fleet(jobs=3_000, guilty=1, workers=2, slots=500, call_s=(2.0, 40.0))
"""A job that kills its worker a second after its claim, among a thousand in flight; calls as models take them."""


@pytest.mark.parametrize("seed", range(3))
def test_where_workers_are_killed_all_the_time_no_innocent_is_taken_for_poison(seed: int) -> None:
    run = Deaths(CHAOS, seed).run()
    assert len(run.dead) >= 10
    assert run.ended("poison", guilty=False) == []
    assert len(run.ended("bury", guilty=False)) <= 5
    assert len(run.ended("succeeded", guilty=False)) >= 9_995


def test_counting_alone_would_take_innocents() -> None:
    assert sum(len(Deaths(CHAOS, seed, COUNTING).run().ended("poison", guilty=False)) for seed in range(3)) > 0


@pytest.mark.parametrize("seed", range(3))
def test_a_guilty_one_among_a_thousand_ends_and_takes_few_along(seed: int) -> None:
    run = Deaths(FULL, seed).run()
    [culprit] = run.ended(*ENDS_BADLY, guilty=True)
    assert 3 <= len(culprit.deaths) <= 4
    assert len(run.ended(*ENDS_BADLY, guilty=False)) <= 3
    assert run.killed_by_jobs == len(culprit.deaths)


def test_a_guilty_one_alone_is_poison_at_its_third_death() -> None:
    run = Deaths(Fleet(jobs=1, guilty=1), 1).run()
    [culprit] = run.ended("poison", guilty=True)
    assert len(culprit.deaths) == 3
    assert culprit.ended_at < 3 * 24.0
