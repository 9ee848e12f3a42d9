"""A message of Anthropic's read into our words, straight from its JSON; every field that is used is checked here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gateway.errors import ContentRefused, ContextTooLong, MalformedCompletion
from gateway.messages import Completion, FinishReason, JsonObject, Usage
from gateway.providers.anthropic.errors import error_object, from_error_object, request_id
from gateway.providers.wire import MOST_TOKENS, kept_headers, name_or_none

if TYPE_CHECKING:
    from httpx2 import Response

STOP_REASONS: dict[str, FinishReason] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "refusal": FinishReason.REFUSAL,
}
"""Anthropic's stop reasons in our words. `tool_use` and `pause_turn` are not among them: no tools are sent."""

WINDOW_FULL = "model_context_window_exceeded"
"""The answer ended where the window did: only a larger one helps."""

KEPT_HEADERS = ("retry-after", "retry-after-ms", "request-id", "date", "anthropic-organization-id")
KEPT_HEADER_PREFIX = "anthropic-ratelimit-"


def read_completion(response: Response, asked_model: str, api_key: str | None = None) -> Completion:
    """Return the answer in `response`, finished or cut, by the model it names (or else the one that was asked).

    An answer without a usage count is refused, with its text kept: a count of our own would be a made-up figure.

    Raises:
        MalformedCompletion: the body is not a message. `raw_text` has the answer, or the body; `usage` what it has
            cost all the same.
        ContextTooLong: the answer filled the window. ContentRefused: the model declined.
        ProviderError: the body is an error object in spite of its status.
    """
    body = _json_object(response)
    if error_object(body):
        raise from_error_object(body, response.headers, api_key)
    answered_by = request_id(response.headers) or name_or_none(body.get("id"))
    usage = _usage(body.get("usage"))
    try:
        text = _text(body.get("content"), answered_by)
    except MalformedCompletion as error:
        error.usage = usage
        raise
    if usage is None:
        raise _malformed("the response holds no usable usage", text, answered_by)
    return Completion(
        text=text,
        finish_reason=finish_reason(body, text, usage, answered_by),
        usage=usage,
        model=name_or_none(body.get("model")) or asked_model,
        provider_request_id=answered_by,
        headers=kept_headers(response.headers.raw, _keeps),
    )


def finish_reason(
    message: JsonObject, text: str | None, usage: Usage | None, answered_by: str | None = None
) -> FinishReason:
    """Return why a message, or the delta at a stream's end, stopped.

    Raises:
        MalformedCompletion: for a reason that no call of ours can have.
        ContextTooLong: the window is full.
        ContentRefused: the model declined; the message names the category, where there is one.
    """
    reason = message.get("stop_reason")
    kept: dict[str, Any] = {"usage": usage, "provider_request_id": answered_by, "raw_text": text}
    if reason == WINDOW_FULL:
        raise ContextTooLong("the answer filled the model's context window", **kept)
    known = STOP_REASONS.get(reason) if isinstance(reason, str) else None
    if known is None:
        raise MalformedCompletion(f"unknown stop reason {reason!r}", **kept)
    details = message.get("stop_details")
    category = details.get("category") if isinstance(details, dict) else None
    if known is FinishReason.REFUSAL and category:
        raise ContentRefused(f"the model declined to answer: {category}", **kept)
    return known


def read_event(event: object, api_key: str | None = None) -> tuple[str, FinishReason | None]:
    """Return one stream event's text ("" if it has none), and why the model stopped, once it did.

    Raises:
        ProviderError: the event is an error, none of the protocol, or an end that is none for us.
    """
    if not isinstance(event, dict):
        raise MalformedCompletion("an event of the stream is not a JSON object")
    delta = event.get("delta")
    match event.get("type"):
        case "error":  # under another event name: the SDK raises those that are named so
            raise from_error_object(event, {}, api_key)
        case "content_block_delta" if isinstance(delta, dict) and delta.get("type") == "text_delta":
            text = delta.get("text")
            if not isinstance(text, str):
                raise MalformedCompletion("a text delta of the stream holds no text")
            return text, None
        case "message_delta" if isinstance(delta, dict) and delta.get("stop_reason"):
            return "", finish_reason(delta, None, None)
    return "", None


def _json_object(response: Response) -> JsonObject:
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError) as error:
        raise _malformed("the response is not JSON", response.text, request_id(response.headers)) from error
    if not isinstance(body, dict):
        raise _malformed("the response is not a JSON object", response.text, request_id(response.headers))
    return body


def _text(content: object, answered_by: str | None) -> str:
    """Join the text blocks; thinking stands in blocks of its own."""
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise _malformed("the response holds no content blocks", None, answered_by)
    texts = [block.get("text") for block in content if block.get("type") == "text"]
    if not all(isinstance(text, str) for text in texts):
        raise _malformed("a text block holds no text", None, answered_by)
    return "".join(str(text) for text in texts)


def _usage(usage: object) -> Usage | None:
    """Read the counts; None where one is missing or impossible.

    Anthropic's `input_tokens` leaves out what the cache gave or took; ours counts all of it.
    """
    counts = usage if isinstance(usage, dict) else {}
    fresh, output = counts.get("input_tokens"), counts.get("output_tokens")
    read, written = counts.get("cache_read_input_tokens") or 0, counts.get("cache_creation_input_tokens") or 0
    known = [value for value in (fresh, output, read, written) if type(value) is int and 0 <= value <= MOST_TOKENS]
    if len(known) < 4:
        return None
    return Usage(known[0] + known[2] + known[3], known[1], cached_tokens=known[2], cache_write_tokens=known[3])


def _keeps(name: str) -> bool:
    return name in KEPT_HEADERS or name.startswith(KEPT_HEADER_PREFIX)


def _malformed(message: str, raw_text: str | None, answered_by: str | None) -> MalformedCompletion:
    return MalformedCompletion(message, raw_text=raw_text, provider_request_id=answered_by)
