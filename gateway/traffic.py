"""How things stand with the providers right now: who is asked, who is well, what is used of the limits.

Read from Redis, where all processes keep it; nothing changes by looking.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.catalog import DEFAULTS
from gateway.catalog_entries import Lane
from gateway.limits.groups import LimitGroups
from gateway.pricing import MICRO_PER_USD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.breaker.breakers import BreakerReport
    from gateway.catalog import Catalog
    from gateway.limits.group import LimitGroup
    from gateway.limits.group_state import GroupState
    from gateway.limits.limiter import Limiter

PRIMARY, FALLBACK = "primary", "fallback"
MONEY_SPENT, ASKED_TO_WAIT = "the day's money is spent", "the provider asks to wait"
"""Why a group makes no call although its account's breaker lets calls in."""


@dataclass(frozen=True, slots=True)
class GroupTraffic:
    """One limit group of one account.

    open: calls open now. used: share of each rate that was reserved and used in about the last minute.
    ready_in_s: when an interactive call could go; 0 for now, None once an open call has ended.
    spent_usd: of the day's money, open calls at their worst; None where nobody has asked yet, or it has no bound.
    reason: why it makes no call, however many others end; None where it does. The breaker has its own.
    """

    group: LimitGroup
    open: int
    used: Mapping[str, float]
    ready_in_s: float | None
    spent_usd: float | None = None
    reason: str | None = None

    @property
    def available(self) -> bool:
        """Whether it makes calls, as far as its breaker lets it: limits that are full for a moment are no matter."""
        return self.reason is None

    @property
    def usd_per_day(self) -> float | None:
        """The bound of the day's money; None for none."""
        usd = self.group.limits.usd_per_day
        return None if usd is None else float(usd)


@dataclass(frozen=True, slots=True)
class AccountTraffic:
    """One account with a provider: its breaker and its groups."""

    name: str
    breaker: BreakerReport
    groups: tuple[GroupTraffic, ...]

    @property
    def available(self) -> bool:
        """Whether its breaker lets calls in, and some group makes them."""
        return any(self.serves(group.group.name) for group in self.groups)

    def serves(self, group: str) -> bool:
        """Whether calls of a group's models can be made."""
        return self.breaker.standing.closed and any(one.available for one in self.groups if one.group.name == group)

    @property
    def ready_in_s(self) -> float | None:
        """When a call of some group could go; None: nobody knows."""
        return _soonest(group.ready_in_s for group in self.groups)


@dataclass(frozen=True, slots=True)
class ProviderTraffic:
    """One configured provider.

    role: of the chain that an analysis without a route of its own takes: `primary`, `fallback`, or None where it is not
    in it. current: whether it has the first model of that chain that can be called.
    """

    provider: str
    role: str | None
    current: bool
    accounts: tuple[AccountTraffic, ...]

    @property
    def available(self) -> bool:
        """Whether any account is."""
        return any(account.available for account in self.accounts)

    @property
    def ready_in_s(self) -> float | None:
        """When a call could go, with whichever account; None: nobody knows."""
        return _soonest(account.ready_in_s for account in self.accounts)


async def traffic(catalog: Catalog, limiter: Limiter) -> list[ProviderTraffic]:
    """Look at every configured provider.

    Raises:
        RedisAway: nobody knows.
    """
    groups = LimitGroups(catalog)
    hops = catalog.chain(DEFAULTS)
    chain = list(dict.fromkeys(hop.provider for hop in hops))
    names = list(dict.fromkeys(queue.partition(".")[0] for queue in catalog.queues()))
    accounts = dict(
        zip(names, await asyncio.gather(*(_accounts(limiter, groups, name) for name in names)), strict=True)
    )
    served = (hop for hop in hops if any(one.serves(catalog.model(hop).limit_group) for one in accounts[hop.provider]))
    current = next((hop.provider for hop in served), None)
    return [ProviderTraffic(name, _role(name, chain), name == current, accounts[name]) for name in names]


def _soonest(times_s: Iterable[float | None]) -> float | None:
    return min((one for one in times_s if one is not None), default=None)


def _role(provider: str, chain: Sequence[str]) -> str | None:
    if provider not in chain:
        return None
    return PRIMARY if provider == chain[0] else FALLBACK


async def _accounts(limiter: Limiter, groups: LimitGroups, provider: str) -> tuple[AccountTraffic, ...]:
    by_account: dict[str, list[LimitGroup]] = {}
    for shared in groups.at(provider):
        for group in shared.groups:
            by_account.setdefault(group.account, []).append(group)
    return tuple(await asyncio.gather(*(_account(limiter, name, found) for name, found in by_account.items())))


async def _account(limiter: Limiter, name: str, groups: Sequence[LimitGroup]) -> AccountTraffic:
    report, states = await asyncio.gather(
        limiter.breakers.describe(groups[0].owner), asyncio.gather(*(limiter.state(group) for group in groups))
    )
    return AccountTraffic(name, report, tuple(_group(state) for state in states))


def _group(state: GroupState) -> GroupTraffic:
    used = {kind.value: rate.used for kind, rate in state.rates.items()}
    money = state.money
    spent_usd = None if money is None or money.spent is None else money.spent / MICRO_PER_USD
    ready_in_s = state.ready_in_s(Lane.INTERACTIVE)
    return GroupTraffic(state.group, state.open, used, ready_in_s, spent_usd, _reason(state))


def _reason(state: GroupState) -> str | None:
    if state.spent_up:
        return MONEY_SPENT
    return ASKED_TO_WAIT if state.closed_us > state.now_us else None
