"""One provider call, from the ledger's first line to its last.

    open the ledger → be admitted → call the provider under one deadline → settle, price → close the ledger

A call that is not admitted is closed as NOT_CALLED. Whatever happens, an opened call is closed exactly once, in
time even when the caller is cancelled; only the death of the process leaves it `unknown`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from gateway.errors import GatewayError, Timeout
from gateway.ledger import CallEnd, CallKind, CallLedger, CallOutcome, CallStart
from gateway.messages import Usage
from gateway.pricing import cost_usd, worst_cost_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gateway.admission import Admission, Admitted, Terms
    from gateway.hop import Hop
    from gateway.messages import Completion, CompletionRequest
    from gateway.providers.base import Provider

T = TypeVar("T")

NOTHING_USD = Decimal(0)


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that was answered: what came, what it cost (None: unknown), how long it took, how long it had waited."""

    completion: Completion
    cost_usd: Decimal | None
    latency_s: float
    waited_s: float = 0.0


async def call(
    hop: Hop,
    request: CompletionRequest,
    ledger: CallLedger,
    kind: CallKind,
    clock: Callable[[], float],
    admission: Admission,
    terms: Terms,
) -> Answered:
    """Make one call and write it down.

    The provider has `request.timeout_s` seconds for it, however long it had to wait, but no longer than the terms have.

    Raises:
        LedgerRefusal: the ledger forbids it; nothing was sent.
        LimitReached: it was not admitted; nothing was sent.
        ExceedsLimit: it never will be.
        ProviderError: it did not answer; the ledger says how it ended.
    """
    worst = worst_cost_usd(hop.entry, hop.provider.count_tokens(request), request.max_tokens)
    start = CallStart(hop.ref, hop.account, kind, request.max_tokens, worst)
    call_no = await _open(ledger, start)
    try:
        admitted = await _admitted(admission, hop, request, terms, ledger, call_no)
    except BaseException as error:
        await _to_its_end(ledger.close(call_no, _refusal(error)))
        raise
    request = replace(request, timeout_s=min(request.timeout_s, terms.left_s - admitted.waited_s))
    started = clock()
    try:
        completion = await _within_deadline(admitted.seat.provider, request)
    except BaseException as error:
        admitted.failed(error)
        await _to_its_end(ledger.close(call_no, _failure(error, hop, request, clock() - started)))
        raise
    admitted.answered(completion.usage, estimated=completion.usage_estimated)
    cost = cost_usd(hop.entry, completion.usage)
    answered = Answered(completion, cost, clock() - started, admitted.waited_s)
    await _to_its_end(ledger.close(call_no, _success(answered)))
    return answered


async def _admitted(
    admission: Admission, hop: Hop, request: CompletionRequest, terms: Terms, ledger: CallLedger, call_no: int
) -> Admitted:
    """Be let in; where another account pays than the call was opened for, write that down."""
    admitted = await admission.enter(hop, request, terms)
    if admitted.seat.account != hop.account:
        try:
            await ledger.charge(call_no, admitted.seat.account)
        except BaseException:
            admitted.unmade()
            raise
    return admitted


async def _open(ledger: CallLedger, start: CallStart) -> int:
    """Open a call. A cancellation meanwhile waits until its number is known: an opened call must be closed."""
    opening = asyncio.ensure_future(ledger.open(start))
    try:
        return await _settled(opening)
    except asyncio.CancelledError:
        if not opening.cancelled() and opening.exception() is None:
            await _to_its_end(ledger.close(opening.result(), CallEnd(CallOutcome.NOT_CALLED, latency_s=0.0)))
        raise


async def _within_deadline(provider: Provider, request: CompletionRequest) -> Completion:
    try:
        async with asyncio.timeout(request.timeout_s):
            return await provider.complete(request)
    except TimeoutError as error:
        raise Timeout(f"no answer within {request.timeout_s:g} s") from error


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


def _refusal(error: BaseException) -> CallEnd:
    """Say that a call was not made. Of an error that is no GatewayError only the class is written down."""
    told = isinstance(error, GatewayError)
    return CallEnd(
        CallOutcome.NOT_CALLED,
        latency_s=0.0,
        cost_usd=NOTHING_USD,
        error=error.name if isinstance(error, GatewayError) else type(error).__name__,
        error_message=str(error) if told else None,
    )


def _success(answered: Answered) -> CallEnd:
    return CallEnd(
        CallOutcome.SUCCEEDED,
        latency_s=answered.latency_s,
        usage=answered.completion.usage,
        cost_usd=answered.cost_usd,
        finish_reason=answered.completion.finish_reason,
        provider_request_id=answered.completion.provider_request_id,
        estimated=answered.completion.usage_estimated,
    )


def _failure(error: BaseException, hop: Hop, request: CompletionRequest, latency_s: float) -> CallEnd:
    """Say how a call failed. Only what is known to be unpaid costs 0; the rest is priced by its usage or unknown.

    Counted tokens were paid for, whatever the error's class says: an answer that fills the window is ContextTooLong.
    """
    if isinstance(error, GatewayError):
        unpaid = error.paid is False and error.usage is None
        return CallEnd(
            CallOutcome.FAILED,
            latency_s=latency_s,
            usage=error.usage,
            cost_usd=NOTHING_USD if unpaid else cost_usd(hop.entry, error.usage),
            provider_request_id=error.provider_request_id,
            error=error.name,
            error_message=str(error),
        )
    # Anything else but cancellation is a fault in an adapter; its message may hold anything, a prompt included, so
    # only its class is written down.
    if isinstance(error, Exception):
        return CallEnd(CallOutcome.FAILED, latency_s=latency_s, error=type(error).__name__)
    return _abandonment(error, hop, request, latency_s)


def _abandonment(error: BaseException, hop: Hop, request: CompletionRequest, latency_s: float) -> CallEnd:
    """Say that a call was given up. The provider has the question and will charge it: its input is estimated."""
    usage = Usage(hop.provider.count_tokens(request), 0)
    return CallEnd(
        CallOutcome.ABANDONED,
        latency_s=latency_s,
        usage=usage,
        cost_usd=cost_usd(hop.entry, usage),
        estimated=True,
        error=type(error).__name__,
    )
