"""What a call cost, by the catalog's price and the provider's count of tokens.

An unknown price or an unknown usage gives None, never 0: the most reported budget bug of every
gateway is a price it does not know, counted as free.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.catalog import ModelEntry, Price, Rates
    from gateway.messages import Usage

TOKENS_PER_MTOK = Decimal(1_000_000)


def cost_usd(entry: ModelEntry, usage: Usage | None) -> Decimal | None:
    """Price a call's tokens; exact, not rounded.

    Returns:
        US dollars, or None where the price or the usage is unknown.
    """
    if entry.price is None or usage is None:
        return None
    rates = _rates(entry.price, usage.input_tokens)
    cached_rate = rates.cached_input_per_mtok_usd
    if cached_rate is None:
        cached_rate = rates.input_per_mtok_usd
    # Usage counts cached tokens inside the input; a provider that miscounts must not make input negative.
    fresh_tokens = max(usage.input_tokens - usage.cached_tokens, 0)
    spent = (
        fresh_tokens * rates.input_per_mtok_usd
        + usage.cached_tokens * cached_rate
        + usage.output_tokens * rates.output_per_mtok_usd
    )
    return spent / TOKENS_PER_MTOK


def total_usd(costs: Iterable[Decimal | None]) -> Decimal | None:
    """Add costs up; one that is unknown makes the sum unknown."""
    known = list(costs)
    return None if None in known else sum((cost for cost in known if cost is not None), Decimal(0))


def _rates(price: Price, input_tokens: int) -> Rates:
    long_context = price.long_context
    return long_context if long_context and input_tokens > long_context.above_input_tokens else price
