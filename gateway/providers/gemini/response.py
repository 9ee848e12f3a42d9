"""An answer of generateContent read into our words, straight from its JSON; every field used is checked here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.errors import AuthRejected, ContentRefused, MalformedCompletion, ProviderError
from gateway.messages import Completion, FinishReason, JsonObject, Usage
from gateway.providers.gemini.errors import from_error_object
from gateway.providers.wire import MOST_TOKENS, name_or_none

ENDS: Mapping[str, FinishReason | type[ProviderError]] = MappingProxyType(
    {
        "STOP": FinishReason.STOP,
        # The window of one request is full, and the SDK would ask for the rest in a second one.
        **dict.fromkeys(("MAX_TOKENS", "CONTINUATION"), FinishReason.LENGTH),
        **dict.fromkeys(
            (
                *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
                *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "ESCALATION"),
            ),
            FinishReason.REFUSAL,
        ),
        "PUP_LIMITED_DISABLED": AuthRejected,
        **dict.fromkeys(
            (
                *("FINISH_REASON_UNSPECIFIED", "OTHER", "MALFORMED_RESPONSE", "MALFORMED_FUNCTION_CALL"),
                *("UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"),
                *("IMAGE_OTHER", "NO_IMAGE"),
            ),
            MalformedCompletion,
        ),
    }
)
"""Gemini's finish reasons, the whole of the SDK's list, in our words; any other is malformed too. PUP_LIMITED_DISABLED:
the account broke the terms of use and is limited."""

NO_USAGE = "the response holds no usable usage"

KEPT_HEADERS = ("retry-after", "date", "server-timing", "x-gemini-service-tier")


def read_completion(body: str | None, headers: Mapping[str, str], asked_model: str, api_key: str | None) -> Completion:
    """Return the answer, finished or cut, by the version of the model that gave it. `headers` have lower-case names.

    Raises:
        MalformedCompletion: it is no answer. `raw_text` has the text, or the body.
        ContentRefused: the prompt was blocked, or the model declined; the message says why.
        ProviderError: it is an error object in spite of its status.
    """
    answer = parsed(body)
    if answer.get("error"):
        raise from_error_object(answer, api_key, headers=headers)
    answered_by = name_or_none(answer.get("responseId"))
    usage = _usage(answer.get("usageMetadata"))
    text, reason = candidate(answer, usage, answered_by)
    fault = _fault(answer, text, reason, usage)
    if fault is not None or reason is None or usage is None:
        counted = None if fault == NO_USAGE else usage
        raise MalformedCompletion(str(fault), usage=counted, raw_text=text, provider_request_id=answered_by)
    return Completion(
        text=text or "",
        finish_reason=reason,
        usage=usage,
        model=name_or_none(answer.get("modelVersion")) or asked_model,
        provider_request_id=answered_by,
        headers={name: value for name, value in headers.items() if name in KEPT_HEADERS},
    )


def read_event(answer: object, api_key: str | None) -> tuple[str, FinishReason | None]:
    """Return one stream event's text ("" if it has none), and why the model stopped, once it did.

    Raises:
        ProviderError: the event is an error, or an end that is none; ContentRefused names its reason.
    """
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(answer, dict):
        raise MalformedCompletion("an event of the stream is not a JSON object")
    if answer.get("error"):
        raise from_error_object(answer, api_key)
    if not answer.get("candidates") and not answer.get("promptFeedback"):
        return "", None
    text, reason = candidate(answer, _usage(answer.get("usageMetadata")), name_or_none(answer.get("responseId")))
    return text or "", reason


def parsed(body: str | None) -> JsonObject:
    """Return a body, which is a JSON object, or a list of one.

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


def candidate(
    answer: JsonObject, usage: Usage | None, answered_by: str | None
) -> tuple[str | None, FinishReason | None]:
    """Return the first candidate's text (None: it has none), and why it ended (None: it goes on).

    Raises:
        ContentRefused: the prompt was blocked, or the model declined.
        MalformedCompletion: there is no candidate, or its reason is no end.
        AuthRejected: the account is limited.
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
    text = _text(first.get("content"))
    reason = first.get("finishReason")
    if reason is None:
        return text, None
    end = ENDS.get(str(reason), MalformedCompletion)
    if end is FinishReason.REFUSAL:
        raise ContentRefused(f"the model declined to answer: {reason}", raw_text=text, **kept)
    if not isinstance(end, FinishReason):
        raise end(f"the answer ended for no good: {reason!r}", raw_text=text, **kept)
    return text, end


def _text(content: object) -> str | None:
    """Join the texts of all parts but the thoughts."""
    parts = content.get("parts") if isinstance(content, dict) else None
    given = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    texts = [part["text"] for part in given if isinstance(part.get("text"), str) and not part.get("thought")]
    return "".join(texts) if texts else None


def _fault(answer: JsonObject, text: str | None, reason: FinishReason | None, usage: Usage | None) -> str | None:
    """Say what an answer lacks that every whole one has."""
    if reason is None:
        return "the candidate has no finish reason"
    if text is None and reason is FinishReason.STOP:
        return "the candidate holds no text"
    # A count of zero is left out of the JSON; where there is text, it was the count that was left out.
    if usage is None or (text and not answer["usageMetadata"].get("candidatesTokenCount")):
        return NO_USAGE
    return None


def _usage(usage: object) -> Usage | None:
    """Read the counts. Thoughts are billed as output; what came from the cache is part of the prompt's count.

    What tools brought in is billed as input, and counted beside the prompt.
    """
    counts = usage if isinstance(usage, dict) else {}
    read = (
        counts.get("promptTokenCount"),
        counts.get("toolUsePromptTokenCount", 0),
        counts.get("candidatesTokenCount", 0),
        counts.get("thoughtsTokenCount", 0),
        counts.get("cachedContentTokenCount", 0),
    )
    known = [value for value in read if type(value) is int and 0 <= value <= MOST_TOKENS]
    if len(known) < len(read) or known[4] > known[0]:
        return None
    return Usage(known[0] + known[1], known[2] + known[3], cached_tokens=known[4])
