"""What a process allows itself while Redis is away and nobody knows what its fellows do.

Each takes its share of a limit, by how many there were when Redis was last heard, and of that the half: what was under
way when Redis went counts still, and a fellow may be new. It goes on like that for `LONGEST_S`, for a restart or a
failover; then calls wait for Redis. One line in the log says that it is away, the line's own.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.errors import LimitReached
from gateway.limits.group_state import BOOKED_AHEAD_S
from gateway.limits.rates import check_fits, rates
from gateway.limits.refusals import SLOT_RETRY_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.catalog_entries import Lane
    from gateway.limits.group import LimitGroup
    from gateway.limits.kinds import LimitKind
    from gateway.limits.rates import Need

SHARE_TAKEN = 0.5
LONGEST_S = 60.0
AGAIN_S = 5.0
"""When to ask again after that."""


@dataclass(frozen=True, slots=True)
class OwnReservation:
    """Room for one call by this process's own reckoning, `wait_s` seconds from now."""

    group: LimitGroup
    wait_s: float
    probe: ClassVar[bool] = False
    """Who probes, only Redis can say."""


class Alone:
    """One process's reckoning. A GCRA without a burst for each rate, by the process's own clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._tats: dict[tuple[LimitGroup, LimitKind], float] = {}
        self._open: dict[LimitGroup, int] = defaultdict(int)

    def reserve(self, group: LimitGroup, need: Need, lane: Lane, processes: int, *, may_wait: bool) -> OwnReservation:
        """Reserve out of this process's share.

        Args:
            group: whose limits.
            need: of the call.
            lane: of the call: how far ahead it may be dated.
            processes: that share the limits, this one among them.
            may_wait: whether a date ahead of now will do.

        Raises:
            ExceedsLimit: a minute does not hold it.
            LimitReached: the share has no room, Redis has been away for too long, or money is limited: nobody knows
                what the others spend.
        """
        check_fits(group.limits, need)
        if group.unlimited:
            return OwnReservation(group, 0.0)
        if group.budget is not None:
            raise LimitReached(f"what {group} has spent today is not known: Redis is away", retry_after_s=AGAIN_S)
        now = self._clock()
        self._since = now if self._since is None else self._since
        if now - self._since >= LONGEST_S:
            raise LimitReached(f"what {group} has left is not known: Redis is away", retry_after_s=AGAIN_S)
        share = SHARE_TAKEN / max(1, processes)
        if group.most_open and self._open[group] >= max(1, int(group.most_open * share)):
            raise LimitReached(f"{group}: this process's share of open calls is taken", retry_after_s=SLOT_RETRY_S)
        costs = {(group, kind): need.of(kind) * 60 / (per_min * share) for kind, per_min in rates(group.limits).items()}
        # The share of a rate that is not used is lost: nothing goes at once but one call.
        wait_s = max((self._tats.get(rate, now) - now for rate in costs), default=0.0)
        if wait_s > (BOOKED_AHEAD_S[lane] if may_wait else 0.0):
            raise LimitReached(f"{group}: this process's share is used up while Redis is away", retry_after_s=wait_s)
        date = now + max(0.0, wait_s)
        for rate, cost_s in costs.items():
            self._tats[rate] = date + cost_s
        self._open[group] += 1
        return OwnReservation(group, max(0.0, wait_s))

    def settle(self, reservation: OwnReservation) -> None:
        """End a reservation. What it did not use is not given back."""
        if not reservation.group.unlimited:
            self._open[reservation.group] -= 1

    def heard(self) -> None:
        """Note that Redis is there."""
        self._since = None
