"""What is written to a program's stdin, and what its stdout and its exit code mean.

    stdin   {"model", "messages": [{"role", "content"}], "max_tokens", "temperature", "schema", "schema_name", …extra}
    stdout  {"output": text, "finish_reason": "stop" | "length" | "refusal",
             "usage": {"input_tokens", "output_tokens", "cached_tokens"}, "model", "request_id"}
    or      {"error": {"kind": one of `KINDS`, "message", "retry_after_s"}}

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
    Overloaded,
    ProviderError,
    QuotaExhausted,
    ServerError,
    Throttled,
    Timeout,
    Unreachable,
)
from gateway.messages import Completion, FinishReason, JsonObject, Usage
from gateway.providers.wire import MOST_TOKENS, believable_wait_s, without_keys

if TYPE_CHECKING:
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
    "invalid_request": InvalidRequest,
    "server_error": ServerError,
}
"""`error.kind`: our own words for what went wrong."""

BY_EXIT_CODE: dict[int, type[ProviderError]] = {1: ServerError, 2: AuthRejected, 3: InvalidRequest}
"""Where the program said no more; any other code, a signal included, is ServerError."""

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


def answer(stdout: bytes, exit_code: int, stderr: str, asked_model: str, api_key: str | None) -> Completion:
    """Read what a program that has ended said, finished or cut.

    Raises:
        ProviderError: it said so, or its exit code does.
        MalformedCompletion: its output is no answer. `raw_text` has it.
    """
    said = _object(stdout)
    if said is not None and said.get("error") is not None:
        raise _told(said["error"], exit_code, api_key)
    if exit_code != 0:
        failure = BY_EXIT_CODE.get(exit_code, ServerError)
        raise failure(without_keys(f"exit code {exit_code}{f': {stderr}' if stderr else ''}", api_key))
    if said is None:
        raise MalformedCompletion("stdout is not one JSON object", raw_text=stdout.decode("utf-8", "replace"))
    return _completion(said, asked_model)


def _object(stdout: bytes) -> JsonObject | None:
    try:
        said = json.loads(stdout)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _told(error: object, exit_code: int, api_key: str | None) -> ProviderError:
    facts: dict[str, Any] = error if isinstance(error, dict) else {"message": error}
    failure = KINDS.get(str(facts.get("kind"))) or BY_EXIT_CODE.get(exit_code, ServerError)
    wait = facts.get("retry_after_s")
    waits = [float(wait)] if isinstance(wait, (int, float)) else []
    return failure(without_keys(str(facts.get("message")), api_key), retry_after_s=believable_wait_s(waits))


def _completion(said: JsonObject, asked_model: str) -> Completion:
    text, request_id = said.get("output"), said.get("request_id")
    reason = FINISH_REASONS.get(str(said.get("finish_reason", "stop")))
    named = request_id if isinstance(request_id, str) else None
    if not isinstance(text, str) or reason is None:
        problem = "no output" if not isinstance(text, str) else f"unknown finish_reason {said['finish_reason']!r}"
        raise MalformedCompletion(f"the program's answer has {problem}", provider_request_id=named)
    model = said.get("model")
    return Completion(
        text=text,
        finish_reason=reason,
        usage=_usage(said.get("usage"), text, named),
        model=model if isinstance(model, str) else asked_model,
        provider_request_id=named,
    )


def _usage(usage: object, text: str, named: str | None) -> Usage:
    counts = usage if isinstance(usage, dict) else {}
    read = (counts.get("input_tokens"), counts.get("output_tokens"), counts.get("cached_tokens", 0))
    known = [value for value in read if type(value) is int and 0 <= value <= MOST_TOKENS]
    if len(known) < len(read):
        raise MalformedCompletion("the program tells no usable usage", raw_text=text, provider_request_id=named)
    return Usage(*known)
