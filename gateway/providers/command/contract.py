"""What is written to a program's stdin, and what its stdout and its exit code mean.

    stdin   {"model", "messages": [{"role", "content"}], "max_tokens", "temperature", "schema", "schema_name", …extra}
    stdout  {"output": text, "finish_reason": "stop" | "length" | "refusal",
             "usage": {"input_tokens", "output_tokens", "cached_tokens"}, "model", "request_id"}
    or      {"error": {"kind": one of `KINDS`, "message", "retry_after_s"}}

With the option `stream`, stdout is JSON lines: any number of {"text": piece}, then the object above. Its "output" may
be left out there; where it is given, the pieces must add up to it.

Exit codes are those of the seeds' scripts: 0 done, 1 the program failed, 2 its configuration, 3 the request.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gateway.errors import (
    AuthRejected,
    ContentRefused,
    ContextTooLong,
    InvalidRequest,
    MalformedCompletion,
    OutputTruncated,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    ServerError,
    Throttled,
    Timeout,
    Unreachable,
)
from gateway.limits.told import ToldLimits
from gateway.messages import Completion, FinishReason, JsonObject, Usage
from gateway.providers.wire import (
    MAX_RETRY_AFTER_S,
    MOST_TOKENS,
    believable_wait_s,
    name_or_none,
    storable,
    without_keys,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.messages import CompletionRequest

KINDS: dict[str, type[ProviderError]] = {
    "throttled": Throttled,
    "quota_exhausted": QuotaExhausted,
    "overloaded": Overloaded,
    "timeout": Timeout,
    "unreachable": Unreachable,
    "auth_rejected": AuthRejected,
    "context_too_long": ContextTooLong,
    "content_refused": ContentRefused,
    "output_truncated": OutputTruncated,
    "malformed_completion": MalformedCompletion,
    "invalid_request": InvalidRequest,
    "server_error": ServerError,
}
"""`error.kind`: our own words for what went wrong (`GatewayError.name`)."""

BY_EXIT_CODE: dict[int, type[ProviderError]] = {1: ServerError, 2: AuthRejected, 3: InvalidRequest}
"""Where the program said no more; any other code, a signal included, is ServerError. A wrong configuration is told as
a rejected key is: nothing was paid, the same again is of no use, another model may do."""

MOST_WORDS_CHARS = 4_000
"""Longest message read of an error; what is kept of it is shorter still."""

FINISH_REASONS = {reason.value: reason for reason in FinishReason}


def question(request: CompletionRequest) -> bytes:
    """Write the line for a program's stdin.

    Raises:
        InvalidRequest: it cannot be written as UTF-8 JSON.
    """
    asked: JsonObject = {
        **request.extra_body,
        "model": request.model,
        "messages": [{"role": one.role, "content": one.content} for one in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "schema": request.schema,
        "schema_name": request.schema_name,
    }
    try:
        return json.dumps(asked, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request cannot be written as UTF-8 JSON: {type(error).__name__}") from error


def piece(line: bytes) -> str | None:
    """Return the text of a line that is a piece; None where it is none: it is the answer then, or wrong."""
    said = _object(line)
    text = said.get("text") if said is not None else None
    return text if isinstance(text, str) else None


def taken_apart(stdout: bytes) -> tuple[list[str], bytes]:
    """Return the pieces that stdout begins with, and what follows them."""
    pieces: list[str] = []
    rest = stdout
    while rest:
        line, _, after = rest.partition(b"\n")
        text = piece(line)
        if text is None:
            break
        pieces.append(text)
        rest = after
    return pieces, rest


def answer(stdout: bytes, exit_code: int, stderr: str, pieces: Sequence[str], api_key: str | None) -> Completion:
    """Read what a program that has ended said, finished or cut. `model` is "" where it names none.

    Raises:
        ProviderError: it said so, or its exit code does. A usage that it tells is kept.
        MalformedCompletion: its output is no answer. `raw_text` has it.
    """
    said = _object(stdout)
    if said is not None and said.get("error") is not None:
        raise _told(said["error"], said.get("usage"), exit_code, api_key)
    if exit_code != 0:
        how = f"ended by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
        failure = BY_EXIT_CODE.get(exit_code, ServerError)
        raise failure(without_keys(f"{how}{f': {stderr}' if stderr else ''}", api_key))
    if said is None:
        raw_text = "".join(pieces) + stdout.decode("utf-8", "replace")
        raise MalformedCompletion("what the program wrote does not end in one JSON object", raw_text=raw_text)
    return _completion(said, pieces)


def _object(written: bytes) -> JsonObject | None:
    try:
        said = json.loads(written.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _told(error: object, usage: object, exit_code: int, api_key: str | None) -> ProviderError:
    facts: dict[str, Any] = error if isinstance(error, dict) else {"message": error}
    failure = KINDS.get(str(facts.get("kind"))) or BY_EXIT_CODE.get(exit_code, ServerError)
    wait_s = believable_wait_s([_seconds(facts.get("retry_after_s"))])
    words = storable(str(facts.get("message") or "the program says no more"), MOST_WORDS_CHARS)
    return failure(
        without_keys(words, api_key),
        retry_after_s=wait_s,
        usage=_usage(usage),
        provider_request_id=name_or_none(facts.get("request_id")),
        told=None if wait_s is None else ToldLimits({}, retry_after_s=wait_s),
    )


def _seconds(wait: object) -> float | None:
    if isinstance(wait, bool) or not isinstance(wait, (int, float)):
        return None
    # Bounded before it is converted: an integer may be beyond every float.
    return float(min(max(wait, -1), MAX_RETRY_AFTER_S))


def _completion(said: JsonObject, pieces: Sequence[str]) -> Completion:
    named = name_or_none(said.get("request_id"))
    text = _text(said, "".join(pieces) if pieces else None, named)
    reason = FINISH_REASONS.get(str(said.get("finish_reason")))
    usage = _usage(said.get("usage"))
    if reason is None or usage is None:
        problem = (
            "no usable usage" if usage is None else f"unknown finish_reason {str(said.get('finish_reason'))[:50]!r}"
        )
        raise _malformed(problem, text, named)
    return Completion(
        text=text,
        finish_reason=reason,
        usage=usage,
        model=name_or_none(said.get("model")) or "",
        provider_request_id=named,
    )


def _text(said: JsonObject, streamed: str | None, named: str | None) -> str:
    """Return the answer's text: `output`, or the pieces where it is left out. One that differs from them is refused."""
    text = said.get("output", streamed)
    if not isinstance(text, str):
        raise _malformed("no output", streamed, named)
    if streamed is not None and text != streamed:
        raise _malformed("an output that its pieces do not add up to", text, named)
    return text


def _usage(usage: object) -> Usage | None:
    """Read the counts; None where one is missing or impossible: a count of ours would be made up."""
    counts = usage if isinstance(usage, dict) else {}
    read = (counts.get("input_tokens"), counts.get("output_tokens"), counts.get("cached_tokens", 0))
    known = [value for value in read if type(value) is int and 0 <= value <= MOST_TOKENS]
    return Usage(*known) if len(known) == len(read) else None


def _malformed(problem: str, text: str | None, named: str | None) -> MalformedCompletion:
    return MalformedCompletion(f"the program's answer has {problem}", raw_text=text, provider_request_id=named)
