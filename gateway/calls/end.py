"""How a call ended, as the ledger has it: admitted or not, answered or not, and at what price. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import GatewayError
from gateway.ledger import CallEnd, CallOutcome
from gateway.messages import Usage
from gateway.pricing import NOTHING_USD, cost_usd

if TYPE_CHECKING:
    from gateway.calls.answered import Answered
    from gateway.calls.hop import Hop


def not_made(error: BaseException) -> CallEnd:
    """Say that a call was not made. Of an error that is no GatewayError only the class is written down."""
    told = isinstance(error, GatewayError)
    return CallEnd(
        CallOutcome.NOT_CALLED,
        latency_s=0.0,
        cost_usd=NOTHING_USD,
        error=error.name if isinstance(error, GatewayError) else type(error).__name__,
        error_message=str(error) if told else None,
    )


def success(answered: Answered) -> CallEnd:
    """Say what a call brought and cost."""
    return CallEnd(
        CallOutcome.SUCCEEDED,
        latency_s=answered.latency_s,
        usage=answered.completion.usage,
        cost_usd=answered.cost_usd,
        finish_reason=answered.completion.finish_reason,
        provider_request_id=answered.completion.provider_request_id,
        estimated=answered.completion.usage_estimated,
    )


def failure(error: BaseException, hop: Hop, input_tokens: int, latency_s: float) -> CallEnd:
    """Say how a call failed. Only what is known to be unpaid costs 0; the rest is priced by its usage or unknown.

    Counted tokens were paid for, whatever the error's class says: an answer that fills the window is ContextTooLong.

    Args:
        error: what it ended with.
        hop: where it went.
        input_tokens: of the request, as counted beforehand.
        latency_s: seconds that it took.
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
    return _abandonment(error, hop, input_tokens, latency_s)


def _abandonment(error: BaseException, hop: Hop, input_tokens: int, latency_s: float) -> CallEnd:
    """Say that a call was given up. The provider has the question and will charge it: its input is estimated."""
    usage = Usage(input_tokens, 0)
    return CallEnd(
        CallOutcome.ABANDONED,
        latency_s=latency_s,
        usage=usage,
        cost_usd=cost_usd(hop.entry, usage),
        estimated=True,
        error=type(error).__name__,
    )
