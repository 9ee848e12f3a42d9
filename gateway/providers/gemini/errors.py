"""Everything google-genai and its transport can raise, in our words. The tables are the policy.

A failure is judged by the first of these that knows it: a reason in `details` (google.rpc.ErrorInfo), a daily quota in
them (QuotaFailure), the wording under a status that says too little, the error's `status`, then the HTTP code.

A daily quota stays one however short a wait stands beside it: Google names half a minute with it.

Sources: https://ai.google.dev/gemini-api/docs/troubleshooting, google.api's error_reason.proto, google.rpc's
error_details.proto and code.proto, the installed SDK (`google/genai/errors.py`), and for the wordings what its users
quote (google-gemini/gemini-cli#4231, #6678).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from aiohttp.http_exceptions import ContentEncodingError
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
from gateway.providers.limit_headers import WAIT_ONLY
from gateway.providers.wire import (
    TRANSPORT_FAILURES,
    believable_wait_s,
    by_status,
    from_transport,
    retry_after_s,
    without_keys,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UNREADABLE = (genai.UnknownApiResponseError, json.JSONDecodeError)
SDK_FAILURES: tuple[type[Exception], ...] = (genai.APIError, *UNREADABLE, *TRANSPORT_FAILURES)
"""What a call through the SDK may raise because of the other side. Transport exceptions come as they are."""

BY_REASON: dict[str, type[ProviderError]] = {
    "API_KEY_INVALID": AuthRejected,
    "API_KEY_SERVICE_BLOCKED": AuthRejected,
    "API_KEY_HTTP_REFERRER_BLOCKED": AuthRejected,
    "API_KEY_IP_ADDRESS_BLOCKED": AuthRejected,
    "SERVICE_DISABLED": AuthRejected,
    "CONSUMER_SUSPENDED": AuthRejected,
    "CONSUMER_INVALID": AuthRejected,
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
"""`error.status`. FAILED_PRECONDITION: not to be had in this country, or only where billing is enabled."""

BY_WORDING: dict[str, dict[str, type[ProviderError]]] = {
    "INVALID_ARGUMENT": {
        "input token count": ContextTooLong,
        "exceeds the maximum number of tokens": ContextTooLong,
        "request payload size exceeds": ContextTooLong,
        "api key not valid": AuthRejected,
        "api key expired": AuthRejected,
    },
    "RESOURCE_EXHAUSTED": {
        "prepayment credits are depleted": QuotaExhausted,
        "monthly spending cap": QuotaExhausted,
        "limit: 0": QuotaExhausted,
    },
}
"""Part of `error.message` in lower case, by the status it is read for. "limit: 0" is the quota of a model that this
account may not use at all."""

PER_DAY = "PerDay"
"""Part of a QuotaFailure's quotaId where the day's quota is used up, not the minute's."""

_SECONDS = re.compile(r"^([0-9]{1,9}(?:\.[0-9]{1,9})?)s$")
_KEYS = re.compile(r"(?<=[?&]key=)[^&\s\"'<>]+|\bAQ\.[\w-]{10,}")
"""A key as a URL carries it, and Google's newer kind of key; `wire` knows the others."""


def translate(error: Exception, api_key: str | None) -> ProviderError:
    """Return our error for one of `SDK_FAILURES`. The caller raises it `from error`.

    `api_key` is cut out of the message: Google echoes it.
    """
    if isinstance(error, genai.APIError):
        status = error.code if type(error.code) is int else 0
        return from_error_object(error.details, api_key, status, getattr(error.response, "headers", None))
    if isinstance(error, UNREADABLE):
        return MalformedCompletion("the response is not JSON")
    if isinstance(error.__cause__, ContentEncodingError):
        return MalformedCompletion("the response cannot be decompressed")
    return from_transport(error)


def from_error_object(
    body: object, api_key: str | None, status: int = 0, headers: Mapping[str, str] | None = None
) -> ProviderError:
    """Return our error for `{"error": {"code", "status", "message", "details"}}`, or a list that holds one.

    `status` is the HTTP status, 0 where there is none of its own (in a stream, under a 200).
    """
    facts = _facts(body)
    code = facts.get("code")
    known = status or (code if type(code) is int and code >= 400 else 0)
    failure = _by_facts(facts) or _by_code(known)
    said = ", ".join(str(facts[key]) for key in ("status", "message") if facts.get(key))
    what = f"HTTP {status}" if status else "an error in place of an answer"
    message = _KEYS.sub("[key]", without_keys(f"{what}: {said}" if said else what, api_key))
    wait_s = believable_wait_s((*_waits(facts), retry_after_s(headers or {})))
    told = WAIT_ONLY.read(headers or {}, wait_s)
    return failure(message, retry_after_s=wait_s, provider_request_id=_request_id(facts), told=told)


def listed_error(error: ValueError) -> list[object] | None:
    """Return the list that an error was cut out of, where `error` is the SDK's complaint about the cut JSON."""
    cause = error.__cause__
    cut = cause.doc.strip() if isinstance(cause, json.JSONDecodeError) else ""
    try:
        found = json.loads(f"{cut}]") if cut.startswith("[") else None
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def _facts(body: object) -> Mapping[str, Any]:
    if isinstance(body, list) and body:
        body = body[0]
    found = body.get("error") if isinstance(body, dict) else None
    return found if isinstance(found, dict) else {}


def _by_code(code: int) -> type[ProviderError]:
    """Judge by the HTTP code alone; one of success, or none, leaves an answer that is none."""
    return by_status(code) if code >= 300 else MalformedCompletion


def _by_facts(facts: Mapping[str, Any]) -> type[ProviderError] | None:
    details = _details(facts)
    reasons = (BY_REASON.get(str(one.get("reason"))) for one in details)
    reason = next((failure for failure in reasons if failure is not None), None)
    if reason is not None:
        return reason
    if any(PER_DAY in str(one.get("quotaId")) for one in _violations(details)):
        return QuotaExhausted
    status, message = str(facts.get("status")), str(facts.get("message")).lower()
    wordings = BY_WORDING.get(status, {}).items()
    return next((failure for words, failure in wordings if words in message), BY_STATUS_WORD.get(status))


def _details(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _objects(facts.get("details"))


def _violations(details: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for one in details:
        yield from _objects(one.get("violations"))


def _objects(found: object) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _waits(facts: Mapping[str, Any]) -> Iterator[float | None]:
    """Yield each google.rpc.RetryInfo's delay, written as "34s" or "34.07s"."""
    for one in _details(facts):
        match = _SECONDS.match(str(one.get("retryDelay", "")))
        yield float(match[1]) if match else None


def _request_id(facts: Mapping[str, Any]) -> str | None:
    """Return the id in a google.rpc.RequestInfo, if there is one."""
    found = (one.get("requestId") for one in _details(facts))
    return next((one for one in found if isinstance(one, str)), None)
