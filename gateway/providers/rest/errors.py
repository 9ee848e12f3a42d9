"""What a described endpoint says in place of an answer, in our words: its entry's tables first, then HTTP's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gateway.errors import MalformedCompletion, ProviderError
from gateway.providers.rest.options import ERRORS, RestOptions
from gateway.providers.wire import by_status, name_or_none, retry_after_s, storable, throttled_if_short, without_keys

if TYPE_CHECKING:
    from gateway.providers.json_http import Answer


def refused(answer: Answer, options: RestOptions, api_key: str | None) -> ProviderError:
    """Return our error for an answer whose status is one of failure, by the entry or by HTTP."""
    body = _parsed(answer)
    failure = _by_code(body, options) or _by_table(answer.status, options) or by_status(answer.status)
    wait_s = retry_after_s(answer.headers)
    message = ": ".join((f"HTTP {answer.status}", *_words(body, options)))
    return throttled_if_short(failure, wait_s)(
        without_keys(message, api_key),
        retry_after_s=wait_s,
        provider_request_id=request_id(answer, body, options),
    )


def error_in_place_of_answer(
    body: Any, options: RestOptions, api_key: str | None, answered_by: str | None = None
) -> ProviderError | None:
    """Return our error for a body that says one under a good status, or in a stream; None where it says none."""
    words = _words(body, options)
    failure = _by_code(body, options) or (MalformedCompletion if words else None)
    if failure is None:
        return None
    message = ": ".join(("an error in place of an answer", *words))
    return failure(without_keys(message, api_key), provider_request_id=answered_by)


def request_id(answer: Answer, body: Any, options: RestOptions) -> str | None:
    """Return the endpoint's id of the call, from its header or its body."""
    found = answer.headers.get(options.request_id_header)
    if found is None and options.request_id is not None:
        found = options.request_id.find(body)
    return name_or_none(found)


def _by_table(status: int, options: RestOptions) -> type[ProviderError] | None:
    return ERRORS[options.errors[status]] if status in options.errors else None


def _by_code(body: Any, options: RestOptions) -> type[ProviderError] | None:
    code = options.error_code.find(body) if options.error_code is not None else None
    name = options.error_codes.get(str(code)) if isinstance(code, (str, int)) else None
    return None if name is None else ERRORS[name]


def _words(body: Any, options: RestOptions) -> list[str]:
    """Return what the error says of itself, in at most one text. Anything but text is shown as JSON."""
    said = options.error_message.find(body) if options.error_message is not None else None
    if not said:
        return []
    return [storable(said if isinstance(said, str) else json.dumps(said))]


def _parsed(answer: Answer) -> Any:
    """Return the body parsed, None where nobody can read it (a proxy's page, say)."""
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
