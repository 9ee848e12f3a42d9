"""What a call takes of its limits, as each kind of provider counts."""

from __future__ import annotations

import pytest

from gateway.catalog_entries import Counting, Limits, OutputCounted
from gateway.limits.group import LimitGroup
from gateway.limits.kinds import LimitKind
from gateway.limits.need import needed, used
from gateway.limits.rates import Need, buckets
from gateway.limits.sizes import REMEMBERED_S, LargestCalls
from gateway.messages import Usage

PRODUCED = Counting(output=OutputCounted.PRODUCED)
ON_ARRIVAL = Counting(output=OutputCounted.MAX_TOKENS)
NO_CACHED = Counting(cached_input=False)
CALL = Need(1, 1_000, 300)
USAGE = Usage(input_tokens=900, output_tokens=120, cached_tokens=800)


@pytest.mark.parametrize(
    ("counting", "reserved", "counted"),
    [
        (PRODUCED, Need(1, 1_000, 300), Need(1, 900, 120)),
        (ON_ARRIVAL, Need(1, 1_000, 4_000), Need(1, 900, 4_000)),
        (NO_CACHED, Need(1, 1_000, 300), Need(1, 100, 120)),
    ],
    ids=["produced", "max_tokens on arrival", "cached input is free"],
)
def test_a_call_takes_what_its_provider_counts(counting: Counting, reserved: Need, counted: Need) -> None:
    assert needed(counting, 1_000, 300, 4_000) == reserved
    assert used(counting, reserved, USAGE) == counted


def test_a_joint_limit_counts_input_and_output_together() -> None:
    [bucket] = buckets(Limits(tokens_per_min=100_000), CALL, CALL)
    assert (bucket.kind, bucket.amount) == (LimitKind.TOKENS, 1_300)


def test_a_call_draws_on_every_limit_there_is() -> None:
    every = Limits(requests_per_min=60, input_tokens_per_min=9_000, output_tokens_per_min=9_000, tokens_per_min=9_000)
    assert [bucket.kind for bucket in buckets(every, CALL, CALL)] == list(LimitKind)


def test_a_cached_count_beyond_the_input_is_no_credit() -> None:
    assert used(NO_CACHED, Need(1, 10, 10), Usage(5, 5, cached_tokens=9)) == Need(1, 0, 5)


@pytest.mark.parametrize("limit", [1, 2, 7, 49, 50, 60, 100, 600, 10_000, 1_000_000])
def test_a_minute_of_requests_is_the_limit_and_no_more(limit: int) -> None:
    """Room, reserve and rate come to the limit, and little of it is lost."""
    [bucket] = buckets(Limits(requests_per_min=limit), Need(), Need())
    assert bucket.room - 1 + bucket.reserve + bucket.per_min == limit
    assert bucket.per_min >= 0.98 * limit


@pytest.mark.parametrize("limit", [1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("share", [0.0001, 0.001, 0.01, 0.1, 1.0])
def test_a_minute_of_tokens_is_the_limit_and_no_more(limit: int, share: float) -> None:
    large = Need(1, max(1, int(limit * share)), 0)
    [bucket] = buckets(Limits(tokens_per_min=limit), Need(1, 1, 0), large)
    assert bucket.room + bucket.reserve + bucket.per_min == limit
    assert bucket.per_min >= 0.87 * limit
    assert bucket.reserve > 0


def test_the_largest_calls_count_for_ten_minutes_and_no_longer_than_twenty() -> None:
    now_s = 0.0
    group, other = (LimitGroup("openai", name, "default", Limits()) for name in ("one", "two"))
    sizes = LargestCalls(lambda: now_s)
    small = Need(1, 10, 10)
    assert sizes.with_this(group, Need(1, 500, 20)) == Need(1, 500, 20)
    assert sizes.with_this(group, small) == Need(1, 500, 20)
    assert sizes.with_this(group, Need(1, 20, 900)) == Need(1, 500, 900)
    assert sizes.with_this(other, small) == small
    now_s = REMEMBERED_S
    assert sizes.with_this(group, small) == Need(1, 500, 900)
    now_s = 2 * REMEMBERED_S
    assert sizes.with_this(group, small) == small
    assert sizes.with_this(group, Need(1, 700, 0)) == Need(1, 700, 10)
    now_s = 5 * REMEMBERED_S
    assert sizes.with_this(group, small) == small
