"""What outcomes say of a provider's health, and what a breaker may be told to go by."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import gateway.errors as errors
from gateway.breaker.health import Health, health_of
from gateway.breaker.policy import BreakerPolicy
from gateway.errors import GatewayError
from gateway.limits.policy import Policy
from gateway.redis_script import Script

SAYS_SOMETHING = {
    "overloaded": Health.OVERLOADED,
    "timeout": Health.FAILS,
    "unreachable": Health.FAILS,
    "server_error": Health.FAILS,
    "auth_rejected": Health.REJECTED,
    "quota_exhausted": Health.EXHAUSTED,
    "content_refused": Health.WORKS,
    "output_truncated": Health.WORKS,
    "repair_deferred": Health.WORKS,
    "invalid_output": Health.WORKS,
}


def _all(cls: type[GatewayError]) -> list[type[GatewayError]]:
    return [found for child in cls.__subclasses__() for found in (child, *_all(child))]


@pytest.mark.parametrize("cls", [cls for cls in _all(GatewayError) if cls.__module__ == errors.__name__])
def test_each_error_says_what_it_says(cls: type[GatewayError]) -> None:
    error = cls("")
    assert health_of(error) == SAYS_SOMETHING.get(error.name, Health.SILENT)


def test_an_answer_says_that_it_works_and_a_cancelled_call_says_nothing() -> None:
    assert health_of(None) is Health.WORKS
    assert health_of(asyncio.CancelledError()) is Health.SILENT


@pytest.mark.parametrize(
    "wrong",
    [
        {"failures_in_a_row": 0},
        {"failure_rate": 0.0},
        {"failure_rate": 1.1},
        {"least_calls": 0},
        {"window_s": 0.0},
        {"open_s": 21.0},
        {"growth": 0.9},
        {"longest_open_s": 46.0},
        {"longest_open_s": 4.0},
        {"probe_again_s": 0.0},
        {"forced_again_s": 0.0},
        {"rejected_s": 0.0},
        {"exhausted_s": 0.0},
    ],
    ids=str,
)
def test_a_policy_that_breaks_the_promises_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"cannot go by this {next(iter(wrong))}: "):
        BreakerPolicy(**wrong)


def test_a_script_carries_the_constants_it_names_and_no_comments() -> None:
    text = Script.read("limits/time.lua", "limits/retries.lua", policy=Policy().constants()).text
    assert text.startswith("local policy = {retry_us = 6000000, deposit_us = 600000, most_retries_us = 60000000}\n")
    assert "--" not in text
