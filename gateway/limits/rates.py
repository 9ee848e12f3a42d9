"""From what a provider allows to buckets: how much of a limit is rate, how much is burst, and for whom.

A provider counts over a sliding minute, or fills a bucket; either way it sees burst + rate x time at most. So burst and
rate together are kept to the limit. Of requests no 60 seconds hold more than it allows; of tokens neither, but for what
ADR 0010 names. What a burst costs in use is 1 to 2 % of a limit that is large beside one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import ExceedsLimit
from gateway.limits.kinds import LimitKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

    from gateway.catalog_entries import Limits

MINUTE_US = 60_000_000

LATE_US = 100_000
"""A call may come so much later than its date, and the one a minute after it not at all: so much longer a minute of
requests is taken to be. It costs 0.17 % of the limit."""
REQUEST_ROOM = 0.005
"""Share of a request limit that may go at once; at least one call."""
REQUEST_RESERVE = 0.01
"""Share kept for interactive calls, to the nearest call: none below 50 a minute, where one call is more than 2 %."""
TOKEN_ROOM, CALLS_AT_ONCE, MOST_TOKEN_ROOM = 0.01, 4, 0.1
"""Of a token limit as much may go at once as four of the largest calls take: answers shorter than reserved come back
in lumps, and a bucket that is too small to hold them spills them (figures in ADR 0010)."""
TOKEN_RESERVE, MOST_TOKEN_RESERVE = 0.005, 0.025
"""Of a token limit as much is kept for interactive calls as the largest call takes, within these shares."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a call takes of each limit: reserved before it, or used by it.

    cost_usd: at worst, or what it was; None: unknown. Only money for a day asks for it.
    """

    requests: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def of(self, kind: LimitKind) -> int:
        """The amount of one kind."""
        return int(getattr(self, kind.value))


@dataclass(frozen=True, slots=True)
class Bucket:
    """One rate as `reserve.lua` takes it: all amounts in microseconds at `per_min`."""

    kind: LimitKind
    per_min: int
    amount: int
    largest: int
    room: int
    reserve: int

    def us(self, amount: int) -> int:
        """The time that an amount takes at the rate, rounded up: never more than the limit."""
        if self.kind is LimitKind.REQUESTS:
            return amount * -(-(MINUTE_US + LATE_US) // self.per_min)  # n calls one by one take as long as n at once
        return -(-amount * MINUTE_US // self.per_min)

    def difference_us(self, used: Need | None) -> int:
        """What a call used beyond what was reserved for it, or short of it (negative). None: nothing was used.

        Requests have no difference: a date that was not used cannot be given to another call.
        """
        if self.kind is LimitKind.REQUESTS:
            return 0
        return self.us(used.of(self.kind) if used else 0) - self.us(self.amount)

    @property
    def slack_us(self) -> int:
        """How far the schedule may be where no date is booked ahead: what the largest call needs, whatever this one."""
        return max(0, self.us(self.room) - self.us(self.largest))

    def arguments(self) -> Iterator[str | int]:
        """Name, cost, room, slack and reserve."""
        yield self.kind.value
        yield from (self.us(self.amount), self.us(self.room), self.slack_us, self.us(self.reserve))


def check_fits(limits: Limits, need: Need) -> None:
    """Refuse a call that no waiting would help.

    Raises:
        ExceedsLimit: it needs more of a limit than a minute holds, it may cost more than a day does, or its price is
            unknown where money is limited.
    """
    for kind, limit in rates(limits).items():
        if (amount := need.of(kind)) > limit:
            raise ExceedsLimit(f"the call needs {amount} {kind.value}, and a minute has {limit}: no waiting would help")
    if limits.usd_per_day is None:
        return
    may_spend = f"its account may spend {limits.usd_per_day} USD a day"
    if need.cost_usd is None:
        raise ExceedsLimit(f"the call's price is unknown, and {may_spend}")
    if need.cost_usd > limits.usd_per_day:
        raise ExceedsLimit(f"the call may cost {need.cost_usd} USD, and {may_spend}: no waiting would help")


def buckets(limits: Limits, need: Need, largest: Need) -> tuple[Bucket, ...]:
    """Return the buckets that a call draws on: one for each rate there is.

    Args:
        limits: of the group.
        need: of this call. What it needs nothing of it does not wait for, but may be charged for afterwards.
        largest: of the calls that are lately made in the group, this one among them; see `sizes`.
    """
    return tuple(_bucket(kind, limit, need.of(kind), largest.of(kind)) for kind, limit in rates(limits).items())


def rates(limits: Limits) -> Mapping[LimitKind, int]:
    """Return the amounts per minute that are limited."""
    found = {
        LimitKind.REQUESTS: limits.requests_per_min,
        LimitKind.INPUT_TOKENS: limits.input_tokens_per_min,
        LimitKind.OUTPUT_TOKENS: limits.output_tokens_per_min,
        LimitKind.TOKENS: limits.tokens_per_min,
    }
    return {kind: limit for kind, limit in found.items() if limit is not None}


def _bucket(kind: LimitKind, limit: int, amount: int, largest: int) -> Bucket:
    if kind is LimitKind.REQUESTS:
        room, reserve = max(1, int(limit * REQUEST_ROOM)), min(limit - 1, int(limit * REQUEST_RESERVE + 0.5))
        # Of calls one by one, room - 1 go ahead of the first that the rate lets go.
        return Bucket(kind, limit - (room - 1) - reserve, amount, largest, room, reserve)
    room = _clamped(CALLS_AT_ONCE * largest, TOKEN_ROOM * limit, MOST_TOKEN_ROOM * limit)
    reserve = _clamped(largest, TOKEN_RESERVE * limit, MOST_TOKEN_RESERVE * limit)
    per_min = limit - room - reserve
    if amount > room:
        per_min = min(per_min, limit // amount * amount)  # they go one by one, and a minute holds whole ones
    return Bucket(kind, per_min, amount, largest, room, reserve)


def _clamped(amount: int, least: float, most: float) -> int:
    return int(max(least, min(amount, most)))
