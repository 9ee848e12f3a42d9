"""Everything the OpenAI SDK and its transport can raise, in our words. The tables are the policy.

A failure is judged by the first of these that knows it: the error object's `code`, its `type`, its
wording (only for servers that set neither), then the HTTP status. One exception stands beside the
tables: a quota that is full for less than a minute is a rate limit (see `SATURATION_S`).

Sources: https://platform.openai.com/docs/guides/error-codes, llama.cpp `tools/server/README.md`,
and the installed SDK (`openai/_exceptions.py`, `openai/_vendor/httpx_aiohttp/transport.py`).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx2
import openai

from gateway.errors import (
    AuthRejected,
    ContentRefused,
    ContextTooLong,
    InvalidRequest,
    MalformedCompletion,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    ServerError,
    Throttled,
    Timeout,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SDK_FAILURES: tuple[type[Exception], ...] = (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, OSError)
"""What a call through the SDK may raise because of the other side. The transport lets some of aiohttp's
exceptions through unmapped, and the SDK then does not wrap them."""

BY_CODE: dict[str, type[ProviderError]] = {
    "rate_limit_exceeded": Throttled,
    "insufficient_quota": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "context_length_exceeded": ContextTooLong,
    "content_filter": ContentRefused,
    "content_policy_violation": ContentRefused,
    "invalid_prompt": ContentRefused,
    "invalid_api_key": AuthRejected,
}
"""`error.code`. `invalid_prompt` is what reasoning models say to a prompt their usage policy flags."""

BY_TYPE: dict[str, type[ProviderError]] = {
    "insufficient_quota": QuotaExhausted,
    "exceed_context_size_error": ContextTooLong,
    "unavailable_error": Overloaded,
}
"""`error.type`; the last two are llama.cpp's."""

BY_WORDING: dict[str, type[ProviderError]] = {
    "maximum context length": ContextTooLong,
}
"""Part of `error.message` in lower case: vLLM says no more than this. Read for status 400 only."""

BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthRejected,
    402: QuotaExhausted,
    403: AuthRejected,
    408: Timeout,
    413: ContextTooLong,
    429: Throttled,
    503: Overloaded,
    504: Timeout,
    529: Overloaded,
}
"""HTTP status; any other is ServerError from 500 up, and InvalidRequest below."""

SERVER_SIDE_TYPES = frozenset({"server_error", "internal_server_error"})
"""`error.type` of an error object that comes without a status of its own, in a stream or under a 200."""

SATURATION_S = 60.0
"""Azure answers `insufficient_quota` or `billing_hard_limit_reached` where a per-minute limit is full. A provider
that names a wait of at most a minute is throttling, whatever its code says."""

MAX_RETRY_AFTER_S = 86_400.0
"""Longest wait believed: a day. Azure says exactly this where a free tier is used up."""

_KEY_LIKE = re.compile(r"\b(?:sk|pk|key|sess)-[\w*.-]{4,}|\bBearer\s+\S+", re.IGNORECASE)


def translate(error: Exception, api_key: str | None) -> ProviderError:
    """Return our error for one of `SDK_FAILURES`. The caller raises it `from error`.

    `api_key` is cut out of the message, should the provider have echoed it.
    """
    if isinstance(error, openai.APIStatusError):
        return _from_status(error, api_key)
    if isinstance(error, openai.APIConnectionError) or not isinstance(error, openai.OpenAIError):
        return _from_transport(error)
    if isinstance(error, openai.APIError):
        return from_error_object(error.body, {}, api_key)
    return InvalidRequest(f"the SDK refused the call: {type(error).__name__}")


def from_error_object(body: object, headers: Mapping[str, str], api_key: str | None = None) -> ProviderError:
    """Return our error for an error object that arrived without an error status.

    Raises nothing: an object nobody can read is a MalformedCompletion.
    """
    facts = body if isinstance(body, dict) else {"message": str(body)}
    default: type[ProviderError] = ServerError if facts.get("type") in SERVER_SIDE_TYPES else MalformedCompletion
    status = facts.get("code")
    if type(status) is int and status >= 400:
        default = _by_status(status)
    return _built(_by_facts(facts, status=400) or default, "an error in place of an answer", facts, headers, api_key)


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of the call, if its headers name one."""
    return headers.get("x-request-id")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the provider asks to wait, 0 to `MAX_RETRY_AFTER_S`, or None.

    `retry-after-ms`, then `retry-after` as seconds or as an HTTP date. A date is measured against the
    response's own `date` header where there is one: the provider's clock, not ours.
    """
    for seconds in _waits(headers):
        if seconds is not None and math.isfinite(seconds) and seconds >= 0:
            return min(seconds, MAX_RETRY_AFTER_S)
    return None


def _waits(headers: Mapping[str, str]) -> Iterator[float | None]:
    milliseconds = _number(headers.get("retry-after-ms"))
    yield None if milliseconds is None else milliseconds / 1000
    yield _number(headers.get("retry-after"))
    until, now = _moment(headers.get("retry-after")), _moment(headers.get("date"))
    yield None if until is None else max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _moment(text: str | None) -> datetime | None:
    try:
        moment = None if text is None else parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _from_status(error: openai.APIStatusError, api_key: str | None) -> ProviderError:
    facts = error.body if isinstance(error.body, dict) else {}
    status = error.status_code
    failure = _by_facts(facts, status) or _by_status(status)
    return _built(failure, f"HTTP {status}", facts, error.response.headers, api_key)


def _by_facts(facts: Mapping[str, Any], status: int) -> type[ProviderError] | None:
    known = BY_CODE.get(str(facts.get("code"))) or BY_TYPE.get(str(facts.get("type")))
    if known is not None or status != 400:
        return known
    message = str(facts.get("message")).lower()
    return next((failure for words, failure in BY_WORDING.items() if words in message), None)


def _by_status(status: int) -> type[ProviderError]:
    return BY_STATUS.get(status) or (ServerError if status >= 500 else InvalidRequest)


def _built(
    failure: type[ProviderError],
    what: str,
    facts: Mapping[str, Any],
    headers: Mapping[str, str],
    api_key: str | None,
) -> ProviderError:
    wait_s = retry_after_s(headers)
    if failure is QuotaExhausted and wait_s is not None and wait_s <= SATURATION_S:
        failure = Throttled
    said = ", ".join(str(facts[key]) for key in ("code", "message") if facts.get(key))
    message = _without_keys(f"{what}: {said}" if said else what, api_key)
    return failure(message, retry_after_s=wait_s, provider_request_id=request_id(headers))


def _without_keys(message: str, api_key: str | None) -> str:
    shown = message.replace(api_key, "[key]") if api_key else message
    return _KEY_LIKE.sub("[key]", shown)


def _from_transport(error: BaseException) -> ProviderError:
    """Judge a broken connection by its first cause.

    The SDK's own class cannot be trusted here: its transport maps every aiohttp.ClientConnectionError,
    a refused or reset connection included, to a connect TIMEOUT, and the SDK calls that APITimeoutError.
    """
    causes = list(_causes(error))
    first = causes[-1]
    if any(isinstance(cause, _UNREADABLE) for cause in causes):
        return MalformedCompletion(f"the response is not readable HTTP: {type(first).__name__}")
    if isinstance(first, _TIMEOUTS):
        return Timeout(f"the connection timed out: {type(first).__name__}")
    return Unreachable(f"no connection, or it broke: {type(first).__name__}")


_UNREADABLE = (aiohttp.ClientResponseError, httpx2.DecodingError)
_TIMEOUTS = (TimeoutError, httpx2.TimeoutException, openai.APITimeoutError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
