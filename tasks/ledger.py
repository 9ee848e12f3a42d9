"""The ledger of one claim's calls, over the job store.

The first call was opened by the claim itself, in the same write. Closing is held back and written together with
whatever follows: the next call's opening, or the job's end. So a job of one call costs two writes in all, and a
process that dies in between leaves the call `unknown`, which is the truth.
"""

from __future__ import annotations

from gateway.errors import BudgetSpent, ClaimLost
from gateway.ledger import CallEnd, CallOutcome, CallStart
from tasks.job import Claim
from tasks.store import JobStore

NOT_CALLED = CallEnd(outcome=CallOutcome.NOT_CALLED, latency_s=0.0)


class JobLedger:
    """Implements `gateway.ledger.CallLedger` for one claim. `last` is the latest call's number and end."""

    def __init__(self, store: JobStore, claim: Claim) -> None:
        self._store = store
        self._claim = claim
        self._opened = 0
        self._end = NOT_CALLED
        self.calls_used = claim.attempts_used

    @property
    def last(self) -> tuple[int, CallEnd]:
        """Number and end of the claim's latest call; `not_called` while none was tried."""
        return max(1, self._opened), self._end

    @property
    def called(self) -> bool:
        """Whether any call was begun."""
        return self._opened > 0

    async def open(self, call: CallStart) -> int:
        """See `CallLedger.open`."""
        if self._opened:
            opened, owned = await self._store.open_call(self._claim, self._opened, self._end, call)
            if not owned:
                raise ClaimLost(f"job {self._claim.id} is no longer held by claim {self._claim.claim_no}")
            if not opened:
                raise BudgetSpent(f"all {self._claim.max_attempts} calls of the job are used up")
            self.calls_used += 1
        self._opened += 1
        self._end = CallEnd(outcome=CallOutcome.UNKNOWN, latency_s=0.0)
        return self._opened

    async def close(self, call_no: int, end: CallEnd) -> None:
        """See `CallLedger.close`; written with the next opening or the job's end."""
        self._end = end
