"""What a replay may be asked for: every bound of every field, and the place that a refusal names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from tasks.replay.request import MAX_IDS, MAX_JOBS, MAX_PER_MIN, MAX_VALUES, ReplayRequest, place_of

ID = str(uuid4())


def request(**given: Any) -> ReplayRequest:
    return ReplayRequest.model_validate(given)


def refused(**given: Any) -> list[str]:
    """The places that are refused."""
    with pytest.raises(ValidationError) as error:
        request(**given)
    return [place_of(found) for found in error.value.errors()]


def failed(**given: Any) -> dict[str, Any]:
    return {"filter": {"state": ["failed"], **given}}


def test_a_filter_is_needed_or_all_must_be_said() -> None:
    assert refused() == ["filter"]
    assert refused(filter={}) == ["filter"]
    assert refused(filter={"state": None, "tenant": None}) == ["filter"]
    assert refused(all=True, **failed(tenant="acme")) == refused(all=True, filter={"ids": [ID]}) == ["filter"]
    assert request(all=True, **failed()).filter.states == ["failed"]
    assert request(all=True).filter.said == {}
    assert request(**failed()).filter.said == {"state": ["failed"]}


def test_it_is_said_where_all_belongs() -> None:
    """Whoever cancels by filter says it in the filter: here that field does not exist."""
    assert refused(filter={"all": True}) == ["filter.all"]
    with pytest.raises(ValidationError, match="`all`, beside the filter and not in it"):
        request()


def test_failed_is_meant_where_no_state_is_said_and_succeeded_never() -> None:
    assert request(all=True).filter.states == ["failed"]
    assert request(filter={"tenant": "acme"}).filter.states == ["failed"]
    assert "succeeded" not in request(filter={"ids": [ID]}).filter.states
    assert request(filter={"ids": [ID], "state": ["succeeded"]}).filter.states == ["succeeded"]


def test_all_that_ever_succeeded_is_meant_only_where_all_is_said() -> None:
    for states in (["succeeded"], ["failed", "succeeded"], ["failed", "cancelled", "expired", "succeeded"]):
        assert refused(filter={"state": states}) == refused(filter={"state": states}, dry_run=True) == ["filter"]
        assert request(all=True, filter={"state": states}).filter.states == states
        assert request(filter={"state": states, "created_after": "2026-11-05T08:00:00Z"}).filter.states == states
    assert request(filter={"state": ["failed", "cancelled", "expired"]}).filter.said


def test_a_fingerprint_tells_requests_apart_and_not_those_who_ask() -> None:
    first = request(**failed(), limit=5)
    for same in ({"made_by": "ann"}, {"dry_run": True}, {"idempotency_key": "k"}, {"again": False, "note": None}):
        assert request(**failed(), limit=5, **same).fingerprint == first.fingerprint
    for other in ({"again": True}, {"limit": 6}, {"note": "why"}, {"rate_per_min": 5}, {"changes": {"priority": 1}}):
        assert request(**{**failed(), "limit": 5, **other}).fingerprint != first.fingerprint
    assert request(all=True).fingerprint != request(**failed()).fingerprint != request(all=True, **failed()).fingerprint


def test_a_fingerprint_outlives_a_new_field() -> None:
    """It lies in the database from one version to the next: this very value has been written down."""
    kept = request(**failed(error=["timeout"]), changes={"model": "a/b"}, again=True, limit=2).fingerprint
    which = '{"error": ["timeout"], "state": ["failed"]}'
    asked = f'{{"again": true, "changes": {{"model": "a/b"}}, "filter": {which}, "limit": 2}}'
    assert kept == sha256(asked.encode()).digest()


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("ids", [ID] * MAX_IDS, [[], [ID] * (MAX_IDS + 1), ["17"], [f"{{{ID}}}"], ID, [17]]),
        ("state", ["failed", "cancelled", "expired", "succeeded"], [[], ["running"], ["dead"], "failed"]),
        ("error", ["x" * 200] * MAX_VALUES, [[], ["x"] * (MAX_VALUES + 1), ["x" * 201], [""], ["a\0b"], ["\ud800"]]),
        ("analysis", ["code_quality"], [[], ["x" * 201], [None]]),
        ("provider", ["openai"], [[], ["x" * 201]]),
        ("model", ["openai/gpt-5", "gpt-5"], [[], [1]]),
        ("tag", ["nightly"], [[], ["x" * 201]]),
        ("tenant", "x" * 200, ["", "x" * 201, "a\0b", ["acme"]]),
        ("source", "ci", ["", "x" * 201]),
    ],
)
def test_bounds_of_a_filter(field: str, good: Any, bad: list[Any]) -> None:
    assert request(**{**failed(**{field: good}), "all": field == "state"}).filter.parameters()
    for value in bad:
        assert set(refused(**failed(**{field: value}))) == {f"filter.{field}"}


@pytest.mark.parametrize("field", ["created_after", "created_before", "ended_after", "ended_before"])
def test_times_have_an_offset_and_lie_where_ids_can_tell_them_apart(field: str) -> None:
    for good in ("2026-11-05T08:00:00Z", "2026-11-05T09:00+01:00", "2026-11-05 08:00:00.123456789z"):
        assert request(filter={field: good}).filter.parameters()[field].utcoffset() is not None
    for bad in (
        "2026-11-05T08:00:00", "2026-11-05", "2026-13-05T08:00:00Z", "2026-11-05T08:00:60Z", "1969-12-31T23:59:59Z",
        "9999-01-01T00:00:00Z", "yesterday", 1_762_329_600, 1.5, datetime(2026, 11, 5), ["2026-11-05T08:00:00Z"],
    ):  # fmt: skip
        assert refused(filter={field: bad}) == [f"filter.{field}"]
    moment = datetime(2026, 11, 5, 8, tzinfo=UTC) + timedelta(microseconds=1)
    assert request(filter={field: moment}).filter.parameters()[field] == moment


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("provider", "openai", ["", "x" * 201, 1]),
        ("model", "openai/gpt-5", ["", "x" * 201]),
        ("chain", ["a/b"] * 10, [[], ["a/b"] * 11, [""], "a/b"]),
        ("current_chain", True, [None, 1, "yes"]),
        ("prompt_version", "v2", ["", "x" * 101]),
        ("lane", "interactive", ["urgent", ""]),
        ("priority", 9, [-1, 10, 1.5, "5", True]),
        ("max_tokens", 1_000_000, [0, 1_000_001, "9"]),
        ("max_cost_usd", "0.25", [0, 1_000_000, "1e3", "-1", "1.1234567"]),
        ("max_attempts", 20, [0, 21]),
        ("use_cache", False, ["no", 0]),
        ("use_fallback", False, ["no", 1]),
    ],
)
def test_bounds_of_the_changes(field: str, good: Any, bad: list[Any]) -> None:
    assert request(all=True, changes={field: good}).changes.said == {field: good}
    for value in bad:
        assert set(refused(all=True, changes={field: value})) == {f"changes.{field}"}


def test_one_place_to_run_is_named() -> None:
    assert refused(all=True, changes={"model": "a/b", "chain": ["a/b"]}) == ["changes"]
    assert refused(all=True, changes={"model": "a/b", "current_chain": True}) == ["changes"]
    assert request(all=True, changes={"model": "b", "provider": "a"}).changes.moves
    assert not request(all=True, changes={"priority": 1, "current_chain": False}).changes.moves
    assert request(all=True, changes={"current_chain": True, "lane": "bulk"}).changes.options == {"lane": "bulk"}


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("rate_per_min", MAX_PER_MIN, [0, MAX_PER_MIN + 1, 1.0, "60"]),
        ("limit", MAX_JOBS, [0, MAX_JOBS + 1, "9"]),
        ("made_by", "ann", ["", "x" * 201, "a\0b"]),
        ("idempotency_key", "x" * 255, ["", "x" * 256, "a\0b", 1]),
        ("note", "x" * 500, ["", "x" * 501]),
        ("again", True, ["yes", 1]),
        ("dry_run", True, [1]),
        ("unheard_of", None, [1]),
    ],
)
def test_bounds_of_the_rest(field: str, good: Any, bad: list[Any]) -> None:
    if good is not None:
        assert getattr(request(all=True, **{field: good}), field) == good
    for value in bad:
        assert refused(all=True, **{field: value}) == [field]


def test_what_is_kept_of_a_request_is_json_and_what_was_said() -> None:
    kept = request(filter={"ended_after": "2026-11-05T09:00:00+01:00", "error": ["timeout"]}).filter.said
    assert kept == {"ended_after": "2026-11-05T09:00:00+01:00", "error": ["timeout"]}
