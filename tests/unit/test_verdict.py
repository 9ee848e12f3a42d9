"""What becomes of a job after an attempt: one row for each class of error, and the rules that bend the row."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

import pytest

import gateway.errors as errors
from gateway.errors import (
    AuthRejected,
    BreakerOpen,
    ContentRefused,
    ContextTooLong,
    DayBudgetSpent,
    GatewayError,
    InvalidOutput,
    LimitReached,
    MalformedCompletion,
    OutputTruncated,
    PromptError,
    QuotaExhausted,
    RetriesSpent,
    Throttled,
    Timeout,
)
from gateway.messages import AnalysisResult, ModelRef, Usage
from tasks.job import Cause, Claim
from tasks.run import InternalFault
from tasks.verdict import (
    BACKOFF_BASE_S,
    BACKOFF_CAP_S,
    LONGEST_RETRY_AFTER_S,
    DeadLetter,
    Fallback,
    NextAccount,
    Retry,
    Rules,
    Snooze,
    Succeed,
    Verdict,
    backoff_s,
    cause,
    kept_text,
    too_small,
    verdict,
)

JOB = Claim(
    id=UUID(int=1), claim_no=3, analysis="quick", tenant="t", lane="bulk", model=ModelRef("one", "small"),
    chain=("one/small", "two/large", "two/huge"), hop=0, prompt_version=None, output_format=None, max_tokens=None,
    temperature=None, max_cost_usd=None, max_attempts=4, attempts_used=1, use_cache=True, use_fallback=True,
    deadline_in_s=None, spent_usd=None, unpriced_calls=None, content="x", context={}, messages=(), schema=None,
)  # fmt: skip
LAST_HOP = replace(JOB, hop=2)
WINDOWS = (1000, 500, 2000)
RULES = Rules(window_tokens=lambda hop: WINDOWS[hop])

FIRST_CHOICE = {
    # name:                  with hops left, on the last hop
    "throttled": ("retry", "retry"),
    "overloaded": ("retry", "retry"),
    "timeout": ("retry", "retry"),
    "unreachable": ("retry", "retry"),
    "malformed_completion": ("retry", "retry"),
    "server_error": ("retry", "retry"),
    "answer_awaited": ("retry", "retry"),
    "repair_deferred": ("retry", "retry"),
    "limit_reached": ("snooze", "snooze"),
    "retries_spent": ("fallback", "snooze"),
    "breaker_open": ("fallback", "snooze"),
    "day_budget_spent": ("fallback", "snooze"),
    "exceeds_limit": ("fallback", "dead letter"),
    "quota_exhausted": ("fallback", "dead letter"),
    "auth_rejected": ("fallback", "dead letter"),
    "context_too_long": ("fallback", "dead letter"),
    "invalid_output": ("fallback", "dead letter"),
    "cost_limit": ("fallback", "dead letter"),
    "content_refused": ("dead letter", "dead letter"),
    "output_truncated": ("dead letter", "dead letter"),
    "invalid_request": ("dead letter", "dead letter"),
    "provider_error": ("dead letter", "dead letter"),
    "budget_spent": ("dead letter", "dead letter"),
    "ledger_refusal": ("dead letter", "dead letter"),
    "claim_lost": ("dead letter", "dead letter"),  # `run` never asks: the fence has fallen
    "request_error": ("dead letter", "dead letter"),
    "unknown_analysis": ("dead letter", "dead letter"),
    "prompt_error": ("dead letter", "dead letter"),
    "deadline_passed": ("dead letter", "dead letter"),
    "configuration_error": ("dead letter", "dead letter"),
    "catalog_error": ("dead letter", "dead letter"),
}
OF_AN_ACCOUNT = ("auth_rejected", "quota_exhausted")
"""What another account of the provider need not share."""
OF_THE_PROVIDER = ("overloaded", "timeout", "unreachable", "server_error")
"""What comes again where the provider is known to be out of order."""
WORDS = {
    Retry: "retry",
    NextAccount: "next account",
    Snooze: "snooze",
    Fallback: "fallback",
    DeadLetter: "dead letter",
    Succeed: "succeed",
}
RETRYABLE = sorted(name for name, (first, _) in FIRST_CHOICE.items() if first == "retry")


def _all(cls: type[GatewayError]) -> list[type[GatewayError]]:
    return [found for child in cls.__subclasses__() for found in (child, *_all(child))]


CLASSES = {cls("").name: cls for cls in _all(GatewayError) if cls.__module__ == errors.__name__}


def decide(outcome: AnalysisResult | GatewayError, job: Claim = JOB, **rules: Any) -> Verdict:
    return verdict(outcome, job, replace(RULES, **rules), Random(7))


def test_the_table_names_every_class_and_no_other() -> None:
    assert set(FIRST_CHOICE) == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_has_its_verdict(name: Any) -> None:
    error = CLASSES[name]("what happened")
    assert (WORDS[type(decide(error))], WORDS[type(decide(error, LAST_HOP))]) == FIRST_CHOICE[name]


@pytest.mark.parametrize("name", CLASSES)
def test_with_a_spare_account_its_verdict_is_the_same_but_for_what_is_the_accounts(name: Any) -> None:
    error, spare = CLASSES[name]("what happened"), {"spare_account": lambda: True}
    found = WORDS[type(decide(error, **spare))], WORDS[type(decide(error, LAST_HOP, **spare))]
    assert found == (("next account",) * 2 if name in OF_AN_ACCOUNT else FIRST_CHOICE[name])


@pytest.mark.parametrize("name", CLASSES)
def test_of_a_provider_that_is_out_its_verdict_is_the_same_but_for_what_would_come_again(name: Any) -> None:
    error, out = CLASSES[name]("what happened"), {"is_out": lambda: True}
    found = WORDS[type(decide(error, **out))], WORDS[type(decide(error, LAST_HOP, **out))]
    assert found == (("fallback", "retry") if name in OF_THE_PROVIDER else FIRST_CHOICE[name])


@pytest.mark.parametrize("name", CLASSES)
def test_a_verdict_keeps_its_error(name: Any) -> None:
    error = CLASSES[name]("what happened")
    decided = decide(error)
    assert not isinstance(decided, Succeed)
    assert decided.error is error  # type: ignore[union-attr]
    if isinstance(decided, DeadLetter):
        assert decided.reason == name


def test_an_answer_succeeds_even_with_the_last_attempt_and_past_the_deadline() -> None:
    result = AnalysisResult("quick", {}, "one", "small", "1", Usage(1, 1), None, 0.1, 1, repaired=False)
    assert decide(result, replace(JOB, attempts_used=4), remaining_s=-1.0) == Succeed(result)


@pytest.mark.parametrize(
    "name", sorted(set(CLASSES) - {"limit_reached", "breaker_open", "retries_spent", "day_budget_spent"})
)
def test_with_no_attempts_left_everything_is_a_dead_letter(name: Any) -> None:
    assert isinstance(decide(CLASSES[name](""), replace(JOB, attempts_used=4)), DeadLetter)


@pytest.mark.parametrize("name", [*OF_AN_ACCOUNT, *(name for name in RETRYABLE if CLASSES[name].try_next_model)])
def test_the_last_attempt_is_kept_for_the_next_hop(name: Any) -> None:
    error = CLASSES[name]("")
    assert decide(error, replace(JOB, attempts_used=3), spare_account=lambda: True) == Fallback(1, error)


@pytest.mark.parametrize("name", RETRYABLE)
def test_on_the_last_hop_the_last_attempt_is_a_retry(name: Any) -> None:
    assert isinstance(decide(CLASSES[name](""), replace(LAST_HOP, attempts_used=3)), Retry)


@pytest.mark.parametrize("name", RETRYABLE)
def test_a_caller_who_wants_no_fallback_gets_none(name: Any) -> None:
    assert isinstance(decide(CLASSES[name](""), replace(JOB, attempts_used=3, use_fallback=False)), Retry)
    assert isinstance(decide(AuthRejected(""), replace(JOB, use_fallback=False)), DeadLetter)


# Time ---------------------------------------------------------------------------------------------------------------


def test_what_the_provider_asks_for_is_waited_and_the_jitter_comes_on_top() -> None:
    decided = decide(Throttled("", retry_after_s=30.0))
    assert isinstance(decided, Retry)
    assert 30.0 <= decided.delay_s <= 30.0 + BACKOFF_BASE_S


def test_a_provider_that_asks_for_more_than_an_hour_is_left() -> None:
    too_long = Throttled("", retry_after_s=LONGEST_RETRY_AFTER_S + 1)
    assert decide(too_long) == Fallback(1, too_long)
    assert decide(too_long, LAST_HOP) == DeadLetter("throttled", too_long)
    assert isinstance(decide(Throttled("", retry_after_s=LONGEST_RETRY_AFTER_S)), Retry)


def test_a_retry_that_the_deadline_would_not_see_goes_to_the_next_hop_instead() -> None:
    late = Throttled("", retry_after_s=30.0)
    assert decide(late, remaining_s=20.0) == Fallback(1, late)
    assert decide(late, LAST_HOP, remaining_s=20.0) == DeadLetter("deadline", late)
    assert isinstance(decide(late, remaining_s=32.0), Retry)


@pytest.mark.parametrize("error", [Timeout(""), AuthRejected(""), InvalidOutput("")])
@pytest.mark.parametrize("remaining_s", [0.0, -5.0])
def test_past_the_deadline_nothing_is_tried_any_more(error: Any, remaining_s: Any) -> None:
    assert decide(error, remaining_s=remaining_s) == DeadLetter("deadline", error)


def test_a_request_that_cannot_be_sent_is_told_so_and_not_that_it_was_late() -> None:
    error = PromptError("no variable x")
    assert decide(error, remaining_s=-1.0) == DeadLetter("prompt_error", error)


def test_a_call_that_was_not_admitted_waits_whatever_attempts_are_left() -> None:
    """The attempt it was counted as comes back with the snooze."""
    reached = LimitReached("", retry_after_s=3.0)
    assert decide(reached) == Snooze(3.0, reached)
    assert decide(reached, replace(JOB, attempts_used=4)) == Snooze(3.0, reached)


def test_a_date_that_the_deadline_would_not_see_is_not_waited_for() -> None:
    reached = LimitReached("", retry_after_s=30.0)
    assert decide(reached, LAST_HOP, remaining_s=20.0) == DeadLetter("deadline", reached)
    assert decide(reached, remaining_s=31.0) == Snooze(30.0, reached)


def test_behind_an_open_breaker_the_next_hop_is_taken_at_once_and_costs_no_attempt() -> None:
    kept_out = BreakerOpen("", retry_after_s=5.0)
    assert decide(kept_out) == Fallback(1, kept_out)
    assert decide(kept_out, replace(JOB, attempts_used=4)) == Fallback(1, kept_out)


@pytest.mark.parametrize("job", [LAST_HOP, replace(JOB, use_fallback=False), replace(LAST_HOP, attempts_used=4)])
def test_behind_an_open_breaker_with_nowhere_to_go_the_job_waits_for_the_probe(job: Any) -> None:
    kept_out = BreakerOpen("", retry_after_s=5.0)
    assert decide(kept_out, job) == Snooze(5.0, kept_out)


def test_a_probe_that_the_deadline_would_not_see_is_not_waited_for() -> None:
    kept_out = BreakerOpen("", retry_after_s=30.0)
    assert decide(kept_out, LAST_HOP, remaining_s=20.0) == DeadLetter("deadline", kept_out)
    assert decide(kept_out, remaining_s=20.0) == Fallback(1, kept_out)
    assert decide(kept_out, remaining_s=0.0) == DeadLetter("deadline", kept_out)


def test_where_the_days_money_is_spent_another_model_is_asked_or_the_job_waits_for_midnight() -> None:
    spent = DayBudgetSpent("", retry_after_s=30_000.0)
    assert decide(spent) == Fallback(1, spent)
    assert decide(spent, LAST_HOP) == Snooze(30_000.0, spent)
    assert decide(spent, LAST_HOP, remaining_s=60.0) == DeadLetter("day_budget_spent", spent)


def test_where_a_retry_was_short_the_jobs_come_back_apart() -> None:
    """And none before a retry could go; who may not wait that long, in time."""
    short, rng = RetriesSpent("", retry_after_s=5.0), Random(7)
    waits = [verdict(short, LAST_HOP, RULES, rng).delay_s for _ in range(1000)]  # type: ignore[union-attr]
    assert 5.0 <= min(waits) < 6.0
    assert BACKOFF_CAP_S - 1 < max(waits) <= BACKOFF_CAP_S
    assert sum(waits) / len(waits) == pytest.approx((5.0 + BACKOFF_CAP_S) / 2, rel=0.05)
    hurried = replace(RULES, remaining_s=20.0)
    assert max(verdict(short, LAST_HOP, hurried, rng).delay_s for _ in range(200)) <= 10.0  # type: ignore[union-attr]
    assert decide(short, LAST_HOP, remaining_s=6.0) == Snooze(5.0, short)
    assert decide(short, LAST_HOP, remaining_s=5.0) == DeadLetter("deadline", short)
    assert decide(short) == Fallback(1, short)


# Another account ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [AuthRejected(""), QuotaExhausted("", retry_after_s=86_400.0)])
@pytest.mark.parametrize("job", [JOB, LAST_HOP, replace(JOB, use_fallback=False), replace(LAST_HOP, attempts_used=3)])
def test_what_is_the_accounts_goes_to_another_at_once(error: GatewayError, job: Claim) -> None:
    assert decide(error, job, spare_account=lambda: True) == NextAccount(error)


def test_another_account_is_no_way_round_the_budget_or_the_deadline() -> None:
    error = AuthRejected("")
    assert decide(error, replace(JOB, attempts_used=4), spare_account=lambda: True) == DeadLetter(error.name, error)
    assert decide(error, remaining_s=0.0, spare_account=lambda: True) == DeadLetter("deadline", error)


def test_only_what_is_the_accounts_asks_for_another() -> None:
    def unknown() -> bool:
        raise AssertionError

    assert isinstance(decide(Timeout(""), spare_account=unknown), Retry)
    assert isinstance(decide(Throttled(""), is_out=unknown), Retry), "busy is not out of order"


# Where to ---------------------------------------------------------------------------------------------------------


def test_a_refusal_moves_on_only_where_the_analysis_says_so() -> None:
    refused = ContentRefused("no")
    assert decide(refused) == DeadLetter("content_refused", refused)
    assert decide(refused, moves_on_refusal=lambda: True) == Fallback(1, refused)
    assert decide(refused, replace(JOB, use_fallback=False), moves_on_refusal=lambda: True) == DeadLetter(
        "content_refused", refused
    )


def test_only_a_refusal_asks_whether_a_refusal_moves_on() -> None:
    """An analysis that this worker does not know has no answer to that question."""

    def unknown() -> bool:
        raise KeyError("quick")

    assert isinstance(decide(Timeout(""), moves_on_refusal=unknown), Retry)


def test_an_overflow_moves_to_the_next_larger_window() -> None:
    error = ContextTooLong("")
    assert decide(error) == Fallback(2, error)


@pytest.mark.parametrize("windows", [(1000, 1000, 1000), (1000, 10, 0)])
def test_an_overflow_without_a_larger_window_is_a_dead_letter(windows: Any) -> None:
    assert isinstance(decide(ContextTooLong(""), window_tokens=lambda hop: windows[hop]), DeadLetter)


def left(move: str, error: str) -> Claim:
    """A job at the second hop, its first left so."""
    return replace(JOB, hop=1, causes=(Cause("one/small", move, error),))


SHRINKING: Any = {"window_tokens": lambda hop: (9000, 500, 400)[hop]}


@pytest.mark.parametrize("passing", ["breaker_open", "day_budget_spent", "retries_spent", "timeout", "overloaded"])
def test_an_overflow_goes_back_to_a_larger_window_that_was_left_for_a_passing_reason(passing: str) -> None:
    error = ContextTooLong("")
    assert decide(error, left("fallback", passing), **SHRINKING) == Fallback(0, error)


@pytest.mark.parametrize("lasting", ["quota_exhausted", "auth_rejected", "exceeds_limit", "invalid_output"])
def test_an_overflow_does_not_go_back_to_where_waiting_does_not_help(lasting: str) -> None:
    error = ContextTooLong("")
    assert decide(error, left("fallback", lasting), **SHRINKING) == DeadLetter("all_providers_failed", error)


def test_an_overflow_goes_back_to_no_hop_that_was_never_left_and_to_none_that_is_no_larger() -> None:
    error = ContextTooLong("")
    assert decide(error, replace(JOB, hop=1), **SHRINKING) == DeadLetter("context_too_long", error)
    assert isinstance(decide(error, left("retry", "timeout"), **SHRINKING), DeadLetter)
    same = left("fallback", "breaker_open")
    assert isinstance(decide(error, same, window_tokens=lambda hop: (500, 500, 400)[hop]), DeadLetter)


def test_of_two_ways_the_one_on_is_taken() -> None:
    error = ContextTooLong("")
    job = left("fallback", "breaker_open")
    assert decide(error, job, window_tokens=lambda hop: (9000, 500, 2000)[hop]) == Fallback(2, error)


def test_a_job_that_came_back_waits_rather_than_overflow_again() -> None:
    """Whatever drives it away: a breaker, a spent day, a retry's last attempt."""
    overflow = Cause("two/large", "fallback", "context_too_long", ("two/large", "two/huge"))
    back = replace(JOB, causes=(Cause("one/small", "fallback", "breaker_open"), overflow))
    kept_out, late, rejected = BreakerOpen("", retry_after_s=5.0), Timeout(""), AuthRejected("")
    assert decide(kept_out, back, **SHRINKING) == Snooze(5.0, kept_out)
    assert isinstance(decide(late, replace(back, attempts_used=3), **SHRINKING), Retry)
    assert decide(rejected, back, **SHRINKING) == DeadLetter("all_providers_failed", rejected)


