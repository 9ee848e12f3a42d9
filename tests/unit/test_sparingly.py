"""Lines that repeat are written once in a while, and none goes uncounted."""

from __future__ import annotations

import logging

import pytest

from tasks.sparingly import EVERY_S, MOST_KINDS, Sparingly

log = logging.getLogger("tasks.test")


def test_what_repeats_is_counted_until_it_is_written_again(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    sparingly = Sparingly(log, clock=lambda: now[0])
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            sparingly.say(logging.WARNING, "%s is away", "one")
        sparingly.say(logging.WARNING, "%s is away", "two")
        now[0] = EVERY_S
        sparingly.say(logging.WARNING, "%s is away", "one")
        now[0] = 2 * EVERY_S
        sparingly.say(logging.WARNING, "%s is away", "one")
    assert caplog.messages == ["one is away", "two is away", "one is away (4 more since the last line)", "one is away"]


def test_it_does_not_remember_for_ever() -> None:
    sparingly = Sparingly(log, clock=lambda: 0.0)
    for number in range(MOST_KINDS + 10):
        sparingly.say(logging.DEBUG, "%d", number)
    assert len(sparingly._told) == MOST_KINDS
