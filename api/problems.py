"""What can go wrong, as RFC 9457 problem documents: one table of kinds, one exception, one way to write it.

`type` is `urn:assayline:problem:<name>`: it never changes its meaning. The table is in the OpenAPI document too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.limits import MAX_ERRORS, MAX_TEXT, RETRY_AFTER_S
from tasks.words import BRANCHES

MEDIA_TYPE = "application/problem+json"
URN = "urn:assayline:problem:"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem: the last part of its type, its status, its title."""

    name: str
    status: int
    title: str

    @property
    def type(self) -> str:
        """The problem's type, a URN."""
        return URN + self.name


NOT_HTTP = Kind("not-http", 400, "The request cannot be read")
NOT_JSON = Kind("not-json", 400, "The body is not JSON")
UNAUTHORIZED = Kind("unauthorized", 401, "The key is missing or wrong")
NO_SUCH_PAGE = Kind("not-found", 404, "There is nothing at this address")
NO_SUCH_JOB = Kind("no-such-job", 404, "There is no such job")
NO_SUCH_REPLAY = Kind("no-such-replay", 404, "There is no such replay")
NO_SUCH_ANALYSIS = Kind("no-such-analysis", 404, "There is no such analysis")
NO_SUCH_PROMPT = Kind("no-such-prompt", 404, "There is no such prompt version")
WRONG_METHOD = Kind("method-not-allowed", 405, "This address does not take this method")
TOO_SLOW = Kind("body-timeout", 408, "The body did not arrive in time")
CONFLICT = Kind("idempotency-conflict", 409, "The idempotency key was used for another request")
REPLAY_ENDED = Kind("replay-ended", 409, "The replay is done, or was stopped")
TOO_LARGE = Kind("too-large", 413, "More bytes than are taken")
WRONG_MEDIA_TYPE = Kind("unsupported-media-type", 415, "The body must be application/json")
INVALID = Kind("invalid", 422, "A field cannot be accepted")
UNKNOWN_ANALYSIS = Kind("unknown-analysis", 422, "The analysis is not known, or no configured provider serves it")
UNKNOWN_MODEL = Kind("unknown-model", 422, "The model or provider is not configured")
TOO_MUCH = Kind("too-much", 422, "It would take longer than a request may")
FAULT = Kind("fault", 500, "A fault of Assayline's own")
STORE_AWAY = Kind("store-away", 503, "Postgres does not answer")
NOT_MIGRATED = Kind("not-migrated", 503, "The database is not set up")
REPLAY_BEING_MADE = Kind("replay-being-made", 503, "Another replay is being made")
NOT_READY = Kind("not-ready", 503, "Not ready to take jobs")
BUSY = Kind("busy", 503, "Too many requests at once")
STOPPING = Kind("stopping", 503, "The service is being stopped")

KINDS = (
    NOT_HTTP,
    NOT_JSON, UNAUTHORIZED, NO_SUCH_PAGE, NO_SUCH_JOB, NO_SUCH_REPLAY, NO_SUCH_ANALYSIS, NO_SUCH_PROMPT, WRONG_METHOD,
    TOO_SLOW, CONFLICT, REPLAY_ENDED, TOO_LARGE, WRONG_MEDIA_TYPE, INVALID, UNKNOWN_ANALYSIS, UNKNOWN_MODEL, TOO_MUCH,
    FAULT, STORE_AWAY, NOT_MIGRATED, REPLAY_BEING_MADE, NOT_READY, BUSY, STOPPING,
)  # fmt: skip


class Finding(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": False})

    field: str = Field(description="The field or parameter, such as `messages[0].role`")
    problem: str = Field(description="What is wrong with it")


class ProblemDocument(BaseModel):
    """An RFC 9457 problem document."""

    model_config = ConfigDict(
        title="Problem",
        json_schema_extra={
            "additionalProperties": False,
            "examples": [
                {
                    "type": INVALID.type,
                    "title": INVALID.title,
                    "status": INVALID.status,
                    "detail": "tags: at most 50",
                    "instance": "/v1/jobs",
                    "request_id": "0f2c8d1e5b6a4c7f9d3e2b1a0c9d8e7f",
                    "field": "tags",
                    "errors": [{"field": "tags", "problem": "at most 50"}],
                }
            ],
        },
    )

    type: str = Field(description=f"What kind of problem: {URN}<name>")
    title: str = Field(description="The kind in words, the same each time")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="What is wrong this time")
    instance: str = Field(description="The path of the request")
    request_id: str = Field(description="As in the header X-Request-ID")
    field: str | None = Field(default=None, description="The first field that is wrong, where it is one")
    errors: list[Finding] | None = Field(default=None, description=f"All that was found, at most {MAX_ERRORS}")
    job_id: str | None = Field(default=None, description="Of an idempotency conflict: the job that has the key")


class Problem(Exception):
    """A problem on its way to the caller. `errors` are (field, what is wrong with it)."""

    def __init__(
        self,
        kind: Kind,
        detail: str = "",
        *,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        job_id: str | None = None,
    ) -> None:
        super().__init__(detail or kind.title)
        self.kind = kind
        self.errors = tuple(errors)[:MAX_ERRORS]
        self.detail = detail or "; ".join(f"{field}: {problem}" for field, problem in self.errors) or kind.title
        self.headers = dict(headers or {})
        self.job_id = job_id

    def response(self, path: str, request_id: str) -> Response:
        """Write the document as the answer to a request."""
        body: dict[str, Any] = {
            "type": self.kind.type,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": tidy(self.detail),
            "instance": tidy(path),
            "request_id": request_id,
        }
        if self.errors:
            body["field"] = tidy(self.errors[0][0])
            body["errors"] = [{"field": tidy(field), "problem": tidy(problem)} for field, problem in self.errors]
        if self.job_id:
            body["job_id"] = self.job_id
        return Response(json.dumps(body), self.kind.status, self.headers, MEDIA_TYPE)


def refused(field: str, problem: str, kind: Kind = INVALID) -> Problem:
    """A problem with one field."""
    return Problem(kind, errors=[(field, problem)])


def later(kind: Kind, detail: str = "", errors: Sequence[tuple[str, str]] = ()) -> Problem:
    """A problem that may be gone in a few seconds."""
    return Problem(kind, detail, errors=errors, headers={"Retry-After": str(RETRY_AFTER_S)})


def found_invalid(findings: Sequence[Mapping[str, Any]], *, without: int = 0) -> Problem:
    """What pydantic found, as a problem; `without`: leading parts of a place that are no field (`query`, `path`).

    Values stay out: they are the caller's, and may be personal.
    """
    return Problem(INVALID, errors=[(_place(found["loc"][without:]), str(found["msg"])) for found in findings])


def of_validation(error: ValidationError) -> Problem:
    """What pydantic found in a body."""
    return found_invalid(error.errors(include_url=False, include_input=False, include_context=False))


def tidy(text: str) -> str:
    """Text of others, cut, and without what JSON or a terminal cannot take (lone surrogates, control characters)."""
    cut = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)


def _place(parts: Sequence[str | int]) -> str:
    """`messages`, 0, `role` as `messages[0].role`."""
    place = ""
    for part in parts:
        if place and part in BRANCHES:
            continue
        place += f"[{part}]" if isinstance(part, int) else f"{'.' if place else ''}{part}"
    return place or "body"
