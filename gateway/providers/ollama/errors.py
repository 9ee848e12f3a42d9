"""What Ollama says in place of an answer, in our words. The tables are the policy.

A failure is judged by its wording first, since Ollama has no error codes and hands the words of its model runners
through, then by Ollama's own statuses, then by what HTTP says.

Source: https://github.com/ollama/ollama `server/routes.go` (`ChatHandler`, `handleScheduleError`), `server/sched.go`
(`ErrMaxQueue`), `llm/llama_server.go` and `x/mlxrunner` as of 0.33; the cloud's limits as its users quote them
(ollama/ollama#16448, continuedev/continue#11444).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gateway.errors import ContextTooLong, Overloaded, ProviderError, QuotaExhausted, ServerError, Throttled
from gateway.providers.wire import by_status, name_or_none, retry_after_s, storable, throttled_if_short, without_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.providers.json_http import Answer

BY_WORDING: Mapping[str, type[ProviderError]] = {
    "exceeds the available context size": ContextTooLong,
    "longer than the context length": ContextTooLong,
    "exceeds the context length": ContextTooLong,
    "exceeds the model's maximum context length": ContextTooLong,
    "exceeds maximum context length": ContextTooLong,
    "maximum pending requests exceeded": Overloaded,
    "no slots available": Overloaded,
    "usage limit": QuotaExhausted,
    "concurrent request slot": Throttled,
}
"""Part of the error's words in lower case. The context's come from three runners and under 400 and 500 alike; the
limits are the cloud's (per session, per week; and calls at once)."""

CLIENT_CLOSED = 499
"""Ollama's status for a call it gave up, when it unloads the model under it, say."""


def refused(answer: Answer, api_key: str | None) -> ProviderError:
    """Return our error for an answer whose status is not one of success."""
    words = _words(answer)
    failure = by_wording(words) or (ServerError if answer.status == CLIENT_CLOSED else by_status(answer.status))
    wait_s = retry_after_s(answer.headers)
    said = f"HTTP {answer.status}: {words}" if words else f"HTTP {answer.status}"
    return throttled_if_short(failure, wait_s)(
        without_keys(said, api_key), retry_after_s=wait_s, provider_request_id=request_id(answer.headers)
    )


def error_in_place_of_answer(said: object, api_key: str | None) -> ProviderError:
    """Return our error for an `error` that came under a good status, as a stream's last line does."""
    words = storable(said if isinstance(said, str) else json.dumps(said))
    failure = by_wording(words) or ServerError
    return failure(without_keys(f"an error in place of an answer: {words}", api_key))


def by_wording(words: str) -> type[ProviderError] | None:
    """Return what the words say, if they are among those known."""
    lowered = words.lower()
    return next((failure for known, failure in BY_WORDING.items() if known in lowered), None)


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the call's id. Ollama gives none; a proxy before it may."""
    return name_or_none(headers.get("x-request-id"))


def _words(answer: Answer) -> str:
    """Return what the body says: Ollama's `error`, or "" where nobody can read it (a proxy's page, say)."""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    said = body.get("error") if isinstance(body, dict) else None
    if isinstance(said, dict):
        said = said.get("message")
    return storable(said) if isinstance(said, str) else ""
