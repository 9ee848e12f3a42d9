"""What a provider says of its limits with each answer, in its own header names. Pure.

The figures are the bucket's, as both providers describe theirs; the sliding minute shows only in refusals. Sources: the
providers' pages on rate limits (platform.claude.com/docs/en/api/rate-limits, developers.openai.com/api/docs/guides/
rate-limits).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from ops.bench.strict.limits import Refusal, StrictLimits
from ops.bench.strict.meter import Meter

SHOWN_TOKENS = 1_000
"""Anthropic rounds what is left of tokens."""


def limit_headers(limits: StrictLimits, now: datetime) -> dict[str, str]:
    """The headers that tell limits, what is left, and when the buckets are full again. `now` has a time zone."""
    limited = {name: meter for name, meter in limits.meters.items() if math.isfinite(meter.per_min)}
    return dict(_TOLD[limits.provider](limited, now))


def refusal_headers(limits: StrictLimits, refusal: Refusal) -> dict[str, str]:
    """The headers that tell when to come again: whole seconds, never too few."""
    seconds = max(1, math.ceil(refusal.wait_s))
    told = {"retry-after": str(seconds)}
    if limits.provider == "openai":
        told["retry-after-ms"] = str(max(1, math.ceil(refusal.wait_s * 1_000)))
    return told


def date_header(now: datetime) -> dict[str, str]:
    """The server's clock, as HTTP writes it."""
    return {"date": format_datetime(now.astimezone(UTC), usegmt=True)}


def _anthropic(meters: Mapping[str, Meter], now: datetime) -> Iterator[tuple[str, str]]:
    for name, meter in meters.items():
        kind, left = name.replace("_", "-"), max(0.0, meter.level)
        shown = int(left) if name == "requests" else round(left / SHOWN_TOKENS) * SHOWN_TOKENS
        reset = (now + timedelta(seconds=meter.full_in_s())).astimezone(UTC)
        yield f"anthropic-ratelimit-{kind}-limit", str(int(meter.per_min))
        yield f"anthropic-ratelimit-{kind}-remaining", str(shown)
        yield f"anthropic-ratelimit-{kind}-reset", f"{reset:%Y-%m-%dT%H:%M:%SZ}"


def _openai(meters: Mapping[str, Meter], _: datetime) -> Iterator[tuple[str, str]]:
    for name, meter in meters.items():
        yield f"x-ratelimit-limit-{name}", str(int(meter.per_min))
        yield f"x-ratelimit-remaining-{name}", str(max(0, int(meter.level)))
        yield f"x-ratelimit-reset-{name}", duration(meter.full_in_s())


_TOLD: Mapping[str, Callable[[Mapping[str, Meter], datetime], Iterator[tuple[str, str]]]] = {
    "anthropic": _anthropic,
    "openai": _openai,
}


def duration(seconds: float) -> str:
    """A time as OpenAI writes it: 12ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1_000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.0f}s" if minutes else f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
