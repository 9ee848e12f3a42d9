"""Everything google-genai and its transport can raise, in our words. The tables are the policy.

A failure is judged by the first of these that knows it: a reason in `details` (google.rpc.ErrorInfo), a daily quota in
them (QuotaFailure), the wording of an INVALID_ARGUMENT, the error's `status`, then the HTTP code.

Sources: https://ai.google.dev/gemini-api/docs/troubleshooting, google.rpc's error_details.proto and code.proto, and the
installed SDK (`google/genai/errors.py`).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from google.genai import errors as genai

from gateway.errors import (
    AuthRejected,
    ContextTooLong,
    InvalidRequest,
    MalformedCompletion,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    ServerError,
    Throttled,
    Timeout,
)
from gateway.providers.wire import TRANSPORT_FAILURES, believable_wait_s, by_status, from_transport, without_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UNREADABLE = (genai.UnknownApiResponseError, json.JSONDecodeError)
SDK_FAILURES: tuple[type[Exception], ...] = (genai.APIError, *UNREADABLE, *TRANSPORT_FAILURES)
"""What a call through the SDK may raise because of the other side. Transport exceptions come as they are; so does what
json says of an error's body that calls itself JSON and is none."""

BY_REASON: dict[str, type[ProviderError]] = {
    "API_KEY_INVALID": AuthRejected,
    "API_KEY_SERVICE_BLOCKED": AuthRejected,
    "API_KEY_HTTP_REFERRER_BLOCKED": AuthRejected,
    "API_KEY_IP_ADDRESS_BLOCKED": AuthRejected,
    "SERVICE_DISABLED": AuthRejected,
    "CONSUMER_SUSPENDED": AuthRejected,
    "BILLING_DISABLED": QuotaExhausted,
}
"""`details[].reason` of a google.rpc.ErrorInfo. A bad key comes as a 400."""

BY_STATUS_WORD: dict[str, type[ProviderError]] = {
    "RESOURCE_EXHAUSTED": Throttled,
    "UNAVAILABLE": Overloaded,
    "DEADLINE_EXCEEDED": Timeout,
    "CANCELLED": Timeout,
    "UNAUTHENTICATED": AuthRejected,
    "PERMISSION_DENIED": AuthRejected,
    "FAILED_PRECONDITION": AuthRejected,
    "INVALID_ARGUMENT": InvalidRequest,
    "NOT_FOUND": InvalidRequest,
    "INTERNAL": ServerError,
    "UNKNOWN": ServerError,
}
"""`error.status`. FAILED_PRECONDITION: the free tier is not to be had in this country, billing must be enabled."""

BY_WORDING: dict[str, type[ProviderError]] = {
    "input token count": ContextTooLong,
    "exceeds the maximum number of tokens": ContextTooLong,
    "api key not valid": AuthRejected,
}
"""Part of `error.message` in lower case; read for INVALID_ARGUMENT only, which says no more."""

PER_DAY = "PerDay"
"""Part of a QuotaFailure's quotaId where the day's quota is used up, not the minute's."""

_SECONDS = re.compile(r"^([0-9]{1,9}(?:\.[0-9]{1,9})?)s$")


def translate(error: Exception, api_key: str | None) -> ProviderError:
    """Return our error for one of `SDK_FAILURES`. The caller raises it `from error`.

    `api_key` is cut out of the message: Google echoes it.
    """
    if isinstance(error, genai.APIError):
        status = error.code if isinstance(error.code, int) else 0
        return from_error_object(error.details, api_key, status)
    if isinstance(error, UNREADABLE):
        return MalformedCompletion("the response is not JSON")
    return from_transport(error)


def from_error_object(body: object, api_key: str | None, status: int = 0) -> ProviderError:
    """Return our error for `{"error": {"code", "status", "message", "details"}}`, or a list that holds one.

    `status` is the HTTP status, 0 where there is none of its own (in a stream, under a 200).
    """
    facts = _facts(body)
    code = facts.get("code")
    known = status or (code if type(code) is int and code >= 400 else 0)
    failure = _by_facts(facts) or (by_status(known) if known else MalformedCompletion)
    said = ", ".join(str(facts[key]) for key in ("status", "message") if facts.get(key))
    what = f"HTTP {status}" if status else "an error in place of an answer"
    message = without_keys(f"{what}: {said}" if said else what, api_key)
    return failure(message, retry_after_s=believable_wait_s(_waits(facts)))


def _facts(body: object) -> Mapping[str, Any]:
    if isinstance(body, list) and body:
        body = body[0]
    found = body.get("error") if isinstance(body, dict) else None
    return found if isinstance(found, dict) else {}


def _by_facts(facts: Mapping[str, Any]) -> type[ProviderError] | None:
    details = _details(facts)
    reason = next((BY_REASON[one["reason"]] for one in details if one.get("reason") in BY_REASON), None)
    if reason is not None:
        return reason
    if any(PER_DAY in str(one.get("quotaId")) for one in _violations(details)):
        return QuotaExhausted
    status = str(facts.get("status"))
    if status == "INVALID_ARGUMENT":
        message = str(facts.get("message")).lower()
        wording = next((failure for words, failure in BY_WORDING.items() if words in message), None)
        if wording is not None:
            return wording
    return BY_STATUS_WORD.get(status)


def _details(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = facts.get("details")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _violations(details: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for one in details:
        found = one.get("violations")
        yield from (violation for violation in found or () if isinstance(violation, dict))


def _waits(facts: Mapping[str, Any]) -> Iterator[float | None]:
    """Yield each google.rpc.RetryInfo's delay, written as "34s" or "34.07s"."""
    for one in _details(facts):
        match = _SECONDS.match(str(one.get("retryDelay", "")))
        yield float(match[1]) if match else None
