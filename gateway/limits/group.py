"""A limit group: whose limits they are, and what they are."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.breaker.account import Account
from gateway.catalog_entries import Limits
from gateway.limits.rates import rates
from gateway.pricing import MICRO_PER_USD

UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class LimitGroup:
    """Models that share one account's limits, and what these are. `zone`: when a day of its money begins."""

    provider: str
    account: str
    name: str
    limits: Limits = UNLIMITED
    zone: str = "UTC"

    def __str__(self) -> str:
        return f"{self.provider}/{self.account}/{self.name}"

    def key(self, what: str) -> str:
        """A key of the group, in the slot of its account."""
        return self.owner.key(f"{self.name}:{what}")

    @property
    def owner(self) -> Account:
        """Whose breaker and whose retries its calls go by."""
        return Account(self.provider, self.account)

    @property
    def unlimited(self) -> bool:
        """Whether it has no limit of any kind."""
        return not (self.most_open or rates(self.limits)) and self.budget is None

    @property
    def most_open(self) -> int:
        """Calls that may be open at once, 0 for no limit."""
        return self.limits.concurrent_calls or 0

    @property
    def budget(self) -> int | None:
        """What it may spend in a day, in whole micro-dollars; None for no limit."""
        usd = self.limits.usd_per_day
        return None if usd is None else int(usd * MICRO_PER_USD)
