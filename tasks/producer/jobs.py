"""What a job is to its producer, and how it is written for the database.

Only what cannot be sent, or would arrive as something else, is judged here (text, JSON, size, depth). What an option
may hold is judged by `assayline_enqueue`, once, for clients of all languages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from .errors import MAX_BYTES, MAX_LEVELS, InvalidJob, TooLarge

Json = Any


class JobFields(TypedDict, total=False):
    """The options of a job, as keywords; `Job` says what each means."""

    context: Mapping[str, Json] | None
    messages: Sequence[Mapping[str, str]] | None
    tenant: str | None
    subject: str | None
    source: str | None
    lane: str | None
    priority: int | None
    provider: str | None
    model: str | None
    chain: Sequence[str] | None
    prompt_version: str | None
    output_format: str | None
    schema: Mapping[str, Json] | None
    max_tokens: int | None
    temperature: float | None
    max_cost_usd: Decimal | float | str | None
    max_attempts: int | None
    use_cache: bool | None
    use_fallback: bool | None
    not_before: datetime | str | None
    deadline_at: datetime | str | None
    expires_at: datetime | str | None
    idempotency_key: str | None
    tags: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Job:
    """One request. None everywhere means: as the analysis and the catalog have it.

    content: text of at most 1 MiB of UTF-8 (bytes are taken if they are valid UTF-8).
    context: values for the prompt's variables; messages: a conversation, each {"role", "content"}.
    tenant, subject, source: whose job, about whom, from which service.
    lane: interactive or bulk; priority: 0 (first) to 9 (last).
    provider, model, chain: where it may run; a model is written provider/model, a chain is a list of them.
    schema, output_format, prompt_version, max_tokens, temperature: how the question is put.
    max_cost_usd, max_attempts, use_cache, use_fallback: what it may cost and how it may get there.
    not_before, deadline_at, expires_at: times with an offset.
    idempotency_key: the same key and request again is the same job; with another request it is refused.
    """

    analysis: str
    content: str | bytes
    context: Mapping[str, Json] | None = None
    messages: Sequence[Mapping[str, str]] | None = None
    tenant: str | None = None
    subject: str | None = None
    source: str | None = None
    lane: str | None = None
    priority: int | None = None
    provider: str | None = None
    model: str | None = None
    chain: Sequence[str] | None = None
    prompt_version: str | None = None
    output_format: str | None = None
    schema: Mapping[str, Json] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    max_cost_usd: Decimal | float | str | None = None
    max_attempts: int | None = None
    use_cache: bool | None = None
    use_fallback: bool | None = None
    not_before: datetime | str | None = None
    deadline_at: datetime | str | None = None
    expires_at: datetime | str | None = None
    idempotency_key: str | None = None
    tags: Sequence[str] | None = None


OPTIONS = tuple(field.name for field in fields(Job))[2:]
"""The names of a job's options: all fields but `analysis` and `content`."""

_option_values = attrgetter(*OPTIONS)


class Wire(NamedTuple):
    """A job as it is sent: checked, the texts in UTF-8, the options as JSON."""

    analysis: str
    content: bytes
    options: bytes


def wire(job: Job) -> Wire:
    """Check a job and write it for the database.

    Raises:
        InvalidJob: a field is no text, no JSON, or holds what PostgreSQL's text cannot (U+0000, lone surrogates).
        TooLarge: more than 1 MiB, or nested deeper than 32 levels.
    """
    _utf8("analysis", job.analysis)
    content = _utf8("content", job.content)
    if len(content) > MAX_BYTES:
        raise TooLarge("content", f"{len(content)} bytes, and {MAX_BYTES} (1 MiB) is the most")
    options = {name: value for name, value in zip(OPTIONS, _option_values(job), strict=True) if value is not None}
    return Wire(job.analysis, content, _options(options))


def _utf8(field: str, text: str | bytes) -> bytes:
    if isinstance(text, str):
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise InvalidJob(field, f"has a lone surrogate at character {error.start}: not text") from error
    elif isinstance(text, bytes) and field == "content":
        data = _checked_bytes(text)
    else:
        raise InvalidJob(field, f"must be text, not {type(text).__name__}")
    if b"\0" in data:
        raise InvalidJob(field, "has U+0000, which PostgreSQL cannot store")
    return data


def _checked_bytes(data: bytes) -> bytes:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise InvalidJob("content", f"is not UTF-8 at byte {error.start}: decode it first") from error
    return data


def _options(options: dict[str, Json]) -> bytes:
    try:
        text = _encode(options)
        data = text.encode()
    except (TypeError, ValueError, RecursionError):
        _blame(options)
        raise
    if len(data) > MAX_BYTES:
        raise TooLarge("options", f"{len(data)} bytes, and {MAX_BYTES} (1 MiB) is the most")
    if text.count("{") + text.count("[") > MAX_LEVELS or "\\u0000" in text:
        _blame(options)  # it may be innocent: brackets side by side, a written-out escape
    return data


def _plain(value: Json) -> Json:
    """What json itself does not know: times, money, ids, read-only mappings and sequences."""
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ValueError("a time without an offset: make it aware, such as datetime.now(UTC)")
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode


def _blame(options: dict[str, Json]) -> None:
    """Find the option that cannot be sent, and raise for it by name."""
    for name, value in options.items():
        try:
            text = _encode(value)
            text.encode()
            plain = json.loads(text)
        except RecursionError as error:
            raise _too_deep(name) from error
        except UnicodeEncodeError as error:
            raise InvalidJob(name, "has a lone surrogate: not text") from error
        except (TypeError, ValueError) as error:
            raise InvalidJob(name, str(error)) from error
        if _deeper_than(plain, MAX_LEVELS):
            raise _too_deep(name)
        if _has_nul(plain):
            raise InvalidJob(name, "has U+0000, which PostgreSQL cannot store")


def _too_deep(field: str) -> TooLarge:
    return TooLarge(field, f"nested deeper than {MAX_LEVELS} levels", limit=MAX_LEVELS)


def _children(value: Json) -> list[Json]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _deeper_than(value: Json, levels: int) -> bool:
    layer = [value]
    for _ in range(levels + 1):
        layer = [child for node in layer for child in _children(node)]
        if not layer:
            return False
    return True


def _has_nul(value: Json) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict) and any("\0" in key for key in value):
        return True
    return any(_has_nul(child) for child in _children(value))
