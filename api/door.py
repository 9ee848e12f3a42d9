"""What is judged before a job is enqueued: the body as JSON, its fields, and what its analysis can do with them.

A worker would refuse the same things later; here nobody has waited for it yet. An analysis that this process does not
know is left to Postgres, which has the catalog of those who run jobs.
"""

from __future__ import annotations

import email.message
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request
from pydantic import BaseModel, StringConstraints, ValidationError

from api.problems import TOO_LARGE, WRONG_MEDIA_TYPE, Problem, of_validation, refused
from api.requests import JobRequest
from api.strict_json import read_object
from gateway.analyses.base import Ask
from gateway.analyses.registry import AnalysisRegistry, Registered
from gateway.errors import RequestError
from gateway.messages import Message
from tasks.producer.jobs import Job, wire
from tasks.replay.request import ReplayRequest

M = TypeVar("M", bound=BaseModel)

OWN_WORDS = ("messages", "schema", "output_format")
"""Fields that only an analysis of the caller's own words takes."""

IdempotencyKey = Annotated[
    str | None,
    # One definite name: visible ASCII, no blanks that a proxy may strip.
    StringConstraints(pattern=r"^[!-~]{1,255}$"),
    Header(description="The same key and request again makes nothing new. Must not contradict the body's."),
]


async def read_body(request: Request, model: type[M]) -> M:
    """Read a body that is what `model` says.

    Raises:
        Problem: it is not JSON, or a field cannot be accepted; all fields that cannot are named.
    """
    _check_media_type(request.headers.get("content-type"), request.headers.get("content-encoding"))
    try:
        return model.model_validate(read_object(await request.body()))
    except ValidationError as error:
        raise of_validation(error) from error


async def job_request(request: Request) -> JobRequest:
    """Read a body that is a job."""
    return await read_body(request, JobRequest)


async def replay_request(request: Request) -> ReplayRequest:
    """Read a body that is a replay to make; raises as `read_body`."""
    return await read_body(request, ReplayRequest)


Body = Annotated[JobRequest, Depends(job_request)]
ReplayBody = Annotated[ReplayRequest, Depends(replay_request)]


def checked(wanted: JobRequest, header_key: str | None, registry: AnalysisRegistry) -> Job:
    """Make a job of a request, judged as far as can be without Postgres.

    Raises:
        Problem: header and body name two keys, or the analysis cannot use what it is given.
        InvalidJob: a text holds what cannot be stored.
    """
    job = wanted.job(agreed(header_key, wanted.idempotency_key))
    wire(job)
    entry = registry.entries.get(wanted.analysis)
    if entry is not None:
        _check_for(entry, wanted)
    return job


def agreed(header_key: str | None, body_key: str | None) -> str | None:
    """The idempotency key of a request, which may say it in a header, in its body, or both.

    Raises:
        Problem: they say two.
    """
    if header_key is not None and body_key not in (None, header_key):
        raise refused("idempotency_key", "the header Idempotency-Key says another one")
    return body_key or header_key


def _check_media_type(given: str | None, coding: str | None) -> None:
    header = email.message.Message()
    header["content-type"] = given or ""
    charset = str(header.get_param("charset", "utf-8")).lower()
    if given is None or header.get_content_type() != "application/json" or charset not in ("utf-8", "utf8"):
        raise Problem(WRONG_MEDIA_TYPE, "send Content-Type: application/json", headers={"Accept": "application/json"})
    if coding not in (None, "identity"):
        raise Problem(WRONG_MEDIA_TYPE, "send it without a Content-Encoding", headers={"Accept-Encoding": "identity"})


def _check_for(entry: Registered, wanted: JobRequest) -> None:
    analysis = entry.analysis
    given = {name: getattr(wanted, "schema_" if name == "schema" else name) for name in OWN_WORDS}
    for name, value in given.items():
        if value and not analysis.own_words:
            raise refused(name, f"{analysis.name} asks in its own words and takes none")
    turns = tuple(Message(turn.role, turn.content) for turn in wanted.messages or ())
    _check_content(entry, wanted.content, turns)
    ask = Ask(wanted.content, wanted.context or {}, turns, wanted.schema_, wanted.output_format)
    _check_prompt(entry, ask, wanted.prompt_version)


def _check_content(entry: Registered, content: str, turns: tuple[Message, ...]) -> None:
    size = sum(len(text.encode()) for text in (content, *(turn.content for turn in turns)))
    most = entry.analysis.max_content_bytes
    if size > most:
        raise refused("content", f"{size} bytes, and {most} is the most for {entry.analysis.name}", TOO_LARGE)
    if not content.strip() and not turns:
        raise refused("content", "is empty")
    if not content.strip() and turns[-1].role != "user":
        raise refused("messages", "without content, the last turn is the user's")


def _check_prompt(entry: Registered, ask: Ask, version: str | None) -> None:
    try:
        prompt = entry.prompts.version(version)
    except RequestError as error:
        raise refused("prompt_version", str(error)) from error
    try:
        shape = entry.analysis.shape_for(ask)
        # Whatever the content, it renders: it is fenced or printed as it is. A word of it will do.
        prompt.render("content", {**ask.context, **shape.prompt_values})
    except RequestError as error:
        field, problem = _place(str(error))
        raise refused(field, problem) from error


def _place(message: str) -> tuple[str, str]:
    """Which field a gateway's refusal speaks of: it begins with the caller's schema or format; all else is context."""
    field, colon, problem = message.partition(": ")
    return (field, problem) if colon and field in OWN_WORDS else ("context", message)
