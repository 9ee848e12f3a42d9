"""The ledger of one claim's calls, over the job store.

The first call was opened by the claim itself, in the same write. Closing is held back and written together with
whatever follows: the next call's opening, or the job's end. So a job of one call costs two writes in all, and a
process that dies in between leaves the call `unknown`, which is the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from gateway.calls.end import success
from gateway.errors import BudgetSpent, ClaimLost, CostLimit
from gateway.journal.entry import Kept
from gateway.journal.journal import ClaimJournal
from gateway.ledger import NOT_CALLED, CallEnd, CallOutcome, CallStart
from gateway.messages import Usage
from gateway.pricing import NOTHING_USD
from gateway.redis_line import Command
from tasks.ends import Totals
from tasks.job import Claim
from tasks.store import JobStore


class JobLedger:
    """Implements `gateway.ledger.CallLedger` for one claim. `last` is the latest call's number and end.

    The claim opened its first call before anybody looked for a remembered answer. Where one is found, that row becomes
    `cached`; where the process dies while it waits for somebody else's answer, the row stays `unknown` though no call
    was made: more than there was, never less. Where an earlier claim's answer is found in the journal, the row becomes
    `not_called`, and the earlier claim's gets the end that it had.
    """

    def __init__(self, store: JobStore, claim: Claim, journal: ClaimJournal | None = None) -> None:
        self._store = store
        self._claim = claim
        self._journal = journal
        self._found: list[CallEnd] = []
        """Ends of earlier claims' calls, whose answers this one goes on from."""
        self._newly_known_usd: list[Decimal] = []
        """Of them, the costs that were unknown when the job was claimed."""
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
        """What this claim's calls, and those it goes on from, used and cost; an unknown cost makes the sum unknown."""
        made = [*self._found, *self._made]
        used = [end.usage for end in made if end.usage]
        costs = [end.cost_usd for end in made]
        return Totals(
            usage=Usage(
                sum(u.input_tokens for u in used),
                sum(u.output_tokens for u in used),
                sum(u.cached_tokens for u in used),
            ),
            cost_usd=None if None in costs else sum((c for c in costs if c is not None), Decimal(0)),
            latency_s=sum(end.latency_s for end in made),
            calls=len(made),
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
        if not self._opened and self._claim.attempts_used > self._claim.max_attempts:
            # Rescued though its attempts were used up, for an answer that is not there or does not do.
            raise BudgetSpent(f"all {self._claim.max_attempts} calls of the job are used up")
        if self._opened:
            opened, owned = await self._store.open_call(self._claim, self._opened, self._end, call)
            if not owned:
                raise ClaimLost(f"job {self._claim.id} is no longer held by claim {self._claim.claim_no}")
            if not opened:
                raise BudgetSpent(f"all {self._claim.max_attempts} calls of the job are used up")
        elif self._found and not await self._store.charge_call(self._claim, 1, call.account, call.kind):
            # The claim opened its call as an answer, and this is a repair of one that was found.
            raise ClaimLost(f"job {self._claim.id} is no longer held by claim {self._claim.claim_no}")
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
        known = self._newly_known_usd
        spent = (self._claim.spent_usd or 0) + sum(known) + (self._end.cost_usd or 0)
        unpriced = (self._claim.unpriced_calls or 0) - len(known)
        unknown = unpriced + int(self._opened > 0 and self._end.cost_usd is None)
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

    @property
    def journal(self) -> ClaimJournal | None:
        """See `CallLedger.journal`."""
        return self._journal

    def stored(self) -> Sequence[Command]:
        """See `ClaimJournal.stored`."""
        return () if self._journal is None else self._journal.stored()

    def let_go(self) -> None:
        """See `ClaimJournal.close`."""
        if self._journal is not None:
            self._journal.close()

    async def recovered(self, found: Sequence[Kept]) -> None:
        """See `CallLedger.recovered`; written at once. Unless a repair follows, the claim makes no call of its own."""
        ends = {(one.claim_no, one.call_no): success(one.answered) for one in found}
        closed = await self._store.close_lost_calls(self._claim, ends)
        self._found = list(ends.values())
        self._newly_known_usd = [usd for call in closed if (usd := ends[call].cost_usd) is not None]
        calls = " and ".join(f"claim {claim_no}, call {call_no}" for claim_no, call_no in ends)
        self._end = CallEnd(
            CallOutcome.NOT_CALLED, 0.0, cost_usd=NOTHING_USD, error_message=f"the answer of {calls} was in the journal"
        )
