"""What a strict provider counts of one kind: a bucket of a minute's worth AND a sliding minute, both exact. Pure.

What was counted until any moment is a line of knots: a step where an amount came at once, a slope while output is
produced. So the sliding minute is a difference of two points on it, whatever the number of calls, and the record of a
run falls out of it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

MINUTE_S = 60.0
ROUNDING = 1e-9
"""Share of a limit by which sums of floats may be off."""


class Meter:
    """One kind. Times are seconds of any clock that does not go back."""

    def __init__(self, per_min: float, now_s: float) -> None:
        """Make a meter with a full bucket.

        Args:
            per_min: the limit; infinite for what is counted and not limited.
            now_s: from when on it counts.
        """
        self.per_min = per_min
        self.level = per_min
        """What the bucket holds. Below 0 while output is produced faster than it is refilled."""
        self._slope = 0.0
        self._times = [now_s]
        self._totals = [0.0]

    @property
    def now_s(self) -> float:
        """The moment up to which it has counted."""
        return self._times[-1]

    def advance(self, now_s: float) -> None:
        """Refill, and count what has been produced, until now."""
        passed_s = now_s - self.now_s
        if passed_s <= 0:
            return
        if math.isfinite(self.per_min):
            self.level = min(self.per_min, self.level + (self.per_min / MINUTE_S - self._slope) * passed_s)
        self._knot(now_s, self._totals[-1] + self._slope * passed_s)

    def take(self, amount: float) -> None:
        """Count an amount at once."""
        if amount:
            self.level -= amount
            self._knot(self.now_s, self._totals[-1] + amount)

    def produce(self, per_s: float) -> None:
        """From now on count so much more each second; less, where it is negative."""
        self._slope = max(0.0, self._slope + per_s)  # what floats leave over must not be counted off again

    def allows(self, amount: float) -> bool:
        """Whether an amount may come now. Of 0: whether anything is left at all."""
        slack = self.per_min * ROUNDING if math.isfinite(self.per_min) else 0.0
        if amount:
            return self.level + slack >= amount and self.in_minute() + amount <= self.per_min + slack
        return self.level > 0 and self.in_minute() < self.per_min

    def in_minute(self) -> float:
        """What the last sixty seconds hold."""
        return self._totals[-1] - self.until(self.now_s - MINUTE_S)

    def wait_s(self, amount: float) -> float:
        """After how many seconds an amount would be allowed, if nothing else came or was produced meanwhile."""
        if not math.isfinite(self.per_min):
            return 0.0
        refilled_s = (amount - self.level) * MINUTE_S / self.per_min
        too_many = self._totals[-1] + amount - self.per_min
        left_s = self._reached(too_many) + MINUTE_S - self.now_s if too_many > 0 else 0.0
        return max(0.0, refilled_s, left_s)

    def full_in_s(self) -> float:
        """After how many seconds the bucket would be full again."""
        return max(0.0, (self.per_min - self.level) * MINUTE_S / self.per_min)

    def until(self, at_s: float) -> float:
        """What was counted up to a moment, what came at that moment included."""
        after = bisect_right(self._times, at_s)
        if after == 0:
            return 0.0
        if after == len(self._times):
            return self._totals[-1]
        since_s, to_s = self._times[after - 1], self._times[after]
        before, then = self._totals[after - 1], self._totals[after]
        return before + (then - before) * (at_s - since_s) / (to_s - since_s)

    def _reached(self, total: float) -> float:
        """When so much had been counted. `total` is above 0 and at most what was counted, or the latest moment."""
        place = bisect_left(self._totals, total * (1 - ROUNDING))
        if place == len(self._totals):
            return self.now_s
        before, then = self._totals[place - 1], self._totals[place]
        since_s, to_s = self._times[place - 1], self._times[place]
        return min(to_s, since_s + (total - before) * (to_s - since_s) / (then - before))

    def _knot(self, at_s: float, total: float) -> None:
        if total == self._totals[-1]:
            self._flat(at_s)
            return
        self._times.append(at_s)
        self._totals.append(total)

    def _flat(self, at_s: float) -> None:
        """Move the end of a level stretch on: a quiet second leaves no knots behind."""
        if len(self._totals) > 1 and self._totals[-2] == self._totals[-1]:
            self._times[-1] = at_s
        else:
            self._times.append(at_s)
            self._totals.append(self._totals[-1])
