"""A response of OpenAI's Responses API read into our words, straight from its JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import MalformedCompletion
from gateway.messages import Completion, FinishReason, JsonObject, Usage
from gateway.providers.openai.chat_response import KEPT_HEADER_PREFIX, KEPT_HEADERS, json_object
from gateway.providers.openai.errors import from_error_object, request_id
from gateway.providers.wire import MOST_TOKENS, kept_headers, name_or_none

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

    from httpx2 import Response

    from gateway.errors import ProviderError

INCOMPLETE: dict[str, FinishReason] = {
    "max_output_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.REFUSAL,
}
"""`incomplete_details.reason` in our words; the others are of tools and of conversations, which no call of ours has."""

COMMENTARY = "commentary"
"""`phase` of a message in which some models think aloud before their answer. It is no part of the answer."""


def read_response(response: Response, asked_model: str, api_key: str | None = None) -> Completion:
    """Return the answer in `response`, finished or not, by the model it names (or else the one that was asked).

    Raises:
        MalformedCompletion: the body is no response. `raw_text` has the answer, or the body; `usage` what it has cost
            all the same.
        ProviderError: the response failed, or the body is an error object in spite of its status.
    """
    body = json_object(response)
    if body.get("error"):
        raise _failed(body, response.headers, api_key)
    answered_by = request_id(response.headers) or name_or_none(body.get("id"))
    usage = _usage(body.get("usage"))
    try:
        text, reason = _answer(body, answered_by)
    except MalformedCompletion as error:
        error.usage, error.provider_request_id = usage, answered_by
        raise
    if usage is None:
        raise _malformed("the response holds no usable usage", text, answered_by)
    return Completion(
        text=text,
        finish_reason=reason,
        usage=usage,
        model=name_or_none(body.get("model")) or asked_model,
        provider_request_id=answered_by,
        headers=kept_headers(response.headers.raw, _keeps),
    )


def finish_reason(response: JsonObject, text: str | None) -> FinishReason:
    """Return why a response ended.

    Raises:
        MalformedCompletion: its status is none that an answer can have.
    """
    status = response.get("status")
    if status == "completed":
        return FinishReason.STOP
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    known = INCOMPLETE.get(str(reason)) if status == "incomplete" else None
    if known is None:
        raise MalformedCompletion(f"unknown status {status!r}, reason {reason!r}", raw_text=text)
    return known


def read_event(event: object, api_key: str | None = None) -> tuple[str, FinishReason | None]:
    """Return one stream event's text ("" if it has none), and why the model stopped, once it did.

    Raises:
        ProviderError: the event is an error, or the response has failed.
    """
    if not isinstance(event, dict):
        raise MalformedCompletion("an event of the stream is not a JSON object")
    response = event.get("response")
    match event.get("type"):
        case "response.output_text.delta":
            return _delta(event), None
        case "response.refusal.delta" | "response.refusal.done":
            return "", FinishReason.REFUSAL
        case "error":
            raise from_error_object(event, {}, api_key)
        case "response.failed" if isinstance(response, dict):
            raise _failed(response, {}, api_key)
        case "response.completed" | "response.incomplete" if isinstance(response, dict):
            refused = any(part.get("type") == "refusal" for part in _parts(response.get("output")))
            return "", FinishReason.REFUSAL if refused else finish_reason(response, None)
    return "", None


def _delta(event: JsonObject) -> str:
    delta = event.get("delta")
    if not isinstance(delta, str):
        raise MalformedCompletion("a text event of the stream holds no text")
    return delta


async def without_commentary(events: AsyncIterator[object]) -> AsyncGenerator[object, None]:
    """Yield a stream's events but for the texts of commentary: only the message's first event says that it is one."""
    commentary: set[str] = set()
    async for event in events:
        facts = event if isinstance(event, dict) else {}
        item = facts.get("item")
        if isinstance(item, dict) and item.get("phase") == COMMENTARY:
            commentary.add(str(item.get("id")))
        if str(facts.get("item_id")) not in commentary:
            yield event


def _failed(response: JsonObject, headers: Mapping[str, str], api_key: str | None) -> ProviderError:
    """Return the error of a response that failed. What it has used until then is kept: it may be charged."""
    error = from_error_object(response.get("error"), headers, api_key)
    error.usage = _usage(response.get("usage"))
    error.provider_request_id = error.provider_request_id or name_or_none(response.get("id"))
    return error


def _answer(response: JsonObject, answered_by: str | None) -> tuple[str, FinishReason]:
    text, refused = _said(response.get("output"), answered_by)
    if text is None and response.get("status") == "completed":
        raise _malformed("the response holds no text", None, answered_by)
    return text or "", FinishReason.REFUSAL if refused else finish_reason(response, text or "")


def _said(output: object, answered_by: str | None) -> tuple[str | None, bool]:
    """Join the texts of the output's messages (None: there is none); whether the model refused.

    Reasoning stands in items of its own.
    """
    if not isinstance(output, list):
        raise _malformed("the response holds no output", None, answered_by)
    parts = list(_parts(output))
    refusals = [str(part.get("refusal", "")) for part in parts if part.get("type") == "refusal"]
    if refusals:
        return "".join(refusals), True
    texts = [part.get("text") for part in parts if part.get("type") == "output_text"]
    if not all(isinstance(text, str) for text in texts):
        raise _malformed("a part of the output holds no text", None, answered_by)
    return "".join(str(text) for text in texts) if texts else None, False


def _parts(output: object) -> Iterator[JsonObject]:
    for item in output if isinstance(output, list) else ():
        if isinstance(item, dict) and item.get("type") == "message" and item.get("phase") != COMMENTARY:
            content = item.get("content")
            yield from (part for part in content if isinstance(part, dict)) if isinstance(content, list) else ()


def _usage(usage: object) -> Usage | None:
    """Read the counts; None where one is missing or impossible: a count of ours would be made up."""
    counts = usage if isinstance(usage, dict) else {}
    given = counts.get("input_tokens_details")
    details = given if isinstance(given, dict) else {}
    read = (
        counts.get("input_tokens"),
        counts.get("output_tokens"),
        # Servers that copy this API and keep no cache leave these out, or say null.
        details.get("cached_tokens") or 0,
        details.get("cache_write_tokens") or 0,
    )
    known = [value for value in read if type(value) is int and 0 <= value <= MOST_TOKENS]
    return Usage(*known) if len(known) == len(read) else None


def _keeps(name: str) -> bool:
    return name in KEPT_HEADERS or name.startswith(KEPT_HEADER_PREFIX)


def _malformed(message: str, raw_text: str | None, answered_by: str | None) -> MalformedCompletion:
    return MalformedCompletion(message, raw_text=raw_text, provider_request_id=answered_by)
