"""Everything the Anthropic SDK and its transport can raise, in our words. The tables are the policy.

A failure is judged by the first of these that knows it: the error's `details.error_code`, its wording (only what has no
code), its `type`, then the HTTP status. Two codes come as a 429 and mean billing: they stand before the type
`rate_limit_error`, of whose class the SDK makes them subclasses.

Sources: https://platform.claude.com/docs/en/api/errors and the installed SDK (`anthropic/_exceptions.py`,
`anthropic/types/shared/*_error_details.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic

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
from gateway.providers.anthropic.limits import LIMIT_HEADERS
from gateway.providers.wire import (
    TRANSPORT_FAILURES,
    by_status,
    from_transport,
    name_or_none,
    retry_after_s,
    storable,
    without_keys,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SDK_FAILURES: tuple[type[Exception], ...] = (anthropic.AnthropicError, *TRANSPORT_FAILURES)
"""What a call through the SDK may raise because of the other side."""

BY_CODE: dict[str, type[ProviderError]] = {
    "contract_spend_limit_reached": QuotaExhausted,
    "enforced_spend_limit_reached": QuotaExhausted,
    "linked_organization_spend_limit_reached": QuotaExhausted,
    "linked_organization_billing_unavailable": QuotaExhausted,
    "ramp_limit_exceeded": Throttled,
    "organization_on_hold": AuthRejected,
    "organization_not_enrolled_in_beta": AuthRejected,
    "cmek_key_disabled": AuthRejected,
    "cmek_key_network_blocked": AuthRejected,
    "cmek_key_unreachable": ServerError,
    "cmek_context_unavailable": ServerError,
    "request_body_timeout": Timeout,
}
"""`error.details.error_code`, those that a call of ours can meet. What is AuthRejected or Timeout here comes as a 400,
two of the QuotaExhausted as a 429, a ServerError as a 503 that has nothing to do with load."""

BY_WORDING: dict[str, type[ProviderError]] = {
    "prompt is too long": ContextTooLong,
    "exceed context limit": ContextTooLong,
    "credit balance is too low": QuotaExhausted,
}
"""Part of `error.message` in lower case. These have no code; read for status 400 only."""

BY_TYPE: dict[str, type[ProviderError]] = {
    "authentication_error": AuthRejected,
    "permission_error": AuthRejected,
    "billing_error": QuotaExhausted,
    "rate_limit_error": Throttled,
    "timeout_error": Timeout,
    "overloaded_error": Overloaded,
    "request_too_large": ContextTooLong,
}
"""`error.type`; `api_error`, `invalid_request_error` and `not_found_error` say no more than the status."""

ANYWHERE: dict[str, type[ProviderError]] = {
    "api_error": ServerError,
    "invalid_request_error": InvalidRequest,
    "not_found_error": InvalidRequest,
}
"""What those say where there is no status of their own, in a stream or under a 200."""


def translate(error: Exception, api_key: str | None) -> ProviderError:
    """Return our error for one of `SDK_FAILURES`. The caller raises it `from error`.

    `api_key` is cut out of the message, should the provider have echoed it.
    """
    if isinstance(error, anthropic.APIStatusError):
        if error.response.is_success:  # an error event within a stream
            return from_error_object(error.body, error.response.headers, api_key)
        facts = error_object(error.body)
        failure = _by_facts(facts, error.status_code) or by_status(error.status_code)
        return _built(failure, f"HTTP {error.status_code}", facts, error.response.headers, api_key)
    if isinstance(error, anthropic.APIConnectionError) or not isinstance(error, anthropic.AnthropicError):
        return from_transport(error, (anthropic.APITimeoutError,))
    failure = AuthRejected if isinstance(error, anthropic.CredentialsError) else InvalidRequest
    return failure(f"the SDK refused the call: {type(error).__name__}")


def from_error_object(body: object, headers: Mapping[str, str], api_key: str | None = None) -> ProviderError:
    """Return our error for an error object that arrived without an error status; one nobody can read is malformed."""
    facts = error_object(body)
    failure = _by_facts(facts, status=400) or ANYWHERE.get(str(facts.get("type"))) or MalformedCompletion
    return _built(failure, "an error in place of an answer", facts, headers, api_key)


def error_object(body: object) -> Mapping[str, Any]:
    """Return the `error` of `{"type": "error", "error": {…}}`, or nothing where there is none."""
    found = body.get("error") if isinstance(body, dict) else None
    return found if isinstance(found, dict) else {}


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of the call, if its headers name one."""
    return name_or_none(headers.get("request-id"))


def _by_facts(facts: Mapping[str, Any], status: int) -> type[ProviderError] | None:
    details = facts.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    if isinstance(code, str) and code in BY_CODE:
        return BY_CODE[code]
    message = str(facts.get("message")).lower()
    wording = next((failure for words, failure in BY_WORDING.items() if words in message), None)
    return (wording if status == 400 else None) or BY_TYPE.get(str(facts.get("type")))


def _built(
    failure: type[ProviderError], what: str, facts: Mapping[str, Any], headers: Mapping[str, str], api_key: str | None
) -> ProviderError:
    said = ", ".join(str(facts[key]) for key in ("type", "message") if facts.get(key))
    message = storable(without_keys(f"{what}: {said}" if said else what, api_key))
    return failure(
        message,
        retry_after_s=retry_after_s(headers),
        provider_request_id=request_id(headers),
        told=LIMIT_HEADERS.read(headers),
    )
