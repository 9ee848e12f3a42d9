"""A strict provider's decisions, headers and loads, by a clock that the test moves."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from random import Random

import pytest

from ops.bench.strict.headers import date_header, duration, limit_headers, refusal_headers
from ops.bench.strict.limits import Call, Refusal, StrictLimits
from ops.bench.strict.loads import LOADS

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class Account:
    """A strict account and the clock it goes by."""

    def __init__(self, provider: str, **per_min: float) -> None:
        self.now_s = 1_000.0
        self.limits = StrictLimits(provider, per_min, lambda: self.now_s)

    def call(
        self, *, input_tokens: int = 10, max_tokens: int = 1_000, output_tokens: int = 100, duration_s: float = 1.0
    ) -> Refusal | None:
        return self.limits.arrive(Call(input_tokens, max_tokens, output_tokens, duration_s))


def test_a_full_bucket_does_not_outdo_the_sliding_minute() -> None:
    account = Account("openai", requests=60)
    assert [account.call() for _ in range(60)] == [None] * 60
    account.now_s += 30  # the bucket has thirty again, the minute holds sixty
    refused = account.call()
    assert refused == Refusal("requests", pytest.approx(30))
    account.now_s += 30
    assert account.call() is None


def test_the_bucket_refuses_what_the_sliding_minute_would_allow() -> None:
    account = Account("openai", requests=60)
    for gap_s in [0.0] * 59 + [59.9]:
        account.now_s += gap_s
        assert account.call() is None
    account.now_s += 0.2  # fifty-nine have left the minute, and the bucket is full but for one
    assert [account.call() for _ in range(59)] == [None] * 59
    assert account.call() == Refusal("requests", pytest.approx(59.8))
    assert account.limits.meters["requests"].level < 1


def test_openai_counts_max_tokens_on_arrival_and_gives_nothing_back() -> None:
    account = Account("openai", tokens=3_000)
    assert [account.call(input_tokens=500, max_tokens=1_000) for _ in range(2)] == [None, None]
    account.now_s += 59
    refused = account.call(input_tokens=500, max_tokens=1_000)
    assert refused == Refusal("tokens", pytest.approx(1))


def test_anthropic_counts_output_as_it_is_produced() -> None:
    account = Account("anthropic", output_tokens=1_000)
    for _ in range(20):
        assert account.call(max_tokens=100_000, output_tokens=100, duration_s=20) is None
    account.now_s += 9.9
    assert account.limits.meters["output_tokens"].in_minute() == 0  # nobody has asked since
    assert account.call() is None
    assert account.limits.meters["output_tokens"].in_minute() == pytest.approx(990)
    account.now_s += 0.2
    refused = account.call()
    assert refused is not None
    assert refused.kind == "output_tokens"
    account.now_s += 200
    assert account.call() is None
    account.now_s += 10
    record = account.limits.record()
    assert sum(record["counted"]["output_tokens"]) == pytest.approx(20 * 100 + 2 * 100, rel=1e-6)
    assert record["highest_minute"]["output_tokens"] == pytest.approx(2_100)


def test_anthropic_refuses_for_input_on_arrival() -> None:
    account = Account("anthropic", input_tokens=1_000, output_tokens=1_000)
    assert account.call(input_tokens=600) is None
    assert account.call(input_tokens=600) == Refusal("input_tokens", pytest.approx(60))


def test_a_refused_call_counts_nothing() -> None:
    account = Account("openai", requests=1, tokens=1_000_000)
    account.call()
    before = account.limits.meters["tokens"].level
    assert account.call() is not None
    assert account.limits.meters["tokens"].level == before


def test_the_record_has_whole_seconds() -> None:
    account = Account("openai", requests=2)
    for _ in range(3):
        account.call()
    account.now_s += 2.5
    account.call()
    record = account.limits.record()
    assert record["counted"]["requests"] == [2, 0]
    assert record["refused"] == [1, 0]
    assert record["refused_for"] == {"requests": 2, "tokens": 0}
    assert (record["most_open"], record["highest_minute"]["requests"]) == (2, 2)
    account.limits.start()
    assert account.limits.record()["counted"]["requests"] == []


def test_an_account_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="no provider 'else'"):
        Account("else")
    with pytest.raises(ValueError, match="openai does not count output_tokens"):
        Account("openai", output_tokens=1)


def test_headers_as_openai_writes_them() -> None:
    account = Account("openai", requests=600, tokens=60_000)
    account.call(input_tokens=500, max_tokens=1_000)
    assert limit_headers(account.limits, NOON) == {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "599",
        "x-ratelimit-reset-requests": "100ms",
        "x-ratelimit-limit-tokens": "60000",
        "x-ratelimit-remaining-tokens": "58500",
        "x-ratelimit-reset-tokens": "1.5s",
    }
    assert refusal_headers(account.limits, Refusal("requests", 1.2)) == {"retry-after": "2", "retry-after-ms": "1200"}
    assert date_header(NOON) == {"date": "Sat, 21 Nov 2026 12:00:00 GMT"}


def test_headers_as_anthropic_writes_them() -> None:
    account = Account("anthropic", requests=60, output_tokens=60_000)
    account.call(output_tokens=1_600)
    account.now_s += 1.0
    account.limits.advance()
    told = limit_headers(account.limits, NOON)
    assert told["anthropic-ratelimit-requests-remaining"] == "60"
    assert told["anthropic-ratelimit-output-tokens-limit"] == "60000"
    assert told["anthropic-ratelimit-output-tokens-remaining"] == "59000"  # 59,400, to the nearest thousand
    assert told["anthropic-ratelimit-output-tokens-reset"] == "2026-11-21T12:00:00Z"
    assert not any(name.startswith("anthropic-ratelimit-input") for name in told)  # not limited here
    assert refusal_headers(account.limits, Refusal("requests", 0.2)) == {"retry-after": "1"}


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.0, "0ms"), (0.0121, "13ms"), (1.5, "1.5s"), (59.0, "59s"), (360.0, "6m0s")]
)
def test_durations_as_openai_writes_them(seconds: float, written: str) -> None:
    assert duration(seconds) == written


@pytest.mark.parametrize("name", LOADS)
def test_a_loads_figures_are_those_of_what_it_draws(name: str) -> None:
    load, rng = LOADS[name], Random(0)
    drawn = [load.draw(rng) for _ in range(20_000)]
    tokens, durations = [tokens for tokens, _ in drawn], [duration_s for _, duration_s in drawn]
    assert load.smallest_tokens <= min(tokens) < max(tokens) <= load.max_tokens
    assert load.shortest_s <= min(durations) < max(durations) <= load.longest_s
    assert sum(tokens) / len(tokens) == pytest.approx(load.mean_tokens, rel=0.02)
    assert sum(durations) / len(durations) * load.calls_per_min / 60 == pytest.approx(load.calls_open, rel=0.02)
    assert math.isclose(load.calls_per_min, load.limit / (1 if load.bound_by == "requests" else load.mean_tokens))