def test_what_is_too_small_is_skipped_and_what_is_not_is_taken() -> None:
    job = replace(JOB, causes=(Cause("two/large", "fallback", "context_too_long", ("two/large",)),))
    kept_out = BreakerOpen("")
    assert decide(kept_out, job) == Fallback(2, kept_out)


# What is kept --------------------------------------------------------------------------------------------------------


def test_a_cause_says_who_failed_how_and_what_was_done() -> None:
    told = cause(JOB, "retry", Throttled("too fast", retry_after_s=3.0), "2026-11-21T04:00:00+00:00")
    assert told == {
        "at": "2026-11-21T04:00:00+00:00", "claim_no": 3, "provider": "one", "model": "small", "move": "retry",
        "error": "throttled", "message": "too fast", "retry_after_s": 3.0,
    }  # fmt: skip


def test_an_overflow_tells_which_models_the_job_does_not_fit() -> None:
    error = ContextTooLong("")
    unfit = too_small(error, replace(JOB, hop=0), RULES.window_tokens)
    assert unfit == ("one/small", "two/large")
    assert cause(JOB, "fallback", error, "", too_small=unfit)["too_small"] == ["one/small", "two/large"]
    assert too_small(Timeout(""), JOB, RULES.window_tokens) == ()


def test_a_model_that_the_catalog_has_lost_is_too_small_itself() -> None:
    assert too_small(ContextTooLong(""), JOB, lambda hop: (0, 500, 2000)[hop]) == ("one/small",)


def test_the_text_of_a_paid_answer_is_kept_and_nothing_else() -> None:
    assert kept_text(InvalidOutput("", raw_text="half")) == "half"
    assert kept_text(OutputTruncated("", raw_text="half")) == "half"
    assert kept_text(MalformedCompletion("", raw_text="half")) == "half"
    assert kept_text(AuthRejected("", raw_text="page")) is None


def test_what_was_counted_was_paid_whatever_its_class_says() -> None:
    """A window that is full at the answer's end, an account that is limited there."""
    assert kept_text(ContextTooLong("", raw_text="half", usage=Usage(900, 100))) == "half"
    assert kept_text(ContextTooLong("", raw_text="page")) is None


def test_an_error_of_ours_is_a_dead_letter() -> None:
    fault = InternalFault("KeyError: 'x'")
    assert decide(fault) == DeadLetter("internal_fault", fault)


def test_the_pause_doubles_up_to_its_cap() -> None:
    highest = type("Highest", (Random,), {"uniform": lambda self, low, high: high})()
    assert [backoff_s(attempt, None, highest) for attempt in (0, 1, 2, 3, 6, 7, 8, 20)] == [1, 1, 2, 4, 32, 60, 60, 60]
