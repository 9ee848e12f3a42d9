"""Cohere's words and ours: how a question is written, what an answer, an event and a refusal mean.

Pure: no I/O in here, so every line can be tested with a dict. Whatever comes from outside is checked; what is not as
the API describes it is MalformedCompletion, never a guess.

Source: https://docs.cohere.com/reference/chat and its Python SDK's types (`chat_finish_reason`, `usage`).
"""

from __future__ import annotations

import json
from typing import Any, Literal

from gateway.errors import MalformedCompletion, Overloaded, ProviderError, ServerError
from gateway.messages import Completion, CompletionRequest, FinishReason, JsonObject, Usage
from gateway.providers.json_http import Answer
from gateway.providers.wire import MOST_TOKENS, by_status, name_or_none, retry_after_s, storable, without_keys
from pydantic import BaseModel, ConfigDict

FINISH_REASONS = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
}
"""`finish_reason` in our words. TOOL_CALL is not among them: no tools are sent."""

FAILED: dict[str, type[ProviderError]] = {"ERROR": ServerError, "TIMEOUT": Overloaded}
"""A `finish_reason` that is none: the generation broke off."""


class CohereOptions(BaseModel):
    """`options` of a catalog entry whose dialect is cohere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    safety_mode: Literal["CONTEXTUAL", "STRICT", "OFF"] | None = None
    """What the model is told to keep away from; None: the API's own default."""


def chat_body(request: CompletionRequest, options: CohereOptions, *, stream: bool) -> JsonObject:
    """Return the JSON body that asks `request`. What we set ourselves wins over `extra_body`."""
    body: JsonObject = {
        **request.extra_body,
        "model": request.model,
        "messages": [{"role": one.role, "content": one.content} for one in request.messages],
        "max_tokens": request.max_tokens,
        "stream": stream,
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.schema is not None:
        body["response_format"] = {"type": "json_object", "json_schema": request.schema}
    if options.safety_mode is not None:
        body["safety_mode"] = options.safety_mode
    return body


def read_completion(answer: Answer, asked_model: str) -> Completion:
    """Return the answer, finished or cut. Cohere does not say which model wrote it: the one that was asked.

    Raises:
        MalformedCompletion: the body is no chat answer with its counts. `raw_text` has it.
        ProviderError: the generation broke off.
    """
    body = answer.json()
    if not isinstance(body, dict):
        raise MalformedCompletion("the response is not a JSON object", raw_text=answer.text)
    named = name_or_none(body.get("id"))
    text, usage = _text(body.get("message")), _usage(body.get("usage"))
    if text is None or usage is None:
        missing = "text" if text is None else "usable usage"
        raise MalformedCompletion(f"the response holds no {missing}", raw_text=answer.text, provider_request_id=named)
    reason = finish_reason(body.get("finish_reason"), text)
    return Completion(text=text, finish_reason=reason, usage=usage, model=asked_model, provider_request_id=named)


def read_event(data: str) -> tuple[str, FinishReason | None]:
    """Return one stream event's text ("" if it has none), and why the model stopped, once it did."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedCompletion("an event of the stream is not JSON") from error
    kind, delta = _at(event, "type"), _at(event, "delta")
    if kind == "content-delta":
        text = _at(delta, "message", "content", "text")
        return text if isinstance(text, str) else "", None
    if kind == "message-end":
        return "", finish_reason(_at(delta, "finish_reason"), None)
    return "", None


def finish_reason(reason: object, text: str | None) -> FinishReason:
    """Return why an answer ended.

    Raises:
        ProviderError: it broke off.
        MalformedCompletion: the reason is unknown.
    """
    known = FINISH_REASONS.get(str(reason))
    if known is None:
        failure = FAILED.get(str(reason), MalformedCompletion)
        raise failure(f"the generation ended with finish_reason {str(reason)[:50]!r}", raw_text=text)
    return known


def refused(answer: Answer, api_key: str | None) -> ProviderError:
    """Return the error of an answer with a status of failure: the status says which, the body says why."""
    try:
        said = _at(json.loads(answer.body), "message")
    except (ValueError, RecursionError):
        said = None
    words = f"HTTP {answer.status}" + (f": {storable(said)}" if isinstance(said, str) else "")
    return by_status(answer.status)(without_keys(words, api_key), retry_after_s=retry_after_s(answer.headers))


def _text(message: object) -> str | None:
    """Join the texts of a message; what the model thought before stands in parts of another type."""
    content = _at(message, "content")
    parts = content if isinstance(content, list) else []
    texts = [_at(part, "text") for part in parts if _at(part, "type") == "text"]
    return "".join(texts) if texts and all(isinstance(text, str) for text in texts) else None


def _usage(usage: object) -> Usage | None:
    """Read what is billed, in JSON numbers that may be written 20.0; None where one is missing or impossible."""
    counts = [_at(usage, "billed_units", name) for name in ("input_tokens", "output_tokens")]
    known = [int(count) for count in counts if type(count) in (int, float) and 0 <= count <= MOST_TOKENS]
    return Usage(*known) if known == counts else None


def _at(value: object, *keys: str) -> Any:
    """Follow keys into nested objects; None where the way ends."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
