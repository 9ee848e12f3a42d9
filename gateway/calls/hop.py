"""Where a call goes: a model, and the accounts with its provider that can pay for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.catalog_entries import Counting
from gateway.pricing import worst_cost_usd

if TYPE_CHECKING:
    from decimal import Decimal

    from gateway.catalog_entries import ModelEntry
    from gateway.limits.group import LimitGroup
    from gateway.messages import CompletionRequest, ModelRef
    from gateway.providers.base import Provider

EACH_TOKEN = Counting()


@dataclass(frozen=True, slots=True)
class Seat:
    """One account: whose limits a call draws on, and the adapter with its key and address."""

    group: LimitGroup
    provider: Provider

    @property
    def account(self) -> str:
        """Its name, as the ledger has it."""
        return self.group.account


@dataclass(frozen=True, slots=True)
class Size:
    """How large a call is: tokens of its input, as counted beforehand, tokens that it may write, and its worst cost.

    worst_usd: US dollars; None where the price is unknown.
    """

    input_tokens: int
    max_tokens: int
    worst_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Hop:
    """A model and its entry, its accounts in the order in which they are asked, the provider's usual deadline.

    counting: what the provider counts against its limits.
    """

    ref: ModelRef
    entry: ModelEntry
    seats: tuple[Seat, ...]
    timeout_s: float
    counting: Counting = EACH_TOKEN

    @property
    def provider(self) -> Provider:
        """The first account's adapter, for what needs no account: all of them speak alike."""
        return self.seats[0].provider

    @property
    def account(self) -> str:
        """The account that pays as long as it has room."""
        return self.seats[0].account

    @property
    def has_budget(self) -> bool:
        """Whether some account's money for a day is limited."""
        return any(seat.group.budget is not None for seat in self.seats)

    def size(self, request: CompletionRequest) -> Size:
        """Count and price a request. It reads the whole of it: once for each call is enough."""
        input_tokens = self.provider.count_tokens(request)
        return Size(input_tokens, request.max_tokens, worst_cost_usd(self.entry, input_tokens, request.max_tokens))
