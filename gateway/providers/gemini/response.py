"""An answer of generateContent read into our words, straight from its JSON; every field used is checked here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gateway.errors import ContentRefused, MalformedCompletion
from gateway.messages import Completion, FinishReason, JsonObject, Usage
from gateway.providers.gemini.errors import from_error_object
from gateway.providers.wire import MOST_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping

FINISH_REASONS: dict[str, FinishReason] = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    **dict.fromkeys(
        (
            *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
            *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "ESCALATION"),
        ),
        FinishReason.REFUSAL,
    ),
}
"""Gemini's finish reasons in our words. OTHER, MALFORMED_RESPONSE, MALFORMED_FUNCTION_CALL and the rest of the SDK's
list say that the answer is none: they are malformed."""

KEPT_HEADERS = ("retry-after", "date", "server-timing", "x-gemini-service-tier")


def read_completion(body: str | None, headers: Mapping[str, str], asked_model: str, api_key: str | None) -> Completion:
    """Return the answer, finished or cut, by the version of the model that gave it.

    Raises:
        MalformedCompletion: it is no answer. `raw_text` has the text, or the body.
        ContentRefused: the prompt was blocked; the message says why.
        ProviderError: it is an error object in spite of its status.
    """
    answer = parsed(body)
    if answer.get("error"):
        raise from_error_object(answer, api_key)
    answered_by = _text_or_none(answer.get("responseId"))
    usage = _usage(answer.get("usageMetadata"))
    text, reason = candidate(answer, usage, answered_by)
    if text and usage is not None and "candidatesTokenCount" not in answer["usageMetadata"]:
        usage = None
    if reason is None:
        raise MalformedCompletion("the candidate has no finish reason", raw_text=text, provider_request_id=answered_by)
    if usage is None:
        raise MalformedCompletion("the response holds no usable usage", raw_text=text, provider_request_id=answered_by)
    return Completion(
        text=text,
        finish_reason=reason,
        usage=usage,
        model=_text_or_none(answer.get("modelVersion")) or asked_model,
        provider_request_id=answered_by,
        headers={name.lower(): value for name, value in headers.items() if name.lower() in KEPT_HEADERS},
    )


def read_event(answer: object, api_key: str | None) -> tuple[str, FinishReason | None]:
    """Return one stream event's text ("" if it has none), and why the model stopped, once it did."""
    if not isinstance(answer, dict):
        raise MalformedCompletion("an event of the stream is not a JSON object")
    if answer.get("error"):
        raise from_error_object(answer, api_key)
    if not answer.get("candidates") and not answer.get("promptFeedback"):
        return "", None
    return candidate(answer, None, None)


def parsed(body: str | None) -> JsonObject:
    """Return a body, which is a JSON object.

    Raises:
        MalformedCompletion: it is none. `raw_text` has it.
    """
    try:
        answer = json.loads(body or "")
    except (ValueError, RecursionError) as error:
        raise MalformedCompletion("the response is not JSON", raw_text=body) from error
    if isinstance(answer, list) and len(answer) == 1:
        [answer] = answer
    if not isinstance(answer, dict):
        raise MalformedCompletion("the response is not a JSON object", raw_text=body)
    return answer


def candidate(answer: JsonObject, usage: Usage | None, answered_by: str | None) -> tuple[str, FinishReason | None]:
    """Return the first candidate's text, its thoughts left out, and why it ended (None: it goes on).

    Raises:
        ContentRefused: the prompt was blocked. MalformedCompletion: there is no candidate, or its reason is no end.
    """
    kept: dict[str, Any] = {"usage": usage, "provider_request_id": answered_by}
    feedback = answer.get("promptFeedback")
    blocked = feedback.get("blockReason") if isinstance(feedback, dict) else None
    if blocked:
        raise ContentRefused(f"the prompt was blocked: {blocked}", **kept)
    candidates = answer.get("candidates")
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    if not isinstance(first, dict):
        raise MalformedCompletion("the response holds no candidate", **kept)
    content = first.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    texts = [part.get("text") for part in parts or () if isinstance(part, dict) and not part.get("thought")]
    text = "".join(one for one in texts if isinstance(one, str))
    reason = first.get("finishReason")
    if reason is None:
        return text, None
    known = FINISH_REASONS.get(str(reason))
    if known is None:
        raise MalformedCompletion(f"unknown finish reason {reason!r}", raw_text=text, **kept)
    return text, known


def _usage(usage: object) -> Usage | None:
    """Read the counts. Thoughts are billed as output; what came from the cache is part of the prompt's count."""
    counts = usage if isinstance(usage, dict) else {}
    read = (
        counts.get("promptTokenCount"),
        counts.get("candidatesTokenCount", 0),
        counts.get("thoughtsTokenCount", 0),
        counts.get("cachedContentTokenCount", 0),
    )
    known = [value for value in read if type(value) is int and 0 <= value <= MOST_TOKENS]
    if len(known) < len(read):
        return None
    return Usage(known[0], known[1] + known[2], cached_tokens=known[3])


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
