"""On what terms a call asks to be let in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.catalog_entries import Lane

if TYPE_CHECKING:
    from collections.abc import Hashable


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a call asks to be let in.

    like: calls that are alike write answers of like length. left_s: seconds until its answer is of no use any more.
    patient: whether to wait, as long as there is time, where no date can be booked: for a call that completes what is
    paid for already. retry: whether it repeats a call that failed.
    """

    lane: Lane = Lane.INTERACTIVE
    like: Hashable = None
    left_s: float = math.inf
    patient: bool = False
    retry: bool = False
