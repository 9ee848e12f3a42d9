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
    Throttled,
    Timeout,
)
from gateway.messages import AnalysisResult, ModelRef, Usage
from tasks.job import Claim
from tasks.run import InternalFault
from tasks.verdict import (
    BACKOFF_BASE_S,
    LONGEST_RETRY_AFTER_S,
    DeadLetter,
    Fallback,
    Retry,
    Rules,
    Snooze,
    Succeed,
    Verdict,
    backoff_s,
    cause,
    kept_text,
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
WORDS = {Retry: "retry", Snooze: "snooze", Fallback: "fallback", DeadLetter: "dead letter", Succeed: "succeed"}
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


@pytest.mark.parametrize("name", [name for name in RETRYABLE if CLASSES[name].try_next_model])
def test_the_last_attempt_is_kept_for_the_next_hop(name: Any) -> None:
    error = CLASSES[name]("")
    assert decide(error, replace(JOB, attempts_used=3)) == Fallback(1, error)


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


def test_an_overflow_does_not_go_back_up_the_chain() -> None:
    job = replace(JOB, hop=1)
    assert isinstance(decide(ContextTooLong(""), job, window_tokens=lambda hop: (9000, 500, 400)[hop]), DeadLetter)


# What is kept --------------------------------------------------------------------------------------------------------


def test_a_cause_says_who_failed_how_and_what_was_done() -> None:
    told = cause(JOB, "retry", Throttled("too fast", retry_after_s=3.0), "2026-11-21T04:00:00+00:00")
    assert told == {
        "at": "2026-11-21T04:00:00+00:00", "claim_no": 3, "provider": "one", "model": "small", "move": "retry",
        "error": "throttled", "message": "too fast", "retry_after_s": 3.0,
    }  # fmt: skip


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
