"""The ledger of one claim: what it counts, and which calls it refuses. The store's half is tested on Postgres."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from gateway.calls.answered import Answered
from gateway.errors import BudgetSpent, ClaimLost, CostLimit
from gateway.journal.entry import Kept
from gateway.ledger import NOT_CALLED, CallEnd, CallKind, CallOutcome, CallStart
from gateway.messages import Completion, FinishReason, ModelRef, Usage
from tasks.job import Claim
from tasks.ledger import JobLedger

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
    """Answers `open_call` as told. `known_before`: calls that are found had been closed already."""

    def __init__(self, opened: bool = True, owned: bool = True) -> None:
        self.answer = (opened, owned)
        self.closed: list[tuple[int, CallEnd]] = []
        self.recovered: dict[tuple[int, int], CallEnd] = {}
        self.charged: list[tuple[int, str, CallKind | None]] = []
        self.known_before = False

    async def open_call(self, claim: Claim, call_no: int, end: CallEnd, start: CallStart) -> tuple[bool, bool]:
        self.closed.append((call_no, end))
        return self.answer

    async def charge_call(self, claim: Claim, call_no: int, account: str, kind: CallKind | None = None) -> bool:
        self.charged.append((call_no, account, kind))
        return self.answer[1]

    async def close_lost_calls(self, claim: Claim, ends: dict[tuple[int, int], CallEnd]) -> set[tuple[int, int]]:
        self.recovered |= ends
        return set() if self.known_before else set(ends)


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


# What was found in the journal ------------------------------------------------------------------------------------


def kept(cost: str | None, claim_no: int = 1, call_no: int = 1) -> Kept:
    answered = Answered(
        Completion("text", FinishReason.STOP, Usage(10, 5, 2), "gpt", "req-1"), Decimal(cost) if cost else None, 1.5
    )
    return Kept(claim_no, call_no, answered)


async def test_what_was_found_closes_the_earlier_calls_and_gives_the_claims_own_back():
    store = Store()
    book = ledger(store, claim_no=2, attempts_used=2)
    await book.recovered([kept("0.05")])
    [(call, ended)] = store.recovered.items()
    assert (call, ended.outcome, ended.cost_usd, ended.provider_request_id) == (
        (1, 1),
        CallOutcome.SUCCEEDED,
        Decimal("0.05"),
        "req-1",
    )
    assert (book.unmade, book.attempts_used) == (1, 1)
    call_no, own = book.last
    assert (call_no, own.outcome, own.cost_usd, own.error) == (1, CallOutcome.NOT_CALLED, Decimal(0), None)
    assert own.error_message == "the answer of claim 1, call 1 was in the journal"
    assert (book.totals.cost_usd, book.totals.calls, book.totals.usage) == (Decimal("0.05"), 1, Usage(10, 5, 2))


async def test_a_repair_of_what_was_found_is_the_claims_own_first_call():
    store = Store()
    book = ledger(store, claim_no=2, attempts_used=4, max_attempts=4)
    await book.recovered([kept("0.05")])
    assert await book.open(CallStart(MODEL, "default", CallKind.REPAIR, 100)) == 1
    assert store.charged == [(1, "default", CallKind.REPAIR)]
    assert store.closed == []
    await book.close(1, end("0.02"))
    assert (book.unmade, book.attempts_used) == (0, 4)
    assert (book.totals.cost_usd, book.totals.calls) == (Decimal("0.07"), 2)


async def test_a_repair_is_not_asked_for_where_another_claim_has_the_job():
    book = ledger(Store(owned=False), claim_no=2)
    await book.recovered([kept("0.05")])
    with pytest.raises(ClaimLost):
        await book.open(CallStart(MODEL, "default", CallKind.REPAIR, 100))


@pytest.mark.parametrize(
    ("cost", "fits"), [("0.05", True), ("0.06", False), (None, False)], ids=["less", "as dear", "still unknown"]
)
async def test_a_cost_that_has_become_known_counts_as_what_it_is(cost: str | None, fits: bool):
    """Unknown it counted as dear as the next call could be."""
    book = ledger(claim_no=2, max_cost_usd=Decimal("0.11"), spent_usd=Decimal(0), unpriced_calls=1)
    await book.recovered([kept(cost)])
    if fits:
        assert await book.open(start("0.06")) == 1
        return
    with pytest.raises(CostLimit):
        await book.open(start("0.06"))


async def test_a_cost_that_was_known_before_is_not_counted_twice():
    store = Store()
    store.known_before = True
    book = ledger(store, claim_no=2, max_cost_usd=Decimal("0.11"), spent_usd=Decimal("0.05"), unpriced_calls=0)
    await book.recovered([kept("0.05")])
    assert await book.open(start("0.06")) == 1
