"""The bodies that a strict endpoint answers with: chat completions and messages, and their refusals."""

from __future__ import annotations

import json
from typing import Any

from ops.bench.endpoint import ANSWER

TEXT = json.dumps(ANSWER)

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
"""The paths that are served. What is counted goes by the account, not by the path."""


def answer(path: str, input_tokens: int, output_tokens: int, *, cut: bool) -> bytes:
    """An answer that tells so many tokens. `cut`: it stopped at `max_tokens`; its text is whole all the same."""
    make = _message if path == MESSAGES else _completion
    return json.dumps(make(input_tokens, output_tokens, cut)).encode()


def refusal(path: str, kind: str, per_min: float) -> bytes:
    """A refusal for one kind of limit."""
    said = f"This account's limit of {per_min:,.0f} {kind} per minute is reached."
    if path == MESSAGES:
        return json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": said}}).encode()
    error = {"message": said, "type": kind, "param": None, "code": "rate_limit_exceeded"}
    return json.dumps({"error": error}).encode()


def complaint(path: str, said: str) -> bytes:
    """What is answered to a request that is none."""
    error = {"type": "invalid_request_error", "message": said}
    return json.dumps({"type": "error", "error": error} if path == MESSAGES else {"error": error}).encode()


def _completion(input_tokens: int, output_tokens: int, cut: bool) -> dict[str, Any]:
    message = {"role": "assistant", "content": TEXT}
    return {
        "id": "chatcmpl-strict",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "strict",
        "choices": [{"index": 0, "message": message, "finish_reason": "length" if cut else "stop"}],
        "usage": {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        },
    }


def _message(input_tokens: int, output_tokens: int, cut: bool) -> dict[str, Any]:
    return {
        "id": "msg_strict",
        "type": "message",
        "role": "assistant",
        "model": "strict",
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "max_tokens" if cut else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
    }
