"""Why `reserve.lua` let a call not in, as errors."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from gateway.breaker.policy import SECOND_US
from gateway.errors import BreakerOpen, DayBudgetSpent, LimitReached, RetriesSpent
from gateway.limits.group_state import most_open_bulk
from gateway.pricing import MICRO_PER_USD

if TYPE_CHECKING:
    from gateway.breaker.account import Account
    from gateway.breaker.view import Standing
    from gateway.limits.group import LimitGroup
    from gateway.limits.money import Day

SLOT_RETRY_S = 1.0
"""When to ask again where every slot is taken: when one is given back, nobody can know."""
LONGEST_RETRY_WAIT_S = 5.0
"""When to ask again where no retry is left, at the latest: how soon other calls have paid for one, nobody knows."""
BREAKER, RETRIES, SLOTS, OVERLOAD = "breaker", "retries", "concurrent_calls", "overload"
CLOSED = "retry_after"
UNSEEDED, DAY_SPENT, DAY_RESERVED = "unseeded", "usd_per_day", "usd_open"
"""The script's words for what stands in the way where it is no rate."""


def as_error(
    group: LimitGroup, in_the_way: str, what: int, ahead_us: int, standing: Standing, day: Day | None = None
) -> LimitReached | BreakerOpen | RetriesSpent | DayBudgetSpent:
    """Return what is raised.

    Args:
        group: whose limits.
        in_the_way: the script's word.
        what: how many slots there are; when a retry could go, in microseconds; what calls of today that have ended
            have cost, in micro-dollars; or else how far ahead of now the schedule is, in microseconds.
        ahead_us: how far ahead it may be.
        standing: of the breaker.
        day: of its money.
    """
    if in_the_way == BREAKER:
        return breaker_open(group.owner, standing)
    if in_the_way == DAY_SPENT and day is not None:
        return day_budget_spent(group, what, day.left_s)
    if in_the_way == DAY_RESERVED:
        message = f"{group} may spend {group.limits.usd_per_day} USD a day: its open calls may take what is left of it"
        return LimitReached(message, retry_after_s=SLOT_RETRY_S)
    if in_the_way == UNSEEDED:
        return LimitReached(f"what {group} has spent today is lost once more", retry_after_s=SLOT_RETRY_S)
    if in_the_way in (SLOTS, OVERLOAD):
        overloaded = ", for its provider was overloaded" if in_the_way == OVERLOAD else ""
        message = (
            f"{group} may have {what} calls open, {most_open_bulk(what)} of them in bulk{overloaded}: none is free"
        )
        return LimitReached(message, retry_after_s=SLOT_RETRY_S)
    if in_the_way == RETRIES:
        wait_s = what / SECOND_US
        message = f"{group.owner} has no retry left for {wait_s:.1f} s: too many of its calls are retries"
        return RetriesSpent(message, retry_after_s=min(wait_s, LONGEST_RETRY_WAIT_S))
    wait_s = (what - ahead_us) / SECOND_US
    if in_the_way == CLOSED:
        return LimitReached(f"{group} is closed by its provider's own word for {wait_s:.1f} s", retry_after_s=wait_s)
    return LimitReached(f"{group} has no {in_the_way} to book for {wait_s:.1f} s", retry_after_s=wait_s)


def breaker_open(account: Account, standing: Standing) -> BreakerOpen:
    """Return what is raised where a breaker keeps a call out."""
    how = "half-open, a probe is under way" if standing.half_open else "open"
    return BreakerOpen(f"the breaker of {account} is {how}: {standing.reason}", retry_after_s=standing.again_s)


def day_budget_spent(group: LimitGroup, spent: int, left_s: float) -> DayBudgetSpent:
    """Return what is raised where a day's money is spent: `spent` micro-dollars, with `left_s` seconds to go."""
    spent_usd, budget = Decimal(spent) / MICRO_PER_USD, group.limits.usd_per_day
    message = f"{group} has spent {spent_usd:f} of the {budget} USD that it may in a day, and the call does not fit"
    return DayBudgetSpent(message, retry_after_s=left_s)
