"""The verdict for any error, job and clock: bounds that hold whatever comes."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from statistics import pstdev
from typing import TYPE_CHECKING
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

import gateway.errors as errors
from gateway.errors import (
    AuthRejected,
    BreakerOpen,
    ContextTooLong,
    DayBudgetSpent,
    GatewayError,
    LimitReached,
    QuotaExhausted,
    RetriesSpent,
)
from gateway.messages import ModelRef
from tasks.job import Cause, Claim
from tasks.verdict import (
    BACKOFF_CAP_S,
    LONGEST_RETRY_AFTER_S,
    DeadLetter,
    Fallback,
    NextAccount,
    Retry,
    Rules,
    Snooze,
    Succeed,
    backoff_s,
    too_small,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def _all(cls: type[GatewayError]) -> list[type[GatewayError]]:
    return [found for child in cls.__subclasses__() for found in (child, *_all(child))]


CHAIN = ("one/a", "one/b", "two/c", "two/d")
BASE = Claim(
    id=UUID(int=1), claim_no=1, analysis="a", tenant="t", lane="bulk", model=ModelRef("one", "a"), chain=CHAIN, hop=0,
    prompt_version=None, output_format=None, max_tokens=None, temperature=None, max_cost_usd=None, max_attempts=4,
    attempts_used=1, use_cache=True, use_fallback=True, deadline_in_s=None, spent_usd=None, unpriced_calls=None,
    content="", context={}, messages=(), schema=None,
)  # fmt: skip

CLASSES = st.sampled_from([cls for cls in _all(GatewayError) if cls.__module__ == errors.__name__])
WAITS = st.none() | st.floats(0, 100_000)
ERRORS = st.builds(lambda cls, wait: cls("", retry_after_s=wait), CLASSES, WAITS)
NOT_ADMITTED = (LimitReached, BreakerOpen, RetriesSpent, DayBudgetSpent)
CALLED = ERRORS.filter(lambda error: not isinstance(error, NOT_ADMITTED))
RNGS = st.integers(0, 2**32).map(Random)


@st.composite
def jobs(draw: Callable[..., int]) -> Claim:
    most = draw(st.integers(1, 20))
    return replace(
        BASE,
        max_attempts=most,
        attempts_used=draw(st.integers(0, most)),
        hop=draw(st.integers(0, len(CHAIN) - 1)),
        use_fallback=bool(draw(st.booleans())),
    )


def _rules(windows: tuple[int, ...], moves_on: bool, spare: bool, out: bool, remaining_s: float | None) -> Rules:
    return Rules(
        window_tokens=lambda hop: windows[hop],
        moves_on_refusal=lambda: moves_on,
        spare_account=lambda: spare,
        is_out=lambda: out,
        remaining_s=remaining_s,
    )


WINDOWS = st.tuples(*[st.integers(0, 4)] * len(CHAIN))
RULES = st.builds(_rules, WINDOWS, st.booleans(), st.booleans(), st.booleans(), st.none() | st.floats(-100, 100_000))


@given(error=ERRORS, job=jobs(), rules=RULES, rng=RNGS)
def test_every_verdict_can_be_carried_out(error: GatewayError, job: Claim, rules: Rules, rng: Random) -> None:
    decided = verdict(error, job, rules, rng)
    assert not isinstance(decided, Succeed)
    if isinstance(decided, DeadLetter):
        assert decided.reason in {error.name, "deadline"}
        return
    assert rules.remaining_s is None or rules.remaining_s > 0
    if isinstance(decided, Snooze):
        assert isinstance(error, NOT_ADMITTED)
        asked_s = error.retry_after_s or 0
        assert asked_s <= decided.delay_s <= max(asked_s, BACKOFF_CAP_S)
        assert decided.delay_s == asked_s or isinstance(error, RetriesSpent)
        assert rules.remaining_s is None or decided.delay_s < rules.remaining_s
        return
    assert job.attempts_left > 0 or isinstance(error, NOT_ADMITTED)
    if isinstance(decided, Retry):
        assert error.retryable
        assert decided.delay_s <= LONGEST_RETRY_AFTER_S + BACKOFF_CAP_S
        assert decided.delay_s >= (error.retry_after_s or 0)
        assert rules.remaining_s is None or decided.delay_s < rules.remaining_s
    elif isinstance(decided, NextAccount):
        assert isinstance(error, AuthRejected | QuotaExhausted)
        assert rules.spare_account()
    elif isinstance(decided, Fallback):
        assert job.use_fallback
        assert job.hop < decided.hop < len(job.chain)


@given(job=jobs(), rules=RULES, rng=RNGS)
def test_an_overflow_only_ever_moves_to_a_larger_window(job: Claim, rules: Rules, rng: Random) -> None:
    decided = verdict(ContextTooLong(""), job, rules, rng)
    if isinstance(decided, Fallback):
        assert rules.window_tokens(decided.hop) > rules.window_tokens(job.hop)
        assert all(rules.window_tokens(hop) <= rules.window_tokens(job.hop) for hop in range(job.hop + 1, decided.hop))


@given(error=ERRORS, job=jobs(), rules=RULES, seed=st.integers(0, 2**32))
def test_a_verdict_depends_on_nothing_but_its_arguments(
    error: GatewayError, job: Claim, rules: Rules, seed: int
) -> None:
    assert verdict(error, job, rules, Random(seed)) == verdict(error, job, rules, Random(seed))


@given(error=CALLED, job=jobs(), rules=RULES, rng=RNGS)
def test_a_job_ends_within_its_budget_whatever_its_attempts_come_to(
    error: GatewayError, job: Claim, rules: Rules, rng: Random
) -> None:
    """One call for each attempt: the same error for ever. What is not admitted waits, and costs none."""
    made = 0
    while not isinstance(decided := verdict(error, job, rules, rng), DeadLetter):
        hop = decided.hop if isinstance(decided, Fallback) else job.hop
        job = replace(job, hop=hop, attempts_used=job.attempts_used + 1)
        made += 1
    assert made <= job.max_attempts


DRIVERS = (BreakerOpen(""), ContextTooLong(""))
"""What drives a job to and fro."""
DRIVEN = st.lists(st.sampled_from(DRIVERS), max_size=20) | st.lists(st.sampled_from(DRIVERS) | ERRORS, max_size=40)


@example(errors_met=[*DRIVERS, *DRIVERS], windows=(4, 1, 1, 0), rng=Random(0))
@given(errors_met=DRIVEN, windows=WINDOWS, rng=RNGS)
def test_no_job_goes_round_and_round(errors_met: list[GatewayError], windows: tuple[int, ...], rng: Random) -> None:
    """Whatever it meets, it comes back only after a call, and no window is tried that is known to be too small."""
    rules = _rules(windows, True, True, False, None)
    job, overflowed, moves, called = replace(BASE, attempts_used=0), -1, 0, 0
    for error in errors_met:
        made = not isinstance(error, NOT_ADMITTED)
        called += made
        job = replace(job, attempts_used=job.attempts_used + made)
        assert windows[job.hop] > overflowed
        decided = verdict(error, job, rules, rng)
        if isinstance(decided, DeadLetter):
            break
        if isinstance(error, ContextTooLong):
            overflowed = max(overflowed, windows[job.hop])
        if isinstance(decided, Fallback):
            moves += 1
            assert decided.hop > job.hop or isinstance(error, ContextTooLong)
            unfit = too_small(error, job, rules.window_tokens)
            met = Cause(CHAIN[job.hop], "fallback", error.name, unfit)
            job = replace(job, hop=decided.hop, causes=(*job.causes, met))
    assert called <= BASE.max_attempts
    assert moves <= len(CHAIN) * (BASE.max_attempts + 1)


@given(attempt=st.integers(0, 1_000), wait=WAITS, rng=RNGS)
def test_the_pause_lies_between_what_was_asked_and_the_cap_above_it(
    attempt: int, wait: float | None, rng: Random
) -> None:
    asked = wait or 0.0
    assert (
        asked <= backoff_s(attempt, wait, rng) <= asked + min(BACKOFF_CAP_S, 2.0 ** max(0, attempt - 1)) + 1e-9 * asked
    )


@given(attempt=st.integers(7, 1_000), wait=WAITS, seed=st.integers(0, 2**32))
def test_the_jitter_survives_the_cap(attempt: int, wait: float | None, seed: int) -> None:
    """A fleet that failed together comes back apart: uniform over 60 s deviates by 60 / sqrt(12) = 17.3 s."""
    rng = Random(seed)
    pauses = [backoff_s(attempt, wait, rng) for _ in range(100)]
    assert 12 < pstdev(pauses) < 23
