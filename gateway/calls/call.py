"""One provider call, from the ledger's first line to its last.

    open the ledger → be admitted → call the provider under one deadline → settle, price, keep → close the ledger

A call that is not admitted is closed as NOT_CALLED. Whatever happens, an opened call is closed exactly once, in
time even when the caller is cancelled; only the death of the process leaves it `unknown`. For
that case its answer is kept in the journal, until it is stored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from gateway.calls.admission import Admission, check_left
from gateway.calls.answered import Answered
from gateway.calls.end import failure, not_made, success
from gateway.errors import GatewayError, Timeout
from gateway.ledger import NOT_CALLED, CallEnd, CallKind, CallLedger, CallStart
from gateway.pricing import cost_usd
from gateway.providers.base import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gateway.calls.admission import Admitted
    from gateway.calls.hop import Hop, Size
    from gateway.calls.terms import Terms
    from gateway.messages import Completion, CompletionRequest
    from gateway.providers.base import Provider

T = TypeVar("T")

PATIENT_SHARE = 0.5
"""Who gave a provider less of its usual time than this, and had no answer, learned nothing of its health."""

logger = logging.getLogger("gateway")


class Caller:
    """Makes calls: one process's. Lives on one event loop."""

    def __init__(
        self,
        admission: Admission | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        trace_requests: bool = False,
    ) -> None:
        """Make a caller.

        Args:
            admission: what lets calls in; None: all are.
            clock: for how long a call took.
            trace_requests: whether two lines are logged for each call.
        """
        self._admission = admission or Admission()
        self._clock = clock
        self._trace_requests = trace_requests
        self._used: set[str] = set()
        """Providers that were called."""

    async def call(
        self, hop: Hop, request: CompletionRequest, ledger: CallLedger, kind: CallKind, terms: Terms
    ) -> Answered:
        """Make one call and write it down.

        The provider has `request.timeout_s` seconds for it, however long it waited, but no longer than the terms have.

        Raises:
            LedgerRefusal: the ledger forbids it; nothing was sent.
            LimitReached, BreakerOpen, RetriesSpent, DayBudgetSpent: it was not admitted, or there was too little time
                left for it; nothing was sent.
            ExceedsLimit: it never will be.
            ProviderError: it did not answer, or its answer is not whole; the ledger says how it ended. Where the ledger
                could not take that down, it is raised all the same, and the ledger's error is among its causes.
        """
        self._tell_first_use(hop.ref.provider)
        self._trace("LLM call", hop, kind=kind.value)
        try:
            answered = await self._written_down(hop, request, ledger, kind, terms)
        except GatewayError as error:
            self._trace("LLM call failed", hop, kind=kind.value, error=error.name)
            raise
        self._trace("LLM call answered", hop, kind=kind.value, **_facts(answered))
        whole(answered.completion)
        return answered

    async def _written_down(
        self, hop: Hop, request: CompletionRequest, ledger: CallLedger, kind: CallKind, terms: Terms
    ) -> Answered:
        asked = self._clock()
        size = hop.size(request)
        call_no = await _open(ledger, CallStart(hop.ref, hop.account, kind, request.max_tokens, size.worst_usd))
        try:
            admitted, left_s = await self._admitted(hop, size, terms, asked, ledger, call_no)
        except BaseException as error:
            await _closed(ledger, call_no, not_made(error), error)
            raise
        if left_s < request.timeout_s:
            request = replace(request, timeout_s=left_s)
        started = self._clock()
        try:
            completion = await _within_deadline(admitted.seat.provider, request)
            cost = cost_usd(hop.entry, completion.usage)
            answered = Answered(completion, cost, self._clock() - started, admitted.waited_s)
            admitted.answered(completion, cost)
        except BaseException as error:
            try:
                admitted.failed(error, impatient=request.timeout_s < PATIENT_SHARE * hop.timeout_s)
            finally:
                end = failure(error, hop, size.input_tokens, self._clock() - started)
                await _closed(ledger, call_no, end, error)
            raise
        if ledger.journal is not None:
            ledger.journal.keep(call_no, answered)
        await _to_its_end(ledger.close(call_no, success(answered)))
        return answered

    async def _admitted(
        self, hop: Hop, size: Size, terms: Terms, asked: float, ledger: CallLedger, call_no: int
    ) -> tuple[Admitted, float]:
        """Be let in; where another account pays than the call was opened for, write that down.

        Returns:
            Also how many seconds are left then. Its wait is not all that takes time: ledger and limits may be slow.
        """
        admitted = await self._admission.enter(hop, size, terms)
        try:
            if admitted.seat.account != hop.account:
                await ledger.charge(call_no, admitted.seat.account)
            left_s = terms.left_s - max(admitted.waited_s, self._clock() - asked)
            check_left(left_s)
        except BaseException:
            admitted.unmade()
            raise
        return admitted, left_s

    def _tell_first_use(self, provider: str) -> None:
        if provider not in self._used:
            self._used.add(provider)
            logger.info("Using %s for content generation", provider)

    def _trace(self, event: str, hop: Hop, **facts: object) -> None:
        if self._trace_requests:
            logger.info(event, extra={"provider": hop.ref.provider, "model": hop.ref.model, **facts})


async def _open(ledger: CallLedger, start: CallStart) -> int:
    """Open a call. A cancellation meanwhile waits until its number is known: an opened call must be closed."""
    opening = asyncio.ensure_future(ledger.open(start))
    try:
        return await _settled(opening)
    except asyncio.CancelledError:
        if not opening.cancelled() and opening.exception() is None:
            await _to_its_end(ledger.close(opening.result(), NOT_CALLED))
        raise


async def _within_deadline(provider: Provider, request: CompletionRequest) -> Completion:
    try:
        async with asyncio.timeout(request.timeout_s):
            return await provider.complete(request)
    except TimeoutError as error:
        raise Timeout(f"no answer within {request.timeout_s:g} s") from error


async def _closed(ledger: CallLedger, call_no: int, end: CallEnd, error: BaseException) -> None:
    """Close a call that ended with an error, which the caller raises. Where that fails, too, both are said.

    Raises:
        BaseException: `error` itself, the ledger's among its causes: a job's verdict goes by how its call ended.
        CancelledError: the caller was cancelled meanwhile.
    """
    try:
        await _to_its_end(ledger.close(call_no, end))
    except Exception as unwritten:
        logger.error("the end of a call was not written down (%s)", type(unwritten).__name__)
        cause = error.__cause__
        if isinstance(cause, Exception):
            raise error from ExceptionGroup("it failed, and that was not written down", [cause, unwritten])
        raise error from unwritten


async def _to_its_end(work: Coroutine[object, object, T]) -> T:
    return await _settled(asyncio.ensure_future(work))


async def _settled(task: asyncio.Future[T]) -> T:
    """Await a task to its end even when cancelled meanwhile; the cancellation is raised after it.

    The task's own bound (the ledger's statement timeout) is the bound of the wait.
    """
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation from task.exception()
    return task.result()


def _facts(answered: Answered) -> dict[str, object]:
    return {
        "finish_reason": answered.completion.finish_reason.value,
        "latency_ms": round(answered.latency_s * 1_000),
        "provider_request_id": answered.completion.provider_request_id,
    }
