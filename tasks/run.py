"""One message's way through a worker: claim, analyze, decide, write, tell.

Each step is a name below; a job killed between any two of them is found again by the dispatcher.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from random import Random
from typing import Protocol
from uuid import UUID

from gateway.errors import ClaimLost, GatewayError
from gateway.journal.journal import Journal
from gateway.ledger import CallLedger
from gateway.messages import AnalysisResult, ModelRef
from tasks.announce import Announcer
from tasks.attempts import Attempts
from tasks.ends import LastCall
from tasks.job import Claim
from tasks.ledger import JobLedger
from tasks.patience import away
from tasks.sparingly import Sparingly
from tasks.store import Incarnation, JobStore
from tasks.verdict import (
    ALL_FAILED,
    DeadLetter,
    Fallback,
    NextAccount,
    Retry,
    Rules,
    Snooze,
    Succeed,
    Verdict,
    cause,
    kept_text,
    too_small,
    verdict,
)
from tasks.whereabouts import whereabouts

log = logging.getLogger(__name__)


class Ending(StrEnum):
    """How one message ended, for the worker's tracer."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RESCHEDULED = "rescheduled"
    STALE = "stale"
    """The message's number was old, or its job gone: nothing was done."""
    FENCED = "fenced"
    """Somebody else owns the job by now: our end of it was refused, our call is on record."""
    HANDED_BACK = "handed_back"
    CUT = "cut"
    """The job was cancelled, or taken by somebody else, while its calls were made: they were cut off and closed."""


class InternalFault(GatewayError):
    """An error of ours. The job is kept as a dead letter; the log has the traceback."""

    paid = None


class Analyst(Protocol):
    """What a run needs of the gateway's world; `workers.build` makes it of gateway and catalog."""

    def account(self, provider: str) -> str:
        """Name of the account a provider's calls are charged to."""
        ...

    def lease_s(self, provider: str) -> float:
        """Seconds an attempt may take with all its calls before it counts as stuck."""
        ...

    def window_tokens(self, model: ModelRef) -> int:
        """Context window of a model."""
        ...

    def moves_on_refusal(self, analysis: str) -> bool:
        """Whether another model may be asked what one has refused."""
        ...

    def spare_account(self, provider: str, account: str) -> bool:
        """Whether another account of the provider than `account` may be well, as far as this process knows."""
        ...

    def is_out(self, provider: str) -> bool:
        """Whether no account's breaker was closed when this process heard of it last."""
        ...

    async def analyze(self, claim: Claim, ledger: CallLedger) -> AnalysisResult:
        """Make the job's calls.

        Raises:
            GatewayError: no validated result came of it.
        """
        ...


