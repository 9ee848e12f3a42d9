"""An account with a provider: whose breaker, whose retries, whose limits."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "assayline:limits:"


@dataclass(frozen=True, slots=True)
class Account:
    """One account's name, as `provider/account`."""

    provider: str
    name: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}"

    def key(self, what: str) -> str:
        """A key of the account. All of one account have one hash tag: one slot of a Redis Cluster (see ADR 0010)."""
        return f"{PREFIX}{{{self}}}:{what}"
