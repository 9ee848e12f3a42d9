"""What a replay may cost: by what such jobs did cost in the ledger, else by their tokens and today's price.

An unknown price is said, and never 0. An estimate, no promise: the next answer may be longer, above all where it is
given more `max_tokens` than those had by which it is reckoned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from gateway.catalog import Catalog
from gateway.errors import RequestError
from gateway.messages import ModelRef, Usage
from gateway.pricing import cost_usd

SAMPLE_CALLS = 20_000
"""So many of the ledger's latest calls are looked at."""

Priced = Callable[[str, Usage], Decimal | None]
"""US dollars for these tokens on `provider/model`; None: unknown."""


@dataclass(frozen=True, slots=True)
class Group:
    """New jobs of one analysis that begin on one model. `usd`: of all of them together; None: unknown.

    `by`: `ledger`, by what jobs of that analysis did cost on that model; `catalog`, by what they used on others and
    today's price of this one; None where neither is known.
    """

    analysis: str
    model: str
    jobs: int
    usd: Decimal | None
    by: Literal["ledger", "catalog"] | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the new jobs may cost, US dollars: `usd` of those of which it can be told, None where there are none.

    `unpriced_jobs`: of how many it cannot.
    """

    groups: tuple[Group, ...]

    @property
    def usd(self) -> Decimal | None:
        """The sum of what is known."""
        known = [group.usd for group in self.groups if group.usd is not None]
        return sum(known, Decimal(0)) if known else None

    @property
    def unpriced_jobs(self) -> int:
        """Jobs whose cost is unknown: the sum is too low by theirs."""
        return sum(group.jobs for group in self.groups if group.usd is None)


def priced_by(catalog: Catalog) -> Priced:
    """Today's prices of a catalog."""

    def priced(model: str, usage: Usage) -> Decimal | None:
        try:
            return cost_usd(catalog.model(ModelRef.parse(model)), usage)
        except (RequestError, ValueError):
            return None  # a model that this process's catalog does not have

    return priced


def estimate(jobs: Mapping[tuple[str, str], int], ledger: Sequence[Mapping[Any, Any]], priced: Priced) -> Estimate:
    """Estimate what new jobs may cost.

    Args:
        jobs: how many there are, by analysis and first model.
        ledger: the rows of `replay_costs`.
        priced: today's prices.
    """
    by_model = {(row["analysis"], row["model"]): row for row in ledger}
    by_analysis: defaultdict[str, list[Mapping[Any, Any]]] = defaultdict(list)
    for row in ledger:
        by_analysis[row["analysis"]].append(row)
    return Estimate(
        tuple(
            _group(analysis, model, count, by_model.get((analysis, model)), by_analysis[analysis], priced)
            for (analysis, model), count in jobs.items()
        )
    )


def _group(
    analysis: str,
    model: str,
    jobs: int,
    own: Mapping[Any, Any] | None,
    alike: Sequence[Mapping[Any, Any]],
    priced: Priced,
) -> Group:
    if own is not None and own["priced_jobs"]:
        return Group(analysis, model, jobs, _rounded(own["usd"] / own["priced_jobs"] * jobs), "ledger")
    used = _usage(alike)
    each = None if used is None else priced(model, used)
    return Group(
        analysis, model, jobs, None if each is None else _rounded(each * jobs), None if each is None else "catalog"
    )


def _usage(rows: Sequence[Mapping[Any, Any]]) -> Usage | None:
    """Tokens that a job of an analysis used on the average; None where the ledger has none."""
    count = sum(row["jobs"] for row in rows)
    if not count:
        return None
    # What one provider had in its cache another has not: all input counts as fresh.
    return Usage(
        round(sum(row["input_tokens"] for row in rows) / count),
        round(sum(row["output_tokens"] for row in rows) / count),
    )


def _rounded(usd: Decimal) -> Decimal:
    """To the ledger's six decimals."""
    return usd.quantize(Decimal("0.000001"))
