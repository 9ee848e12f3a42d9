"""What becomes of a job after an attempt: a pure function from what happened to a value that says what to do.

`tasks.run` writes the value to Postgres in one fenced statement. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from gateway.breaker.health import OF_ACCOUNT
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
class NextAccount:
    """The same hop, at once: its account cannot make the call, and another of the provider may."""

    error: GatewayError


@dataclass(frozen=True, slots=True)
class Fallback:
    """Hop `hop` of the chain, at once: a later one, or after an overflow a larger one that was left before."""

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


Verdict = Succeed | Retry | NextAccount | Fallback | Snooze | DeadLetter


@dataclass(frozen=True, slots=True)
class Rules:
    """What the verdict must know beside the job and its error.

    `window_tokens(hop)`: the context window of a hop's model. `moves_on_refusal()`: whether this analysis may ask
    another model what one has refused. `spare_account()`: whether another account of the hop's provider than the one
    that was charged may be well. `is_out()`: whether the breakers of all its accounts are known not to be closed.
    `remaining_s`: seconds to the caller's deadline, None without one.
    """

    window_tokens: Callable[[int], int]
    moves_on_refusal: Callable[[], bool] = lambda: False
    spare_account: Callable[[], bool] = lambda: False
    is_out: Callable[[], bool] = lambda: False
    remaining_s: float | None = None


def _kinds(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _kinds(child))]


PASSING = frozenset(kind("").name for kind in _kinds(GatewayError) if kind.retryable)
"""Names of the errors after which the same call may succeed later."""


def verdict(outcome: AnalysisResult | GatewayError, job: Claim, rules: Rules, rng: Random) -> Verdict:
    """Decide what becomes of a job.

    An answer succeeds. A call that was not admitted costs no attempt: behind an open breaker, where the fleet has no
    retry left, or where the day's money is spent, the job goes on to the next hop at once, else it waits. What says all
    of an account and nothing of its provider is for another account, at once; a passing fault is retried on its hop;
    the last attempt is kept for the next hop. A fault that another model may not share, one whose retry the deadline
    would not see, or one of a provider that is known to be out of order, goes on at once; anything else, or a spent
    budget or deadline, is a dead letter.

    Args:
        outcome: the validated result, or the error the attempt ended with.
        job: the claim, whose `attempts_used` already counts this attempt's calls.
        rules: see `Rules`.
        rng: source of the jitter.
    """
    if isinstance(outcome, AnalysisResult):
        return Succeed(outcome)
    remaining_s = math.inf if rules.remaining_s is None else rules.remaining_s
    following = _next_hop(outcome, job, rules)
    if isinstance(outcome, LimitReached | BreakerOpen | RetriesSpent | DayBudgetSpent) and remaining_s > 0:
        if following is not None:
            return Fallback(following, outcome)
        if (outcome.retry_after_s or 0.0) < remaining_s:
            return Snooze(_snooze_s(outcome, remaining_s, rng), outcome)
    reason = ALL_FAILED if job.fallen and following is None and outcome.try_next_model else outcome.name
    if job.attempts_left == 0 or isinstance(outcome, RequestError):
        return DeadLetter(reason, outcome)
    if remaining_s <= 0:
        return DeadLetter("deadline", outcome)
    may_stay = following is None or job.attempts_left > 1
    if may_stay and isinstance(outcome, tuple(OF_ACCOUNT)) and rules.spare_account():
        return NextAccount(outcome)
    in_vain = following is not None and outcome.trips_breaker and rules.is_out()
    if may_stay and not in_vain and _worth_retrying(outcome):
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


def _snooze_s(error: GatewayError, remaining_s: float, rng: Random) -> float:
    """Seconds to wait after a call that was not admitted: what was asked for, where a retry was short, at least that.

    Of calls that failed together only a few may be retried each minute: were all to come back when the next could go,
    every one of them would be released and claimed for each that goes. So they are spread, up to `BACKOFF_CAP_S`, and
    to half of what the deadline leaves.
    """
    asked_s = error.retry_after_s or 0.0
    if not isinstance(error, RetriesSpent):
        return asked_s
    return rng.uniform(asked_s, max(asked_s, min(BACKOFF_CAP_S, remaining_s / 2)))


def _worth_retrying(error: GatewayError) -> bool:
    return error.retryable and (error.retry_after_s or 0.0) <= LONGEST_RETRY_AFTER_S


def _next_hop(error: GatewayError, job: Claim, rules: Rules) -> int | None:
    """The hop to go on to, or None: none left, or none that this error allows."""
    moves_on = rules.moves_on_refusal() if isinstance(error, ContentRefused) else error.try_next_model
    if not moves_on or not job.use_fallback:
        return None
    unfit = job.too_small.union(too_small(error, job, rules.window_tokens))
    later = next((hop for hop in job.later_hops if job.chain[hop] not in unfit), None)
    if later is not None or not isinstance(error, ContextTooLong):
        return later
    waiting = (hop for hop in range(job.hop) if job.left_for.get(job.chain[hop]) in PASSING)
    return next((hop for hop in waiting if job.chain[hop] not in unfit), None)


def too_small(error: GatewayError, job: Claim, window_tokens: Callable[[int], int]) -> tuple[str, ...]:
    """Return which models of the chain a job is too long for, as `provider/model`: the one that said so, and no larger.

    Nothing but an overflow says anything. `window_tokens`: see `Rules`.
    """
    if not isinstance(error, ContextTooLong):
        return ()
    here = window_tokens(job.hop)
    return tuple(model for hop, model in enumerate(job.chain) if hop == job.hop or window_tokens(hop) <= here)


def cause(job: Claim, move: str, error: GatewayError, at: str, *, too_small: tuple[str, ...] = ()) -> dict[str, object]:
    """One entry of the job's `causes`: who failed, how, and what was done about it.

    Args:
        job: the claim that ends.
        move: what is done.
        error: what it ended with.
        at: an ISO 8601 time.
        too_small: what it has shown of the models' windows, see there.
    """
    shown = {"too_small": list(too_small)} if too_small else {}
    return {
        "at": at,
        "claim_no": job.claim_no,
        "provider": job.model.provider,
        "model": job.model.model,
        "move": move,
        "error": error.name,
        "message": str(error),
        "retry_after_s": error.retry_after_s,
        **shown,
    }


def kept_text(error: GatewayError) -> str | None:
    """The raw answer to keep with a dead letter: what was paid for, or may have been. What was counted was paid."""
    return None if error.paid is False and error.usage is None else error.raw_text
