"""The ledger of one claim's calls, over the job store.

The first call was opened by the claim itself, in the same write. Closing is held back and written together with
whatever follows: the next call's opening, or the job's end. So a job of one call costs two writes in all, and a
process that dies in between leaves the call `unknown`, which is the truth.
"""

from __future__ import annotations

from decimal import Decimal

from gateway.errors import BudgetSpent, ClaimLost, CostLimit
from gateway.ledger import CallEnd, CallOutcome, CallStart
from gateway.messages import Usage
from tasks.job import Claim
from tasks.store import JobStore, Totals

NOT_CALLED = CallEnd(outcome=CallOutcome.NOT_CALLED, latency_s=0.0)


class JobLedger:
    """Implements `gateway.ledger.CallLedger` for one claim. `last` is the latest call's number and end.

    The claim opened its first call before anybody looked for a remembered answer. Where one is found, that row becomes
    `cached`; where the process dies while it waits for somebody else's answer, the row stays `unknown` though no call
    was made: more than there was, never less.
    """

    def __init__(self, store: JobStore, claim: Claim) -> None:
        self._store = store
        self._claim = claim
        self._opened = 0
        self._end = NOT_CALLED
        self._closed: list[CallEnd] = []
        self.account: str | None = None
        """Of the latest call; None while none was tried."""

    @property
    def last(self) -> tuple[int, CallEnd]:
        """Number and end of the claim's latest call; `not_called` while none was tried."""
        return max(1, self._opened), self._end

    @property
    def totals(self) -> Totals:
        """What this claim's calls used and cost together; a cost that is unknown makes the sum unknown."""
        used = [end.usage for end in self._made if end.usage]
        costs = [end.cost_usd for end in self._made]
        return Totals(
            usage=Usage(
                sum(u.input_tokens for u in used),
                sum(u.output_tokens for u in used),
                sum(u.cached_tokens for u in used),
            ),
            cost_usd=None if None in costs else sum((c for c in costs if c is not None), Decimal(0)),
            latency_s=sum(end.latency_s for end in self._made),
            calls=len(self._made),
        )

    @property
    def attempts_used(self) -> int:
        """The job's attempts, this claim's calls counted in."""
        return self._claim.attempts_used + max(1, self._opened) - 1 - self.unmade

    @property
    def unmade(self) -> int:
        """Attempts that were counted and not made: the claim's where it opened no call, and what was not admitted."""
        return len(self._closed) - len(self._made) if self._opened else 1

    @property
    def _made(self) -> list[CallEnd]:
        return [end for end in self._closed if end.outcome is not CallOutcome.NOT_CALLED]

    async def open(self, call: CallStart) -> int:
        """See `CallLedger.open`."""
        self._check_cost(call)
        if self._opened:
            opened, owned = await self._store.open_call(self._claim, self._opened, self._end, call)
            if not owned:
                raise ClaimLost(f"job {self._claim.id} is no longer held by claim {self._claim.claim_no}")
            if not opened:
                raise BudgetSpent(f"all {self._claim.max_attempts} calls of the job are used up")
        self._opened += 1
        self.account = call.account
        self._end = CallEnd(outcome=CallOutcome.UNKNOWN, latency_s=0.0)
        return self._opened

    def _check_cost(self, call: CallStart) -> None:
        """Refuse a call that could take the job over its `max_cost_usd`.

        Earlier calls of unknown cost count as dear as this one could be: a limit is a limit.
        """
        limit = self._claim.max_cost_usd
        if limit is None:
            return
        if call.worst_cost_usd is None:
            raise CostLimit(f"the price of {call.model} is unknown, and the job may cost {limit} USD at most")
        spent = (self._claim.spent_usd or 0) + (self._end.cost_usd or 0)
        unknown = (self._claim.unpriced_calls or 0) + int(self._opened > 0 and self._end.cost_usd is None)
        worst = spent + (1 + unknown) * call.worst_cost_usd
        if worst > limit:
            raise CostLimit(f"{call.model} could take the job to {worst:.6f} USD, and it may cost {limit} at most")

    async def spared(self, call: CallStart, end: CallEnd) -> None:
        """See `CallLedger.spared`; written with the job's end. No call is opened, so the attempt is given back."""
        self._end = end

    async def charge(self, call_no: int, account: str) -> None:
        """See `CallLedger.charge`."""
        self.account = account
        if not await self._store.charge_call(self._claim, call_no, account):
            raise ClaimLost(f"job {self._claim.id} is no longer held by claim {self._claim.claim_no}")

    async def close(self, call_no: int, end: CallEnd) -> None:
        """See `CallLedger.close`; written with the next opening or the job's end."""
        self._end = end
        self._closed.append(end)
