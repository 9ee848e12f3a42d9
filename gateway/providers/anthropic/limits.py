"""The headers in which Anthropic tells its limits: https://platform.claude.com/docs/en/api/rate-limits.

`tokens` is whichever limit is nearest, or else input and output together; each reset is a moment.
"""

from __future__ import annotations

from gateway.limits.kinds import LimitKind
from gateway.providers.limit_headers import LimitHeaders, Names, until_s

LIMIT_HEADERS = LimitHeaders(
    tuple(
        Names(kind, *(f"anthropic-ratelimit-{word}-{what}" for what in ("remaining", "limit", "reset")))
        for kind, word in (
            (LimitKind.REQUESTS, "requests"),
            (LimitKind.INPUT_TOKENS, "input-tokens"),
            (LimitKind.OUTPUT_TOKENS, "output-tokens"),
            (LimitKind.TOKENS, "tokens"),
        )
    ),
    until_s,
)
