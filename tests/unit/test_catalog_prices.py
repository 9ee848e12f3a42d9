"""The shipped prices against `genai-prices`, so that a figure that drifts is seen."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from genai_prices.data import providers as their_providers

from gateway.catalog import load_catalog
from gateway.messages import ModelRef, Usage
from gateway.pricing import cost_usd

THEIR_NAMES = {"claude": "anthropic", "openai": "openai", "gemini": "google"}
CATALOG = load_catalog(None, {})
PRICED = [ModelRef(provider, model) for provider in THEIR_NAMES for model in CATALOG.providers[provider].models]
CHECKED = date(2026, 11, 21)
"""The day on which the shipped prices were last checked; a later one belongs here with the entries' `checked`."""

USAGES = [
    Usage(10_000, 2_000),
    Usage(90_000, 1_000, cached_tokens=40_000),
    Usage(150_000, 1_000),
    Usage(300_000, 5_000, cached_tokens=1_000),
]


def theirs(ref: ModelRef, usage: Usage, day: date) -> Decimal:
    used = TheirUsage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
    )
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return calc_price(used, ref.model, provider_id=THEIR_NAMES[ref.provider], genai_request_timestamp=at).total_price


def days(ref: ModelRef) -> list[date]:
    return [CHECKED, *(change.since for change in CATALOG.model(ref).price_changes)]


@pytest.mark.parametrize("ref", PRICED, ids=str)
def test_a_call_costs_what_genai_prices_says(ref):
    for day in days(ref):
        for usage in USAGES:
            if ref.model == "claude-sonnet-4-5" and usage.input_tokens > 200_000:
                continue  # beyond its window here; they price the retired long-context beta
            assert cost_usd(CATALOG.model(ref), usage, day) == theirs(ref, usage, day), (day, usage)


@pytest.mark.parametrize("ref", [ref for ref in PRICED if CATALOG.model(ref).price], ids=str)
def test_a_written_cache_costs_what_genai_prices_says(ref):
    price = CATALOG.model(ref).price
    assert price is not None
    if price.cache_write_per_mtok_usd is not None:
        usage = Usage(50_000, 100, cached_tokens=10_000, cache_write_tokens=20_000)
        assert cost_usd(CATALOG.model(ref), usage, CHECKED) == theirs(ref, usage, CHECKED)


def test_a_price_changes_on_its_day_and_not_before():
    ref = ModelRef("gemini", "gemini-3.8-flash")
    entry = CATALOG.model(ref)
    [change] = entry.price_changes
    usage = Usage(1_000_000, 0)
    assert cost_usd(entry, usage, change.since - timedelta(days=1)) == Decimal("0.75")
    assert cost_usd(entry, usage, change.since) == Decimal("1.50")


def test_windows_are_theirs_where_they_know_one():
    """They round; nothing shipped is off by more than that."""
    found = 0
    for ref in PRICED:
        [provider] = [p for p in their_providers if p.id == THEIR_NAMES[ref.provider]]
        known = provider.find_model(ref.model)
        if known is not None and known.context_window:
            found += 1
            assert CATALOG.model(ref).context_window == pytest.approx(known.context_window, rel=0.05), ref
    assert found >= len(PRICED) // 2
