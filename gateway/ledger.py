"""The port through which every provider call is written down, before it is made and after it ended.

`tasks` implements it over Postgres. The gateway promises: `open` is awaited before the first byte
goes to a provider; `close` is awaited exactly once for each opened call, whatever happened, unless
the process dies. A call that was opened and never closed stays `unknown`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from gateway.errors import BudgetSpent
from gateway.messages import ModelRef, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.journal.entry import Kept
    from gateway.journal.journal import ClaimJournal


class CallKind(StrEnum):
    """Why a call is made: the question itself, or the one re-ask that shows the model its validation errors."""

    ANSWER = "answer"
    REPAIR = "repair"


class CallOutcome(StrEnum):
    """How a call ended, as the ledger has it. `unknown` is written before the call and by nothing else."""

    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NOT_CALLED = "not_called"
    ABANDONED = "abandoned"
    CACHED = "cached"
    """A remembered answer took its place: no call was made, no token used, nothing paid."""


@dataclass(frozen=True, slots=True)
class CallStart:
    """What is known before a call. `worst_cost_usd`: what it may cost at most, None where the price is unknown."""

    model: ModelRef
    account: str
    kind: CallKind
    max_tokens: int
    worst_cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class CallEnd:
    """What is known after a call. `cost_usd` None means unknown, never free.

    `estimated`: usage and cost are our own estimate, because the call was cut short and the provider told nothing.
    """

    outcome: CallOutcome
    latency_s: float
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    finish_reason: str | None = None
    provider_request_id: str | None = None
    error: str | None = None
    error_message: str | None = None
    estimated: bool = False


NOT_CALLED = CallEnd(CallOutcome.NOT_CALLED, latency_s=0.0)


class CallLedger(Protocol):
    """Where calls are written down. `call_no` counts the calls of one claim from 1."""

    async def open(self, call: CallStart) -> int:
        """Write the call as `unknown` and return its number.

        Raises:
            BudgetSpent: the job may make no further call, or (CostLimit) none as dear as this one.
            ClaimLost: somebody else owns the job now; the call must not be made.
        """
        ...

    async def charge(self, call_no: int, account: str) -> None:
        """Write that another account than it was opened for makes the call.

        Raises:
            ClaimLost: somebody else owns the job now; the call must not be made.
        """
        ...

    async def close(self, call_no: int, end: CallEnd) -> None:
        """Write how the call ended."""
        ...

    async def spared(self, call: CallStart, end: CallEnd) -> None:
        """Write down, in place of a claim's first call, that a remembered answer spared it: `end` is CACHED.

        Never refused: it costs nothing, so neither `max_cost_usd` nor the budget of calls has a say.
        """
        ...

    @property
    def journal(self) -> ClaimJournal | None:
        """Where answers are kept until they are stored; None: nowhere."""
        ...

    async def recovered(self, found: Sequence[Kept]) -> None:
        """Write down how calls of earlier claims have ended, whose answers were found in the journal.

        The claim need not make them again: what it calls after this, if anything, goes on from these answers. Never
        refused, whoever owns the job: they were made.
        """
        ...


@dataclass(frozen=True, slots=True)
class MemoryCall:
    """One call in a `MemoryLedger`; `end` is None while it is `unknown`."""

    start: CallStart
    end: CallEnd | None = None


class MemoryLedger:
    """A ledger in memory: for calls outside a job, and for tests.

    `max_calls` is its budget, None for no bound; calls that were spared do not count.
    """

    def __init__(self, max_calls: int | None = None) -> None:
        self.max_calls = max_calls
        self.calls: list[MemoryCall] = []

    async def open(self, call: CallStart) -> int:
        """Write the call down; see `CallLedger.open`.

        Raises:
            BudgetSpent: `max_calls` are written down already.
        """
        if self.max_calls is not None and self._made() >= self.max_calls:
            raise BudgetSpent(f"{self._made()} of {self.max_calls} calls are made")
        self.calls.append(MemoryCall(call))
        return len(self.calls)

    async def charge(self, call_no: int, account: str) -> None:
        """Write the account down; see `CallLedger.charge`."""
        call = self.calls[call_no - 1]
        self.calls[call_no - 1] = replace(call, start=replace(call.start, account=account))

    async def close(self, call_no: int, end: CallEnd) -> None:
        """Write down how the call ended; see `CallLedger.close`.

        Raises:
            ValueError: it is closed already.
        """
        call = self.calls[call_no - 1]
        if call.end is not None:
            raise ValueError(f"call {call_no} is closed already")
        self.calls[call_no - 1] = MemoryCall(call.start, end)

    async def spared(self, call: CallStart, end: CallEnd) -> None:
        """Write down that a call was spared; see `CallLedger.spared`."""
        self.calls.append(MemoryCall(call, end))

    @property
    def journal(self) -> None:
        """None: there is nothing to come back to after the process's end."""

    async def recovered(self, found: Sequence[Kept]) -> None:
        """Do nothing: without a journal nothing is ever found."""

    def _made(self) -> int:
        return sum(call.end is None or call.end.outcome is not CallOutcome.CACHED for call in self.calls)
