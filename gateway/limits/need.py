"""What a call takes of its limits, as its provider counts: before the call, and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.catalog_entries import OutputCounted
from gateway.limits.rates import Need

if TYPE_CHECKING:
    from decimal import Decimal

    from gateway.catalog_entries import Counting
    from gateway.messages import Usage


def needed(
    counting: Counting, input_tokens: int, output_tokens: int, max_tokens: int, worst_usd: Decimal | None = None
) -> Need:
    """Return what to reserve for a call.

    Args:
        counting: what the provider counts.
        input_tokens: of the whole request. None of it counts as cached: nobody can know before.
        output_tokens: what it will probably write, at most `max_tokens`; see `estimate`.
        max_tokens: what it may write.
        worst_usd: what it may cost, US dollars; None: unknown, or not asked for.
    """
    by_bound = counting.output is OutputCounted.MAX_TOKENS
    return Need(1, input_tokens, max_tokens if by_bound else output_tokens, worst_usd)


def used(counting: Counting, reserved: Need, usage: Usage, cost_usd: Decimal | None = None) -> Need:
    """Return what the provider has counted for a call that ended.

    Args:
        counting: what the provider counts.
        reserved: from `needed`.
        usage: as the provider told it.
        cost_usd: of that; where it is unknown, the call is taken to have cost its worst.
    """
    cached = 0 if counting.cached_input else usage.cached_tokens
    output_tokens = reserved.output_tokens if counting.output is OutputCounted.MAX_TOKENS else usage.output_tokens
    cost_usd = reserved.cost_usd if cost_usd is None else cost_usd
    return Need(1, max(0, usage.input_tokens - cached), output_tokens, cost_usd)
