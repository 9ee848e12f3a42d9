"""What operators switch of the gateway's log, and its line for each analysis. No log line ever holds content."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.messages import AnalysisResult

logger = logging.getLogger("gateway")


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What operators switch.

    `trace_requests`: two lines for each provider call. `log_token_usage`: tokens and cost in each analysis's line.
    """

    trace_requests: bool = False
    log_token_usage: bool = False


def log_result(result: AnalysisResult, options: GatewayOptions) -> None:
    """Write the seeds' line."""
    if not logger.isEnabledFor(logging.INFO):
        return
    extra: dict[str, Any] = {
        "provider": result.provider,
        "analysis_type": result.analysis,
        "latency_ms": round(result.latency_s * 1_000),
        "cache_hit": result.cached,
    }
    if options.log_token_usage:
        extra["tokens_used"] = result.usage.input_tokens + result.usage.output_tokens
        extra["cost_usd"] = result.cost_usd
    logger.info("LLM analysis completed", extra=extra)
