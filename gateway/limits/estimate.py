"""How much output to reserve for a call: a quantile of what equal calls have produced, never more than `max_tokens`.

Of each kind of call (analysis, prompt version, model) a histogram is kept, its buckets wider by a twentieth each, so
a bucket's upper edge is at most 5 % above what lies in it (the idea of DDSketch: Masson, Rim, Lee, VLDB 2019). The
quantile is the conformal one: of n values the ceil((n + 1) x 0.95)-th, which the next value exceeds with a probability
of at most 5 % as long as values come in no particular order (Vovk, Gammerman, Shafer, 2005). It gives the cold start by
itself: of fewer than nineteen values there is none, and `max_tokens` is reserved.

What was long ago counts less: at `FORGET_AT` values all counts are halved.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

QUANTILE = 0.95
GROWTH = 1.05
FORGET_AT = 1_000
LEAST_COUNT = 0.05
"""Less than so much of a value is nothing."""
MOST_KINDS = 1_000
"""Of calls; the one that was not seen for longest is forgotten."""


class OutputEstimates:
    """One process's. A restarted process starts cold: it reserves more, for nineteen calls of each kind."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[Hashable, _Histogram] = OrderedDict()

    def tokens(self, kind: Hashable, max_tokens: int) -> int:
        """What to reserve for the output of a call of this kind that may write `max_tokens`."""
        histogram = self._kinds.get(kind)
        quantile = None if histogram is None else histogram.quantile()
        return max_tokens if quantile is None else min(quantile, max_tokens)

    def saw(self, kind: Hashable, output_tokens: int) -> None:
        """Count what a call has produced. One that was cut at `max_tokens` has produced these."""
        self._kinds.setdefault(kind, _Histogram()).add(output_tokens)
        self._kinds.move_to_end(kind)
        if len(self._kinds) > MOST_KINDS:
            self._kinds.popitem(last=False)


class _Histogram:
    def __init__(self) -> None:
        self._counts: dict[int, float] = {}
        self._total = 0.0

    def add(self, value: int) -> None:
        bucket = _bucket(value)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._total += 1
        if self._total >= FORGET_AT:
            self._counts = {at: count / 2 for at, count in self._counts.items() if count > LEAST_COUNT}
            self._total = sum(self._counts.values())

    def quantile(self) -> int | None:
        rank = (self._total + 1) * QUANTILE
        if rank > self._total:
            return None
        seen = 0.0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                break
        return _upper_edge(bucket)


def _bucket(value: int) -> int:
    """The bucket whose upper edge is the first that is not below the value."""
    return 0 if value <= 1 else math.ceil(math.log(value, GROWTH) - 1e-9)


def _upper_edge(bucket: int) -> int:
    return math.floor(GROWTH**bucket + 1e-6)
