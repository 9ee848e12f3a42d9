"""An Ollama chat answer read into our words; every field that is used is checked.

`message.thinking` is left where it is: what a model thinks is no part of its answer, though its tokens count.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gateway.errors import ContextTooLong, MalformedCompletion
from gateway.messages import Completion, FinishReason, JsonObject, Usage
from gateway.providers.ollama.errors import error_in_place_of_answer, request_id
from gateway.providers.wire import MOST_TOKENS, kept_headers, name_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.providers.json_http import Answer

FINISH_REASONS: Mapping[str, FinishReason] = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
"""`done_reason` in our words. `load` and `unload` are not among them: nothing was written then."""

KEPT_HEADERS = frozenset({"retry-after", "retry-after-ms", "date", "x-request-id"})
KEPT_HEADER_PREFIX = "x-ratelimit-"


def read_completion(answer: Answer, asked_model: str, window_tokens: int | None, api_key: str | None) -> Completion:
    """Return the answer, finished or not, by the model it names (or else the one that was asked).

    Raises:
        MalformedCompletion: the body is not a finished chat answer with its counts. `raw_text` has the text, or the
            body.
        ContextTooLong: the counts show that the window was overrun (see `_check_window`).
        ProviderError: the body is an error in spite of its status.
    """
    answered_by = request_id(answer.headers)
    body = _object(answer.json(), answer.text)
    if body.get("error"):
        raise error_in_place_of_answer(body["error"], api_key)
    text = _text(body, answer.text)
    finish_reason = _finish_reason(body, text)
    usage = _usage(body, text, answered_by)
    _check_window(usage, window_tokens, text, answered_by)
    return Completion(
        text=text,
        finish_reason=finish_reason,
        usage=usage,
        model=name_or_none(body.get("model")) or asked_model,
        provider_request_id=answered_by,
        headers=kept_headers(answer.raw_headers, _keeps),
    )


def read_line(line: bytes, window_tokens: int | None, api_key: str | None) -> tuple[str, FinishReason | None]:
    """Return one stream line's text ("" if it has none) and why the model stopped, once it did.

    Raises:
        MalformedCompletion: it is not a line of a chat answer, or its reason is unknown.
        ContextTooLong: it is the last, and its counts show that the window was overrun.
        ProviderError: it is an error.
    """
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MalformedCompletion("a line of the stream is not JSON") from error
    body = _object(parsed, None)
    if body.get("error"):
        raise error_in_place_of_answer(body["error"], api_key)
    text = _text(body, None)
    if not body.get("done"):
        return text, None
    finish_reason = _finish_reason(body, text)
    _check_window(_usage(body, text, None), window_tokens, text, None)
    return text, finish_reason


def _object(body: Any, raw_text: str | None) -> JsonObject:
    if not isinstance(body, dict):
        raise MalformedCompletion("the response is not a JSON object", raw_text=raw_text)
    return body


def _text(body: JsonObject, raw_text: str | None) -> str:
    message = body.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        raise MalformedCompletion("the response holds no message with text", raw_text=raw_text)
    return text


def _finish_reason(body: JsonObject, text: str) -> FinishReason:
    """Read why the model stopped. Where Ollama breaks an answer off (a model that repeats itself), `done` is false."""
    reason = body.get("done_reason")
    known = FINISH_REASONS.get(reason) if isinstance(reason, str) and body.get("done") is True else None
    if known is None:
        said = f"done_reason {reason!r}" if body.get("done") is True else "not done"
        raise MalformedCompletion(f"the answer is not finished: {said}", raw_text=text)
    return known


def _usage(body: JsonObject, text: str, answered_by: str | None) -> Usage:
    """Read the counts. `prompt_eval_count` holds the tokens read from the cache too.

    Before 0.2 it was left out where all were. An answer without it is refused: a count of ours would be made up.
    """
    read = [body.get("prompt_eval_count"), body.get("eval_count"), body.get("prompt_eval_cached_count", 0)]
    known = [value for value in read if type(value) is int and 0 <= value <= MOST_TOKENS]
    if len(known) < len(read) or known[0] == 0:
        raise MalformedCompletion(
            "the response holds no usable counts (prompt_eval_count, eval_count); Ollama before 0.2 left them out",
            raw_text=text,
            provider_request_id=answered_by,
        )
    return Usage(*known)


def _check_window(usage: Usage, window_tokens: int | None, text: str, answered_by: str | None) -> None:
    """Check that input and output fitted into the window that was asked for.

    A server that does not know `truncate` and `shift` (before 0.12.6) cuts the input down to the window, or drops its
    beginning while it writes; the counts then fill the window or go beyond it. The last token written needs no place.

    Raises:
        ContextTooLong: they do, so the answer may come from a part of the input.
    """
    used_tokens = usage.input_tokens + usage.output_tokens
    if window_tokens is not None and (usage.input_tokens >= window_tokens or used_tokens > window_tokens + 1):
        raise ContextTooLong(
            f"{used_tokens} tokens in a window of {window_tokens}: Ollama may have cut the input",
            usage=usage,
            raw_text=text,
            provider_request_id=answered_by,
        )


def _keeps(name: str) -> bool:
    return name in KEPT_HEADERS or name.startswith(KEPT_HEADER_PREFIX)
