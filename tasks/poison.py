"""When a job is taken for poison: one whose attempts do not fail but take their worker with them.

The figures that `tasks/sql/rescue.sql` judges by. Why these: docs/adr/0014-poison.md; what they do to the innocent, in
virtual time: tests/unit/test_poison_figures.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Suspicion:
    """The rescuer's figures. A job's deaths are the workers in a row that died while they ran it.

    Attributes:
        rescues: how often a job is rescued from a dead worker before its next death makes it a dead letter; one that
            died beside others of as many deaths, or while workers die all around, is rescued again.
        certain: deaths that leave no doubt, whoever else died. A job of fewer attempts ends before.
        apart_s: least seconds between two jobs that come back from their second death or a later one: each shall die
            alone. More where such jobs take longer: twice what they had run on average when their workers were last
            heard of.
        longest_apart_s: within so many seconds all of a pass have come back, however many they are.
    """

    rescues: int = 2
    certain: int = 6
    apart_s: float = 2.0
    longest_apart_s: float = 600.0
