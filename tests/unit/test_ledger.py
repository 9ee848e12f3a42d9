"""The ledger of one claim: what it counts, and which calls it refuses. The store's half is tested on Postgres."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from gateway.errors import BudgetSpent, ClaimLost, CostLimit
from gateway.ledger import CallEnd, CallKind, CallOutcome, CallStart
from gateway.messages import ModelRef, Usage
from tasks.job import Claim
from tasks.ledger import NOT_CALLED, JobLedger

MODEL = ModelRef("openai", "gpt")
CLAIM = Claim(
    id=UUID(int=1),
    claim_no=1,
    analysis="code_quality",
    tenant="t",
    lane="bulk",
    model=MODEL,
    chain=("openai/gpt",),
    hop=0,
    prompt_version=None,
    output_format=None,
    max_tokens=None,
    temperature=None,
    max_cost_usd=None,
    max_attempts=4,
    attempts_used=1,
    use_cache=True,
    use_fallback=True,
    deadline_in_s=None,
    spent_usd=None,
    unpriced_calls=None,
    content="x",
    context={},
    messages=(),
    schema=None,
)


class Store:
    """Answers `open_call` as told."""

    def __init__(self, opened: bool = True, owned: bool = True) -> None:
        self.answer = (opened, owned)
        self.closed: list[tuple[int, CallEnd]] = []

    async def open_call(self, claim: Claim, call_no: int, end: CallEnd, start: CallStart) -> tuple[bool, bool]:
        self.closed.append((call_no, end))
        return self.answer


def start(worst: str | None = None) -> CallStart:
    return CallStart(MODEL, "default", CallKind.ANSWER, 100, Decimal(worst) if worst else None)


def end(cost: str | None) -> CallEnd:
    return CallEnd(CallOutcome.SUCCEEDED, 1.5, Usage(10, 5, 2), Decimal(cost) if cost else None)


def ledger(store: Store | None = None, **changes: Any) -> JobLedger:
    return JobLedger(store or Store(), replace(CLAIM, **changes))  # type: ignore[arg-type]


def capped(limit: str, *, spent: str = "0", unpriced: int = 0, store: Store | None = None) -> JobLedger:
    return ledger(store, max_cost_usd=Decimal(limit), spent_usd=Decimal(spent), unpriced_calls=unpriced)


async def test_the_first_call_was_opened_by_the_claim():
    store = Store()
    book = ledger(store)
    assert book.last == (1, NOT_CALLED)
    assert (book.unmade, book.attempts_used) == (1, 0)
    assert await book.open(start()) == 1
    assert (book.unmade, book.attempts_used, store.closed) == (0, 1, [])


async def test_the_next_opening_closes_the_call_before_it():
    store = Store()
    book = ledger(store)
    await book.open(start())
    await book.close(1, end("0.01"))
    assert await book.open(start()) == 2
    assert store.closed == [(1, end("0.01"))]
    await book.close(2, end("0.02"))
    assert book.last == (2, end("0.02"))
    assert book.attempts_used == 2
    assert (book.totals.cost_usd, book.totals.calls, book.totals.usage) == (Decimal("0.03"), 2, Usage(20, 10, 4))


async def test_a_cost_nobody_knows_makes_the_total_unknown():
    book = ledger()
    await book.open(start())
    await book.close(1, end("0.01"))
    await book.open(start())
    await book.close(2, end(None))
    assert book.totals.cost_usd is None


@pytest.mark.parametrize(("opened", "owned", "error"), [(False, True, BudgetSpent), (False, False, ClaimLost)])
async def test_a_refused_opening_says_why(opened: bool, owned: bool, error: type[Exception]):
    book = ledger(Store(opened, owned))
    await book.open(start())
    await book.close(1, end("0.01"))
    with pytest.raises(error):
        await book.open(start())


async def test_without_a_limit_no_price_is_asked_for():
    assert await ledger().open(start(None)) == 1


async def test_a_call_within_the_limit_is_opened():
    assert await capped("0.10").open(start("0.10")) == 1


@pytest.mark.parametrize(
    ("book", "worst", "why"),
    [
        (capped("0.10"), "0.11", "could take the job to 0.11"),
        (capped("0.10", spent="0.05"), "0.06", "could take the job to 0.11"),
        (capped("0.10", unpriced=1), "0.06", "could take the job to 0.12"),
        (capped("0.10"), None, "is unknown"),
    ],
    ids=["too dear", "with what was spent", "a call of unknown cost counts as dear", "no price"],
)
async def test_a_call_that_could_break_the_limit_is_refused(book: JobLedger, worst: str | None, why: str):
    with pytest.raises(CostLimit, match=why):
        await book.open(start(worst))
    assert book.unmade == 1


async def test_the_limit_counts_the_claims_own_first_call():
    book = capped("0.10")
    await book.open(start("0.06"))
    await book.close(1, end("0.05"))
    with pytest.raises(CostLimit):
        await book.open(start("0.06"))
