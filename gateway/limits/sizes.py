"""How large the calls of a limit group are, for the share of a limit that is burst must fit the largest of them.

Were it taken from each call alone, small calls would use up a rate that leaves no room for the large one which is then
let in beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.limits.rates import Need

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.limits.group import LimitGroup

REMEMBERED_S = 600.0
"""A size counts for so long after it was last seen, and at most twice as long."""

NOTHING = Need(0, 0, 0)


class LargestCalls:
    """The largest calls that one process has lately made, by group. Its fellows make calls of the same kinds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._groups: dict[LimitGroup, _Lately] = {}

    def with_this(self, group: LimitGroup, need: Need) -> Need:
        """Count a call; return the largest of each kind, this one among them."""
        lately = self._groups.get(group)
        if lately is None:
            lately = self._groups[group] = _Lately(self._clock())
        return lately.with_this(need, self._clock())


class _Lately:
    """Two spans of `REMEMBERED_S`: the one under way and the one before."""

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._before = self._largest = NOTHING

    def with_this(self, need: Need, now_s: float) -> Need:
        if now_s - self._since_s >= REMEMBERED_S:
            lapsed = now_s - self._since_s >= 2 * REMEMBERED_S
            self._before, self._largest = NOTHING if lapsed else self._largest, NOTHING
            self._since_s = now_s
        self._largest = _larger(self._largest, need)
        return _larger(self._largest, self._before)


def _larger(one: Need, other: Need) -> Need:
    return Need(
        max(one.requests, other.requests),
        max(one.input_tokens, other.input_tokens),
        max(one.output_tokens, other.output_tokens),
    )
