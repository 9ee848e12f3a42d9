"""What a replay may cost: by the ledger, by tokens and price, or unknown; never 0 for want of knowing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway.catalog import load_catalog
from gateway.messages import Usage
from tasks.replay.costs import estimate, priced_by


def row(
    model: str, jobs: int, usd: str | None, tokens: tuple[int, int] = (100, 10), analysis: str = "a"
) -> dict[str, Any]:
    priced = jobs if usd is not None else 0
    cost = None if usd is None else Decimal(usd)
    return {
        "analysis": analysis, "model": model, "jobs": jobs, "input_tokens": tokens[0] * jobs,
        "output_tokens": tokens[1] * jobs, "priced_jobs": priced, "usd": cost,
    }  # fmt: skip


def cents(model: str, usage: Usage) -> Decimal | None:
    """A cent for each token; of `x/free` none, of `x/unknown` nobody knows."""
    prices = {"x/dear": Decimal("0.01"), "x/free": Decimal(0)}
    return None if model not in prices else prices[model] * (usage.input_tokens + usage.output_tokens)


def test_what_such_jobs_did_cost_counts_first() -> None:
    found = estimate({("a", "x/dear"): 6}, [row("x/dear", 4, "2.00"), row("y/other", 9, "90.00")], cents)
    assert (found.usd, found.unpriced_jobs, found.groups[0].by) == (Decimal("3.000000"), 0, "ledger")


def test_for_another_model_its_price_and_the_ledgers_tokens_count() -> None:
    ledger = [row("y/one", 1, "5.00", (100, 20)), row("y/two", 3, None, (20, 20)), row("x/dear", 5, "9", analysis="b")]
    found = estimate({("a", "x/dear"): 10}, ledger, cents)
    assert (found.usd, found.groups[0].by) == (Decimal("6.000000"), "catalog")  # (40 + 20) tokens each


def test_a_price_of_nothing_is_known_and_no_price_is_not() -> None:
    ledger = [row("y/one", 1, "5.00")]
    assert estimate({("a", "x/free"): 3}, ledger, cents).usd == 0
    unknown = estimate({("a", "x/unknown"): 3}, ledger, cents)
    assert (unknown.usd, unknown.unpriced_jobs, unknown.groups[0].by) == (None, 3, None)


def test_nothing_in_the_ledger_is_nothing_known() -> None:
    found = estimate({("a", "x/dear"): 3, ("b", "x/dear"): 2}, [row("x/dear", 2, "1.00", analysis="b")], cents)
    assert (found.usd, found.unpriced_jobs) == (Decimal("1.000000"), 3)


def test_nothing_to_replay_costs_nobody_knows_what() -> None:
    assert estimate({}, [], cents).usd is None


@pytest.mark.parametrize("model", ["openai/unheard-of", "nobody/at-all", "no slash"])
def test_a_model_that_the_catalog_does_not_have_has_no_price(model: str) -> None:
    assert priced_by(load_catalog(None, {}))(model, Usage(1, 1)) is None


def test_the_catalogs_prices_are_todays() -> None:
    catalog = load_catalog(None, {})
    model, entry = next(
        (f"{provider}/{name}", entry)
        for provider, listed in catalog.providers.items()
        for name, entry in listed.models.items()
        if entry.price is not None and entry.price.output_per_mtok_usd > 0 and not entry.price_changes
    )
    assert entry.price is not None
    assert priced_by(catalog)(model, Usage(0, 1_000_000)) == entry.price.output_per_mtok_usd
