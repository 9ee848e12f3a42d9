"""A chat-completions answer read into our words, straight from its JSON.

The SDK's response models are passed by: building them costs half a millisecond a call and checks
nothing. Every field that is used is checked here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gateway.errors import MalformedCompletion
from gateway.messages import Completion, FinishReason, JsonObject, Usage
from gateway.providers.openai.errors import from_error_object, request_id
from gateway.providers.wire import MOST_TOKENS, kept_headers, name_or_none

if TYPE_CHECKING:
    from httpx2 import Response

FINISH_REASONS: dict[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.REFUSAL,
}
"""OpenAI's finish reasons in our words. `tool_calls` and `function_call` are not among them: no tools are sent."""

KEPT_HEADERS = ("retry-after", "retry-after-ms", "x-request-id", "openai-processing-ms", "date")
KEPT_HEADER_PREFIX = "x-ratelimit-"


def read_completion(response: Response, asked_model: str, api_key: str | None = None) -> Completion:
    """Return the answer in `response`, finished or not, by the model it names (or else the one that was asked).

    An answer without a usage count is refused, with its text kept: a count of our own would be a
    made-up figure in the ledger and in the limits. OpenAI always sends it, and so do the local
    servers (llama.cpp, Ollama, vLLM).

    Raises:
        MalformedCompletion: the body is not a chat completion. `raw_text` has the answer, or the body; `usage` what it
            has cost all the same.
        ProviderError: the body is an error object in spite of its status.
    """
    body = json_object(response)
    if body.get("error"):
        raise from_error_object(body["error"], response.headers, api_key)
    answered_by = request_id(response.headers) or name_or_none(body.get("id"))
    usage = _usage(body.get("usage"))
    try:
        text, finish_reason = _answer(_first_choice(body, answered_by), answered_by)
    except MalformedCompletion as error:
        error.usage = usage
        raise
    if usage is None:
        raise _malformed("the response holds no usable usage", text, answered_by)
    return Completion(
        text=text,
        finish_reason=finish_reason,
        usage=usage,
        model=name_or_none(body.get("model")) or asked_model,
        provider_request_id=answered_by,
        headers=kept_headers(response.headers.raw, _keeps),
    )


def read_chunk(chunk: object) -> tuple[str, FinishReason | None]:
    """Return one stream chunk's text ("" if it has none) and why the model stopped, once it did.

    Raises:
        MalformedCompletion: it is not a chunk, or its finish reason is unknown.
    """
    if not isinstance(chunk, dict):
        raise MalformedCompletion("a chunk of the stream is not a JSON object")
    choices = chunk.get("choices")
    if not choices:
        return "", None
    choice = _first_choice(chunk, None)
    delta = choice.get("delta")
    text = delta.get("content") if isinstance(delta, dict) else None
    if isinstance(delta, dict) and delta.get("refusal"):
        return "", FinishReason.REFUSAL
    reason = choice.get("finish_reason")
    return text if isinstance(text, str) else "", None if reason is None else _finish_reason(reason, text, None)


def json_object(response: Response) -> JsonObject:
    """Return a response's body, which is a JSON object.

    Raises:
        MalformedCompletion: it is none. `raw_text` has the body.
    """
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError) as error:
        raise _malformed("the response is not JSON", response.text, request_id(response.headers)) from error
    if not isinstance(body, dict):
        raise _malformed("the response is not a JSON object", response.text, request_id(response.headers))
    return body


def _first_choice(body: JsonObject, answered_by: str | None) -> JsonObject:
    choices = body.get("choices")
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        raise _malformed("the response holds no choice", None, answered_by)
    return choices[0]


def _answer(choice: JsonObject, answered_by: str | None) -> tuple[str, FinishReason]:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise _malformed("the choice holds no message", None, answered_by)
    if message.get("refusal"):
        return str(message["refusal"]), FinishReason.REFUSAL
    text = message.get("content")
    finish_reason = _finish_reason(choice.get("finish_reason"), text, answered_by)
    if isinstance(text, str):
        return text, finish_reason
    if finish_reason is FinishReason.STOP:
        raise _malformed("the message holds no text", None, answered_by)
    return "", finish_reason


def _finish_reason(reason: object, text: object, answered_by: str | None) -> FinishReason:
    known = FINISH_REASONS.get(reason) if isinstance(reason, str) else None
    if known is None:
        raise _malformed(f"unknown finish reason {reason!r}", _text_or_none(text), answered_by)
    return known


def _usage(usage: object) -> Usage | None:
    """Read the counts; None where one is missing or impossible."""
    counts = usage if isinstance(usage, dict) else {}
    given = counts.get("prompt_tokens_details")
    details = given if isinstance(given, dict) else {}
    read = (
        counts.get("prompt_tokens"),
        counts.get("completion_tokens"),
        # Servers that keep no cache leave these out, or say null.
        details.get("cached_tokens") or 0,
        details.get("cache_write_tokens") or 0,
    )
    known = [value for value in read if type(value) is int and 0 <= value <= MOST_TOKENS]
    return Usage(*known) if len(known) == len(read) else None


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _keeps(name: str) -> bool:
    return name in KEPT_HEADERS or name.startswith(KEPT_HEADER_PREFIX)


def _malformed(message: str, raw_text: str | None, answered_by: str | None) -> MalformedCompletion:
    return MalformedCompletion(message, raw_text=raw_text, provider_request_id=answered_by)
