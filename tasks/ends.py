"""What is known when a claim ends, and the statements' parameters for it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from gateway.ledger import CallEnd
from gateway.messages import JsonObject, Usage
from tasks.storable import storable


@dataclass(frozen=True, slots=True)
class Totals:
    """What the calls of one claim used, cost (None: unknown) and took together."""

    usage: Usage
    cost_usd: Decimal | None
    latency_s: float
    calls: int


@dataclass(frozen=True, slots=True)
class LastCall:
    """A claim's latest call and what is known of it, for a claim that is handed back."""

    job_id: UUID
    claim_no: int
    call_no: int
    end: CallEnd


def call_parameters(end: CallEnd) -> dict[str, Any]:
    """The parameters of the statements that close one call."""
    usage = end.usage
    return {
        "outcome": end.outcome.value,
        "latency_s": end.latency_s,
        "input_tokens": usage.input_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cost_usd": end.cost_usd,
        "estimated": end.estimated,
        "finish_reason": storable(end.finish_reason),
        "provider_request_id": storable(end.provider_request_id),
        "error": end.error,
        "error_message": storable(end.error_message),
    }


def last_call_as_json(last: LastCall) -> JsonObject:
    """One element of `:ends` of `hand_back.sql`."""
    return {
        "job_id": str(last.job_id),
        "claim_no": last.claim_no,
        "call_no": last.call_no,
        **call_as_json(last.end),
    }


def call_as_json(end: CallEnd) -> JsonObject:
    """The same for JSON, which has no decimals."""
    return {**call_parameters(end), "cost_usd": None if end.cost_usd is None else str(end.cost_usd)}


def totals_parameters(totals: Totals) -> dict[str, Any]:
    """The parameters of a result's sums."""
    return {
        "total_input_tokens": totals.usage.input_tokens,
        "total_cached_tokens": totals.usage.cached_tokens,
        "total_output_tokens": totals.usage.output_tokens,
        "total_cost_usd": totals.cost_usd,
        "total_latency_s": totals.latency_s,
        "calls": totals.calls,
    }
