"""What a call cost, by the catalog's price and the provider's count of tokens.

An unknown price or an unknown usage gives None, never 0: the most reported budget bug of every
gateway is a price it does not know, counted as free.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from gateway.messages import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.catalog_entries import ModelEntry, Price, Rates

TOKENS_PER_MTOK = Decimal(1_000_000)
NOTHING_USD = Decimal(0)
MICRO_PER_USD = 1_000_000


def micro_usd(usd: Decimal) -> int:
    """Return whole micro-dollars, rounded up: never less than it costs."""
    return int((usd * MICRO_PER_USD).to_integral_value(rounding=ROUND_CEILING))


def cost_usd(entry: ModelEntry, usage: Usage | None, day: date | None = None) -> Decimal | None:
    """Price a call's tokens; exact, not rounded. `day` (UTC) is that of the call, by default today.

    Returns:
        US dollars, or None where the price or the usage is unknown.
    """
    price = entry.price_on(day or datetime.now(UTC).date()) if entry.price_changes else entry.price
    if price is None or usage is None:
        return None
    rates = _rates(price, usage.input_tokens)
    # Usage counts these inside the input; a provider that miscounts must not make input negative.
    fresh_tokens = max(usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens, 0)
    spent = (
        fresh_tokens * rates.input_per_mtok_usd
        + usage.cached_tokens * _or_input(rates.cached_input_per_mtok_usd, rates)
        + usage.cache_write_tokens * _or_input(rates.cache_write_per_mtok_usd, rates)
        + usage.output_tokens * rates.output_per_mtok_usd
    )
    return spent / TOKENS_PER_MTOK


def worst_cost_usd(entry: ModelEntry, input_tokens: int, max_tokens: int, day: date | None = None) -> Decimal | None:
    """Price the dearest call that may come of so many tokens of input: all of them written to the provider's cache."""
    return cost_usd(entry, Usage(input_tokens, max_tokens, cache_write_tokens=input_tokens), day)


def total_usd(costs: Iterable[Decimal | None]) -> Decimal | None:
    """Add costs up; one that is unknown makes the sum unknown."""
    known = list(costs)
    return None if None in known else sum((cost for cost in known if cost is not None), Decimal(0))


def _or_input(own: Decimal | None, rates: Rates) -> Decimal:
    return rates.input_per_mtok_usd if own is None else own


def _rates(price: Price, input_tokens: int) -> Rates:
    long_context = price.long_context
    return long_context if long_context and input_tokens > long_context.above_input_tokens else price
