"""From answers to results: what an analysis returns, what is remembered of it, and what a remembered answer returns.

Pure. Sums what the calls of one analysis used and cost; decides that a repaired answer is not remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.cache.entry import Entry
from gateway.errors import InvalidOutput, RepairDeferred
from gateway.ledger import CallEnd, CallKind, CallOutcome, CallStart
from gateway.messages import AnalysisResult, Usage
from gateway.pricing import NOTHING_USD, total_usd
from gateway.response import Parsed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.calls.answered import Answered
    from gateway.question import Question
    from gateway.response import Unusable

NO_TOKENS = Usage(0, 0)
"""What a remembered answer uses: its tokens were paid for once, by the call that brought it."""


def fresh_result(question: Question, parsed: Parsed, answers: Sequence[Answered], latency_s: float) -> AnalysisResult:
    """Return the result that one or two calls have brought."""
    last = answers[-1].completion
    return AnalysisResult(
        analysis=question.analysis.name,
        data=parsed.data,
        provider=question.hop.ref.provider,
        model=last.model,
        prompt_version=question.prompt.version,
        usage=_total_usage(answers),
        cost_usd=total_usd(answer.cost_usd for answer in answers),
        latency_s=latency_s,
        calls=len(answers),
        repaired=parsed.repaired,
        raw_text=last.text if parsed.repaired else None,
    )


def entry_of(question: Question, parsed: Parsed, answers: Sequence[Answered]) -> Entry | None:
    """Return what is remembered of an answer; None where it had to be repaired: another call may do better."""
    if parsed.repaired:
        return None
    last = answers[-1].completion
    return Entry(last.text, last.model, question.prompt.version, last.usage)


def remembered_result(question: Question, entry: Entry, latency_s: float) -> AnalysisResult | None:
    """Read a remembered answer as if it had just come; None where it would not pass."""
    parsed = question.shape.read(entry.text)
    if not isinstance(parsed, Parsed) or parsed.repaired or entry.prompt_version != question.prompt.version:
        return None
    return AnalysisResult(
        analysis=question.analysis.name,
        data=parsed.data,
        provider=question.hop.ref.provider,
        model=entry.model,
        prompt_version=entry.prompt_version,
        usage=NO_TOKENS,
        cost_usd=NOTHING_USD,
        latency_s=latency_s,
        calls=0,
        repaired=False,
        cached=True,
    )


def spared_call(question: Question, result: AnalysisResult) -> tuple[CallStart, CallEnd]:
    """Return what the ledger says of the call that a remembered answer has spared."""
    hop = question.hop
    return (
        CallStart(hop.ref, hop.account, CallKind.ANSWER, question.request.max_tokens),
        CallEnd(CallOutcome.CACHED, result.latency_s, usage=NO_TOKENS, cost_usd=NOTHING_USD),
    )


def invalid_output(problem: Unusable, answers: Sequence[Answered]) -> InvalidOutput:
    """Return the error of an answer that stayed unusable, with all that was paid for."""
    return InvalidOutput(f"{'; '.join(problem.errors)} (calls: {len(answers)})", **_paid_for(answers))


def repair_deferred(problem: Unusable, first: Answered) -> RepairDeferred:
    """Return the error of an answer that is unusable so far, with what was paid for."""
    return RepairDeferred(f"to be repaired: {'; '.join(problem.errors)}", **_paid_for((first,)))


def _paid_for(answers: Sequence[Answered]) -> dict[str, Any]:
    last = answers[-1].completion
    return {
        "usage": _total_usage(answers),
        "provider_request_id": last.provider_request_id,
        "raw_text": last.text,
    }


def _total_usage(answers: Sequence[Answered]) -> Usage:
    used = [answer.completion.usage for answer in answers]
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in used),
        output_tokens=sum(usage.output_tokens for usage in used),
        cached_tokens=sum(usage.cached_tokens for usage in used),
        cache_write_tokens=sum(usage.cache_write_tokens for usage in used),
    )
