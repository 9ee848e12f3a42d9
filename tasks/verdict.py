"""What becomes of a job after an attempt: a pure function from what happened to a value that says what to do.

`tasks.run` writes the value to Postgres in one fenced statement. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from gateway.errors import (
    BreakerOpen,
    ContentRefused,
    ContextTooLong,
    DayBudgetSpent,
    GatewayError,
    LimitReached,
    RequestError,
    RetriesSpent,
)
from gateway.messages import AnalysisResult
from tasks.job import Claim

BACKOFF_BASE_S = 1.0
BACKOFF_CAP_S = 60.0
ALL_FAILED = "all_providers_failed"
"""Why a job is a dead letter that went from provider to provider and found none that answers; its causes name each."""
LONGEST_RETRY_AFTER_S = 3600.0
"""A provider that asks for more than an hour is treated like one without quota: the next hop, or the dead letter."""


@dataclass(frozen=True, slots=True)
class Succeed:
    """A validated result."""

    result: AnalysisResult


@dataclass(frozen=True, slots=True)
class Retry:
    """The same hop again, `delay_s` seconds from now."""

    delay_s: float
    error: GatewayError


@dataclass(frozen=True, slots=True)
class Fallback:
    """Hop `hop` of the chain, at once."""

    hop: int
    error: GatewayError


@dataclass(frozen=True, slots=True)
class Snooze:
    """No call was made and none may be now; `delay_s` seconds from now, at no cost to the budget."""

    delay_s: float
    error: LimitReached | BreakerOpen | RetriesSpent | DayBudgetSpent


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Nothing left to try. `reason` is the word that stands on the job."""

    reason: str
    error: GatewayError


Verdict = Succeed | Retry | Fallback | Snooze | DeadLetter


@dataclass(frozen=True, slots=True)
class Rules:
    """What the verdict must know beside the job and its error.

    `window_tokens(hop)`: the context window of a hop's model. `moves_on_refusal()`: whether this analysis may ask
    another model what one has refused. `remaining_s`: seconds to the caller's deadline, None without one.
    """

    window_tokens: Callable[[int], int]
    moves_on_refusal: Callable[[], bool] = lambda: False
    remaining_s: float | None = None


def verdict(outcome: AnalysisResult | GatewayError, job: Claim, rules: Rules, rng: Random) -> Verdict:
    """Decide what becomes of a job.

    An answer succeeds. A call that was not admitted costs no attempt: behind an open breaker, where the fleet has no
    retry left, or where the day's money is spent, the job goes on to the next hop at once, else it waits. A passing
    fault is retried on its hop, the last attempt kept for the next hop; a fault that another model may not share, or
    one whose retry the deadline would not see, goes on at once; anything else, or a spent budget or deadline, is a dead
    letter.

    Args:
        outcome: the validated result, or the error the attempt ended with.
        job: the claim, whose `attempts_used` already counts this attempt's calls.
        rules: see `Rules`.
        rng: source of the jitter.
    """
    if isinstance(outcome, AnalysisResult):
        return Succeed(outcome)
    remaining_s = math.inf if rules.remaining_s is None else rules.remaining_s
    if isinstance(outcome, LimitReached | BreakerOpen | RetriesSpent | DayBudgetSpent) and remaining_s > 0:
        following = _next_hop(outcome, job, rules)
        if following is not None:
            return Fallback(following, outcome)
        if (outcome.retry_after_s or 0.0) < remaining_s:
            return Snooze(outcome.retry_after_s or 0.0, outcome)
    reason = ALL_FAILED if job.fallen and job.next_hop is None and outcome.try_next_model else outcome.name
    if job.attempts_left == 0 or isinstance(outcome, RequestError):
        return DeadLetter(reason, outcome)
    if remaining_s <= 0:
        return DeadLetter("deadline", outcome)
    following = _next_hop(outcome, job, rules)
    if _worth_retrying(outcome) and (following is None or job.attempts_left > 1):
        delay_s = backoff_s(job.attempts_used, outcome.retry_after_s, rng)
        if delay_s < remaining_s:
            return Retry(delay_s, outcome)
        reason = "deadline"
    return DeadLetter(reason, outcome) if following is None else Fallback(following, outcome)


def backoff_s(attempt: int, retry_after_s: float | None, rng: Random) -> float:
    """Seconds to wait before the next attempt: full jitter over an exponential ceiling, on top of what was asked for.

    The ceiling is `BACKOFF_BASE_S * 2**(attempt - 1)`, at most `BACKOFF_CAP_S`; the jitter stays whole at the cap
    (M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
    """
    ceiling = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** (max(1, attempt) - 1))
    return (retry_after_s or 0.0) + rng.uniform(0.0, ceiling)


def _worth_retrying(error: GatewayError) -> bool:
    return error.retryable and (error.retry_after_s or 0.0) <= LONGEST_RETRY_AFTER_S


def _next_hop(error: GatewayError, job: Claim, rules: Rules) -> int | None:
    """The hop to go on to, or None: none left, or none that this error allows."""
    if isinstance(error, ContentRefused):
        return job.next_hop if rules.moves_on_refusal() else None
    if not error.try_next_model or job.next_hop is None:
        return None
    if isinstance(error, ContextTooLong):
        here = rules.window_tokens(job.hop)
        larger = (hop for hop in range(job.next_hop, len(job.chain)) if rules.window_tokens(hop) > here)
        return next(larger, None)
    return job.next_hop


def cause(job: Claim, move: str, error: GatewayError, at: str) -> dict[str, object]:
    """One entry of the job's `causes`: who failed, how, and what was done about it. `at` is an ISO 8601 time."""
    return {
        "at": at,
        "claim_no": job.claim_no,
        "provider": job.model.provider,
        "model": job.model.model,
        "move": move,
        "error": error.name,
        "message": str(error),
        "retry_after_s": error.retry_after_s,
    }


def kept_text(error: GatewayError) -> str | None:
    """The raw answer to keep with a dead letter: what was paid for, or may have been. What was counted was paid."""
    return None if error.paid is False and error.usage is None else error.raw_text
