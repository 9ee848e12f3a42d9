"""The error tree: drawn as it is, its facts in one table, its instances safe to keep."""

from __future__ import annotations

import pickle
import re

import pytest

import gateway.errors as errors
from gateway.errors import MAX_MESSAGE_CHARS, GatewayError, ProviderError, Throttled
from gateway.messages import Usage

FACTS = {
    # name:                  retryable, try_next_model, trips_breaker, paid
    "configuration_error": (False, False, False, False),
    "catalog_error": (False, False, False, False),
    "request_error": (False, False, False, False),
    "unknown_analysis": (False, False, False, False),
    "deadline_passed": (False, False, False, False),
    "prompt_error": (False, False, False, False),
    "ledger_refusal": (False, False, False, False),
    "budget_spent": (False, False, False, False),
    "cost_limit": (False, True, False, False),
    "claim_lost": (False, False, False, False),
    "limit_reached": (True, False, False, False),
    "breaker_open": (True, True, False, False),
    "retries_spent": (True, True, False, False),
    "day_budget_spent": (True, True, False, False),
    "exceeds_limit": (False, True, False, False),
    "answer_awaited": (True, False, False, False),
    "provider_error": (False, False, False, False),
    "throttled": (True, True, False, False),
    "quota_exhausted": (False, True, False, False),
    "overloaded": (True, True, True, False),
    "timeout": (True, True, True, None),
    "unreachable": (True, True, True, None),
    "auth_rejected": (False, True, False, False),
    "context_too_long": (False, True, False, False),
    "content_refused": (False, False, False, True),
    "output_truncated": (False, False, False, True),
    "malformed_completion": (True, True, False, None),
    "invalid_request": (False, False, False, False),
    "server_error": (True, True, True, None),
    "repair_deferred": (True, True, False, True),
    "invalid_output": (False, True, False, True),
}


def _all(cls: type[GatewayError]) -> list[type[GatewayError]]:
    return [found for child in cls.__subclasses__() for found in (child, *_all(child))]


CLASSES = [cls for cls in _all(GatewayError) if cls.__module__ == "gateway.errors"]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_each_class_states_its_four_facts(cls):
    error = cls("what happened")
    assert (error.retryable, error.try_next_model, error.trips_breaker, error.paid) == FACTS[error.name]


def test_the_table_names_every_class_and_no_other():
    assert {cls("").name for cls in CLASSES} == set(FACTS)


def test_the_tree_in_the_docstring_is_the_tree_in_the_code():
    drawn = re.findall(r"^    ([│ ]*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE)
    parents: list[str] = ["GatewayError"]
    pairs = set()
    for indent, name in drawn:
        depth = len(indent) // 4
        del parents[depth + 1 :]
        pairs.add((name, parents[depth]))
        parents.append(name)
    assert pairs == {(cls.__name__, cls.__bases__[0].__name__) for cls in CLASSES}


def test_only_what_says_something_about_health_trips_the_breaker():
    """A 429 means busy and a 400 means us: neither says that the provider is unwell."""
    assert {cls.__name__ for cls in CLASSES if cls.trips_breaker} == {
        "Overloaded",
        "Timeout",
        "Unreachable",
        "ServerError",
    }


def test_a_message_is_bounded():
    assert str(ProviderError("x" * (MAX_MESSAGE_CHARS + 1))) == "x" * MAX_MESSAGE_CHARS


def test_an_error_survives_pickling_with_what_it_knew():
    """Celery and multiprocessing pickle exceptions; the SDKs' own do not survive it."""
    error = Throttled("busy", retry_after_s=34, usage=Usage(1, 2), provider_request_id="req", raw_text="half")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is Throttled
    assert str(copy) == "busy"
    assert (copy.retry_after_s, copy.usage, copy.provider_request_id, copy.raw_text) == (34, Usage(1, 2), "req", "half")
