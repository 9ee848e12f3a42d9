"""One provider call, from the ledger's first line to its last.

    open the ledger → call the provider under one deadline → price → close the ledger

The room for admission (limits, slots, the breaker) is between opening and calling: a call that is
not admitted is closed as NOT_CALLED. Whatever happens, an opened call is closed exactly once, in
time even when the caller is cancelled; only the death of the process leaves it `unknown`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from gateway.errors import GatewayError, Timeout
from gateway.ledger import CallEnd, CallKind, CallLedger, CallOutcome, CallStart
from gateway.messages import Usage
from gateway.pricing import cost_usd, worst_cost_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gateway.catalog_entries import ModelEntry
    from gateway.messages import Completion, CompletionRequest, ModelRef
    from gateway.providers.base import Provider

T = TypeVar("T")

NOTHING_USD = Decimal(0)


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a call goes: the model and its entry, the account's name, the provider's usual deadline, its adapter."""

    ref: ModelRef
    entry: ModelEntry
    account: str
    timeout_s: float
    provider: Provider


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that was answered: what came, what it cost (None: unknown), how long it took."""

    completion: Completion
    cost_usd: Decimal | None
    latency_s: float


async def call(
    hop: Hop, request: CompletionRequest, ledger: CallLedger, kind: CallKind, clock: Callable[[], float]
) -> Answered:
    """Make one call and write it down.

    Raises:
        LedgerRefusal: the ledger forbids it; nothing was sent.
        ProviderError: it did not answer; the ledger says how it ended.
    """
    worst = worst_cost_usd(hop.entry, hop.provider.count_tokens(request), request.max_tokens)
    start = CallStart(hop.ref, hop.account, kind, request.max_tokens, worst)
    call_no = await _open(ledger, start)
    started = clock()
    try:
        completion = await _within_deadline(hop.provider, request)
    except BaseException as error:
        await _to_its_end(ledger.close(call_no, _failure(error, hop, request, clock() - started)))
        raise
    answered = Answered(completion, cost_usd(hop.entry, completion.usage), clock() - started)
    await _to_its_end(ledger.close(call_no, _success(answered)))
    return answered


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
