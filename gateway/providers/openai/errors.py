"""Everything the OpenAI SDK and its transport can raise, in our words. The tables are the policy.

A failure is judged by the first of these that knows it: the error object's `code`, its `type`, its
wording (only for servers that set neither), then the HTTP status. One exception stands beside the
tables: a quota that is full for less than a minute is a rate limit (`wire.throttled_if_short`).

Sources: https://platform.openai.com/docs/guides/error-codes, llama.cpp `tools/server/README.md`,
and the installed SDK (`openai/_exceptions.py`, `openai/_vendor/httpx_aiohttp/transport.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
)
from gateway.providers.limit_headers import OPENAI
from gateway.providers.wire import (
    TRANSPORT_FAILURES,
    by_status,
    from_transport,
    name_or_none,
    retry_after_s,
    storable,
    throttled_if_short,
    without_keys,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SDK_FAILURES: tuple[type[Exception], ...] = (openai.OpenAIError, *TRANSPORT_FAILURES)
"""What a call through the SDK may raise because of the other side."""

BY_CODE: dict[str, type[ProviderError]] = {
    "rate_limit_exceeded": Throttled,
    "insufficient_quota": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "context_length_exceeded": ContextTooLong,
    "content_filter": ContentRefused,
    "content_policy_violation": ContentRefused,
    "bio_policy": ContentRefused,
    "misalignment_policy_violation": ContentRefused,
    "image_content_policy_violation": ContentRefused,
    "invalid_prompt": ContentRefused,
    "invalid_api_key": AuthRejected,
}
"""`error.code`. `invalid_prompt` is what reasoning models say to a prompt their usage policy flags; the
policies are the Responses API's (`openai/types/responses/response_error.py`)."""

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

SERVER_SIDE = frozenset({"server_error", "internal_server_error"})
"""`error.type`, or (the Responses API's) `error.code`, of an error object that comes without a status of its own: in a
stream, or under a 200."""


def translate(error: Exception, api_key: str | None) -> ProviderError:
    """Return our error for one of `SDK_FAILURES`. The caller raises it `from error`.

    `api_key` is cut out of the message, should the provider have echoed it.
    """
    if isinstance(error, openai.APIStatusError):
        return _from_status(error, api_key)
    if isinstance(error, openai.APIConnectionError) or not isinstance(error, openai.OpenAIError):
        return from_transport(error, (openai.APITimeoutError,))
    if isinstance(error, openai.APIError):
        return from_error_object(error.body, {}, api_key)
    return InvalidRequest(f"the SDK refused the call: {type(error).__name__}")


def from_error_object(body: object, headers: Mapping[str, str], api_key: str | None = None) -> ProviderError:
    """Return our error for an error object that arrived without an error status.

    Raises nothing: an object nobody can read is a MalformedCompletion.
    """
    facts = body if isinstance(body, dict) else {"message": str(body)}
    words = {str(facts.get("type")), str(facts.get("code"))}
    default: type[ProviderError] = ServerError if words & SERVER_SIDE else MalformedCompletion
    status = facts.get("code")
    if type(status) is int and status >= 400:
        default = by_status(status)
    return _built(_by_facts(facts, status=400) or default, "an error in place of an answer", facts, headers, api_key)


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of the call, if its headers name one."""
    return name_or_none(headers.get("x-request-id"))


def _from_status(error: openai.APIStatusError, api_key: str | None) -> ProviderError:
    facts = error.body if isinstance(error.body, dict) else {}
    status = error.status_code
    failure = _by_facts(facts, status) or by_status(status)
    return _built(failure, f"HTTP {status}", facts, error.response.headers, api_key)


def _by_facts(facts: Mapping[str, Any], status: int) -> type[ProviderError] | None:
    known = BY_CODE.get(str(facts.get("code"))) or BY_TYPE.get(str(facts.get("type")))
    if known is not None or status != 400:
        return known
    message = str(facts.get("message")).lower()
    return next((failure for words, failure in BY_WORDING.items() if words in message), None)


def _built(
    failure: type[ProviderError],
    what: str,
    facts: Mapping[str, Any],
    headers: Mapping[str, str],
    api_key: str | None,
) -> ProviderError:
    wait_s = retry_after_s(headers)
    failure = throttled_if_short(failure, wait_s)
    said = ", ".join(str(facts[key]) for key in ("code", "message") if facts.get(key))
    message = storable(without_keys(f"{what}: {said}" if said else what, api_key))
    return failure(
        message, retry_after_s=wait_s, provider_request_id=request_id(headers), told=OPENAI.read(headers, wait_s)
    )
