"""Waiting for a condition, with a deadline. Tests wait for what happens, never for time to pass."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

WITHIN_S = 20.0
"""Far more than anything here takes on an idle machine; a test that fails is slow, one that passes is not."""
POLL_S = 0.01


def eventually(condition: Callable[[], T | None], within_s: float = WITHIN_S) -> T:
    """Ask `condition` until it answers with something true, and return that.

    Raises:
        AssertionError: it did not within `within_s` seconds; the message has its last answer.
    """
    deadline = time.monotonic() + within_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s; the last answer was {answer!r}"
        time.sleep(POLL_S)
    return answer
