"""The ways in which a provider fails, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

WELL = "well"


@dataclass(frozen=True, slots=True)
class Failure:
    """One way. Without a status nothing is ever answered; `gone`: the process itself is."""

    name: str
    status: int | None = None
    error: Mapping[str, str] | None = None
    gone: bool = False


FAILURES: Mapping[str, Failure] = {
    failure.name: failure
    for failure in (
        Failure("refuses", gone=True),
        Failure("hangs"),
        Failure(
            "errors",
            HTTPStatus.INTERNAL_SERVER_ERROR,
            {"type": "server_error", "code": "server_error", "message": "The server had an error."},
        ),
        Failure(
            "quota",
            HTTPStatus.TOO_MANY_REQUESTS,
            {
                "type": "insufficient_quota",
                "code": "insufficient_quota",
                "message": "You exceeded your current quota, please check your plan and billing details.",
            },
        ),
    )
}
"""In the order in which they are tried. The bodies are OpenAI's: https://platform.openai.com/docs/guides/error-codes."""
