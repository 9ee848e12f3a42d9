"""A described endpoint's answer read into our words; every place that is used is checked."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from gateway.errors import MalformedCompletion
from gateway.messages import Completion, CompletionRequest, FinishReason, Usage
from gateway.providers.base import BYTES_PER_TOKEN
from gateway.providers.rest.errors import error_in_place_of_answer, request_id
from gateway.providers.wire import MOST_TOKENS, kept_headers, name_or_none

if TYPE_CHECKING:
    from gateway.providers.json_http import Answer
    from gateway.providers.rest.options import Finish, RestOptions, Stream, UsagePlaces

KEPT_HEADERS = frozenset({"retry-after", "retry-after-ms", "date"})
KEPT_HEADER_PREFIXES = ("x-ratelimit-", "ratelimit")
"""Rate limits as most services write them, and as the IETF's draft does (`RateLimit`, `RateLimit-Policy`)."""


def read_completion(
    answer: Answer, request: CompletionRequest, options: RestOptions, input_estimate_tokens: int, api_key: str | None
) -> Completion:
    """Return the answer, finished or not, by the model it names (or else the one that was asked).

    `input_estimate_tokens` counts only where the entry says `usage: estimated`; the output is then estimated by the
    same rule (bytes / 3, see `base.BYTES_PER_TOKEN`), and the completion says so.

    Raises:
        MalformedCompletion: a place holds nothing, or not what belongs there. `raw_text` has the answer, or the body.
        ProviderError: the body is an error in spite of its status.
    """
    body = answer.json()
    answered_by = request_id(answer, body, options)
    if error := error_in_place_of_answer(body, options, api_key, answered_by):
        raise error
    finish_reason = None if options.finish is None else _finish_reason(body, options.finish, answer.text, answered_by)
    text = _text(body, request, options, finish_reason, answer.text, answered_by)
    if options.usage is None:
        usage = Usage(input_estimate_tokens, _estimated_tokens(text))
    else:
        usage = _usage(body, options.usage, text, answered_by)
    return Completion(
        text=text,
        finish_reason=finish_reason or _guessed_finish(usage, request, options),
        usage=usage,
        model=(options.model and name_or_none(options.model.find(body))) or request.model,
        provider_request_id=answered_by,
        headers=kept_headers(answer.raw_headers, lambda name: _keeps(name, options)),
        usage_estimated=options.usage is None,
    )


def read_event(
    data: str, described: Stream, options: RestOptions, api_key: str | None
) -> tuple[str, FinishReason | None]:
    """Return one stream event's text ("" if it has none) and why the model stopped, once it did.

    Raises:
        MalformedCompletion: it is not JSON, its text is no text, or its reason is not listed.
        ProviderError: it is an error.
    """
    if data == described.done:
        return "", FinishReason.STOP if described.finish is None else None
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedCompletion("an event of the stream is not JSON") from error
    if error_said := error_in_place_of_answer(body, options, api_key):
        raise error_said
    text = described.text.find(body)
    if text is not None and not isinstance(text, str):
        raise MalformedCompletion(f"an event of the stream holds no text at {described.text}")
    reason = None
    if described.finish is not None and options.finish is not None and described.finish.find(body) is not None:
        reason = _reason(described.finish.find(body), options.finish, text, None)
    return text or "", reason


def _text(
    body: Any,
    request: CompletionRequest,
    options: RestOptions,
    finish_reason: FinishReason | None,
    raw_text: str,
    answered_by: str | None,
) -> str:
    """Read the answer. Where a schema was asked for, an endpoint may hand over the object itself.

    An answer that was cut or refused need not hold any text.
    """
    found = options.answer.find(body)
    if isinstance(found, str):
        return found
    if request.schema is not None and isinstance(found, (dict, list)):
        return json.dumps(found, ensure_ascii=False)
    if found is None and finish_reason in (FinishReason.LENGTH, FinishReason.REFUSAL):
        return ""
    raise _malformed(f"the response holds no text at {str(options.answer)!r}", raw_text, answered_by)


def _finish_reason(body: Any, finish: Finish, raw_text: str, answered_by: str | None) -> FinishReason:
    return _reason(finish.at.find(body), finish, raw_text, answered_by)


def _reason(word: Any, finish: Finish, raw_text: str | None, answered_by: str | None) -> FinishReason:
    known = finish.reasons.get((type(word), word)) if isinstance(word, (str, int)) else None
    if known is None:
        raise _malformed(f"unknown finish reason {word!r}", raw_text, answered_by)
    return known


def _guessed_finish(usage: Usage, request: CompletionRequest, options: RestOptions) -> FinishReason:
    """Judge an answer whose endpoint does not tell why it stopped: one that fills max_tokens was cut."""
    counted = options.usage is not None
    return FinishReason.LENGTH if counted and usage.output_tokens >= request.max_tokens else FinishReason.STOP


def _usage(body: Any, places: UsagePlaces, text: str, answered_by: str | None) -> Usage:
    cached = None if places.cached is None else places.cached.find(body)
    read = (places.input.find(body), places.output.find(body), 0 if cached is None else cached)
    known = [value for value in read if type(value) is int and 0 <= value <= MOST_TOKENS]
    if len(known) < len(read):
        where = f"{places.input} and {places.output}"
        raise _malformed(f"the response holds no usable usage at {where}", text, answered_by)
    input_tokens, output_tokens, cached_tokens = known
    if not places.input_includes_cached:
        input_tokens += cached_tokens
    return Usage(input_tokens, output_tokens, cached_tokens)


def _estimated_tokens(text: str) -> int:
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN)


def _keeps(name: str, options: RestOptions) -> bool:
    return name in KEPT_HEADERS or name.startswith(KEPT_HEADER_PREFIXES) or name == options.request_id_header.lower()


def _malformed(message: str, raw_text: str | None, answered_by: str | None) -> MalformedCompletion:
    return MalformedCompletion(message, raw_text=raw_text, provider_request_id=answered_by)