@dataclass(slots=True)
class Runner:
    """Runs messages of one worker incarnation. One per process, on its loop."""

    store: JobStore
    analyst: Analyst
    announcer: Announcer
    incarnation: Incarnation
    rng: Random = field(default_factory=Random)
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    attempts: Attempts = field(default_factory=Attempts)
    """Those whose calls are being made: these, and only these, may be cancelled."""
    abandoned: list[LastCall] = field(default_factory=list)
    """What is known of the calls that were cancelled, until `hand_back`."""
    stopping: bool = False
    sparingly: Sparingly = field(default_factory=lambda: Sparingly(log))
    journal: Journal | None = None
    """Where answers lie until they are stored; None: nowhere."""

    async def run(self, job_id: UUID, release: int, provider: str) -> Ending:
        """Run one released job to the end of this attempt. Never raises for what a provider or a model does."""
        claim = await self.store.claim(
            job_id,
            release,
            self.incarnation,
            account=self.analyst.account(provider),
            lease_s=self.analyst.lease_s(provider),
        )
        if claim is None:
            return Ending.STALE
        self.attempts.take(claim.id, claim.claim_no)
        ending = await self._run(claim)
        if ending is not Ending.HANDED_BACK:  # and where it raised nothing is written either: it stays in hand
            self.attempts.let_go(claim.id, claim.claim_no)
        return ending

    async def _run(self, claim: Claim) -> Ending:
        started = asyncio.get_running_loop().time()
        journal = None if self.journal is None else self.journal.of(str(claim.id), claim.claim_no)
        ledger = JobLedger(self.store, claim, journal)
        outcome = await self._attempt(claim, ledger)
        if isinstance(outcome, ClaimLost):
            outcome = Ending.FENCED
        if isinstance(outcome, Ending):
            if outcome is not Ending.HANDED_BACK:
                ledger.let_go()
                await self.store.close_call(claim, *ledger.last)
            return outcome
        rules = self._rules(claim, ledger, asyncio.get_running_loop().time() - started)
        decided = verdict(outcome, claim.with_attempts(ledger.attempts_used), rules, self.rng)
        return await self._end(decided, claim, ledger)

    async def hand_back(self) -> int:
        """Give all jobs still running here back to wait, with what is known of their calls. Returns how many."""
        return await self.store.hand_back(self.incarnation, self.abandoned)

    async def beat(self, *, stopping: bool = False) -> None:
        """Say that the worker lives, and cut off the attempts whose jobs are no longer its own.

        A notification may be lost, or its connection; a worker that was frozen has lost its jobs without a word.
        """
        held = self.attempts.held()
        beat = await self.store.heartbeat(self.incarnation, stopping=stopping, held=held)
        lost = sum(self.attempts.cut(*claim) for claim in beat.lost)
        for claim in beat.lost:
            self.attempts.let_go(*claim)
        if lost:
            log.warning("%d jobs are no longer this worker's: their calls were cut off", lost)

    async def give_back_unheld(self) -> None:
        """Give back the jobs that are the worker's own without its knowing: the replies to their claims were lost."""
        found = await self.store.unheld(self.incarnation, self.attempts.held())
        held = self.attempts.held()
        unheld = [claim for claim in found if claim not in held]
        if unheld:
            log.warning("the replies to %d claims were lost: their jobs go back to wait", len(unheld))
            await self.store.hand_back_unheld(self.incarnation, unheld)

    def heard(self, told: str) -> None:
        """Do what was told on this worker's channel: `cancel <job id> <claim_no>` cuts an attempt off."""
        try:
            word, job_id, claim_no = told.split()
            key = UUID(job_id), int(claim_no)
        except ValueError:
            word = ""
        if word != "cancel":
            log.warning("what was told to this worker is not understood: %.100r", told)
        elif self.attempts.cut(*key):
            log.info("job %s was cancelled: its call was cut off", job_id)
        else:
            self.attempts.expect(*key)

    async def _attempt(self, claim: Claim, ledger: JobLedger) -> AnalysisResult | GatewayError | Ending:
        """The result, the error, or the ending: HANDED_BACK where the process stops, CUT where the job is lost."""
        attempt = self.attempts.begin(claim.id, claim.claim_no)
        try:
            if self.stopping or attempt.cut:
                raise asyncio.CancelledError
            return await self.analyst.analyze(claim, ledger)
        except asyncio.CancelledError:
            if attempt.cut:
                return Ending.CUT
            if not self.stopping:
                # Not from us: something below let its own cancellation out. Nobody would hand this job back.
                return InternalFault("the attempt was cancelled from within")
            self.abandoned.append(LastCall(claim.id, claim.claim_no, *ledger.last))
            return Ending.HANDED_BACK
        except GatewayError as error:
            return error
        except Exception as error:
            log.error("job %s: an error of ours: %s", claim.id, whereabouts(error))
            return InternalFault(f"{type(error).__name__}; the log says where")
        finally:
            self.attempts.end(attempt)

    def _rules(self, claim: Claim, ledger: JobLedger, elapsed_s: float) -> Rules:
        provider = claim.model.provider
        account = ledger.account or self.analyst.account(provider)
        return Rules(
            window_tokens=self._windows(claim),
            moves_on_refusal=lambda: self.analyst.moves_on_refusal(claim.analysis),
            spare_account=lambda: self.analyst.spare_account(provider, account),
            is_out=lambda: self.analyst.is_out(provider),
            remaining_s=None if claim.deadline_in_s is None else claim.deadline_in_s - elapsed_s,
        )

    def _windows(self, claim: Claim) -> Callable[[int], int]:
        return lambda hop: self.analyst.window_tokens(ModelRef.parse(claim.chain[hop]))

    def _cause(self, claim: Claim, move: str, error: GatewayError) -> dict[str, object]:
        unfit = too_small(error, claim, self._windows(claim))
        return cause(claim, move, error, self.now().isoformat(), too_small=unfit)

    async def _end(self, decided: Verdict, claim: Claim, ledger: JobLedger) -> Ending:
        """Apply a verdict; one that Postgres refuses is a dead letter, for another attempt would be paid for again."""
        try:
            return await self._apply(decided, claim, ledger)
        except Exception as error:
            if away(error):
                raise
            log.error("job %s: its end was refused: %s", claim.id, whereabouts(error))
            fault = InternalFault(f"the end of the attempt could not be written: {type(error).__name__}")
            return await self._apply(DeadLetter(fault.name, fault), claim, ledger)

    async def _apply(self, decided: Verdict, claim: Claim, ledger: JobLedger) -> Ending:
        """Write a verdict in one fenced statement, and tell those who wait."""
        held = await self._write(decided, claim, ledger)
        if not held:
            log.warning("job %s: claim %d was refused its end (%s)", claim.id, claim.claim_no, type(decided).__name__)
            ledger.let_go()
            return Ending.FENCED
        if isinstance(decided, Succeed):
            await self.announcer.ended(claim.id, "succeeded", decided.result.data, *ledger.stored())
            return Ending.SUCCEEDED
        self._tell(decided, claim)
        if isinstance(decided, DeadLetter):
            await self.announcer.ended(claim.id, "failed", None, *ledger.stored())
            return Ending.FAILED
        if isinstance(decided, Fallback) and ledger.journal is not None:
            ledger.journal.forget()  # another model is asked; the same one only for what is missing
        return Ending.RESCHEDULED

    def _tell(self, decided: Verdict, claim: Claim) -> None:
        """Write the seeds' lines: who did not answer and who is asked instead, and that nobody did."""
        match decided:
            case Fallback(hop, error):
                to = ModelRef.parse(claim.chain[hop]).provider
                self.sparingly.switching(claim.model.provider, error.name, to)
            case DeadLetter(reason, error) if reason == ALL_FAILED:
                causes = ", ".join((*claim.fallen, f"{claim.model.provider}: {error.name}"))
                self.sparingly.say(logging.ERROR, "All LLM providers failed: [%s]", causes)

    async def _write(self, decided: Verdict, claim: Claim, ledger: JobLedger) -> bool:
        call_no, end = ledger.last
        refund = ledger.unmade
        why: dict[str, object] | None
        match decided:
            case Succeed(result):
                return await self.store.succeed(claim, call_no, end, result, refund=refund)
            case DeadLetter(reason, error):
                why = self._cause(claim, "fail", error)
                return await self.store.fail(
                    claim,
                    call_no,
                    end,
                    reason=reason,
                    cause=why,
                    totals=ledger.totals,
                    refund=refund,
                    raw_text=kept_text(error),
                )
            case Retry(delay_s, error):
                move, hop, why = "retry", claim.hop, self._cause(claim, "retry", error)
            case NextAccount(error):
                move, hop, delay_s, why = "next_account", claim.hop, 0.0, self._cause(claim, "next_account", error)
            case Fallback(next_hop, error):
                move, hop, delay_s, why = "fallback", next_hop, 0.0, self._cause(claim, "fallback", error)
            case Snooze(delay_s, error):
                move, hop, why = f"snooze: {error.name}", claim.hop, None
        return await self.store.reschedule(
            claim, call_no, end, reason=move, delay_s=delay_s, hop=hop, refund=refund, cause=why
        )
