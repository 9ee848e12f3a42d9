"""Everything the client raises of its own, and how a refusal of the database becomes one of them.

    AssaylineError
    ├── InvalidJob             a field cannot be accepted                       field, problem, item
    │   ├── UnknownAnalysis    no analysis of this name
    │   ├── UnknownModel       the model or provider is not configured
    │   └── TooLarge           more bytes, or deeper, than is taken             limit
    ├── IdempotencyConflict    the key was used for another request             job_id, item
    ├── JobNotFound            no such job, or not of this tenant               job_id
    ├── WaitTimeout            it had not ended when the time was up            job_id, timeout_s, state
    ├── NotMigrated            the database lacks Assayline's functions
    ├── ServiceRefused         the HTTP service would not, or could not         status, kind, retry_after_s
    ├── DriverMissing          an optional package is not installed             package
    └── UnsupportedConnection  a connection of a kind the client cannot use

`item` is the place in `enqueue_many`'s iterable, from 0; None for a single job. Faults of the connection itself are
not translated: they come as the driver's own exceptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

MAX_BYTES = 1_048_576
"""Most bytes of UTF-8 in a content, or in all options of a job together. `0002_enqueue.up.sql` has the same."""

MAX_LEVELS = 32
"""Deepest nesting inside one option. `0002_enqueue.up.sql` has the same."""


class AssaylineError(Exception):
    """Root of the tree."""


class InvalidJob(AssaylineError, ValueError):
    """A field cannot be accepted. `field` names it, `problem` says why, in words for a developer."""

    def __init__(self, field: str, problem: str, item: int | None = None) -> None:
        super().__init__(field, problem, item)
        self.field = field
        self.problem = problem
        self.item = item

    def __str__(self) -> str:
        place = "" if self.item is None else f"item {self.item}: "
        return f"{place}{self.field}: {self.problem}"


class UnknownAnalysis(InvalidJob):
    """No analysis of this name is known, or no configured provider serves it."""


class UnknownModel(InvalidJob):
    """The model or provider is not in the catalog of configured providers."""


class TooLarge(InvalidJob):
    """More than is taken: `limit` bytes, or `limit` levels of nesting."""

    def __init__(self, field: str, problem: str, item: int | None = None, *, limit: int = MAX_BYTES) -> None:
        super().__init__(field, problem, item)
        self.limit = limit


class IdempotencyConflict(AssaylineError):
    """The idempotency key has brought another request before: job `job_id`."""

    def __init__(self, message: str, job_id: UUID | None, item: int | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.item = item


class JobNotFound(AssaylineError, LookupError):
    """There is no job of this id, or it belongs to another tenant."""

    def __init__(self, job_id: UUID) -> None:
        super().__init__(f"no job {job_id}")
        self.job_id = job_id


class WaitTimeout(AssaylineError, TimeoutError):
    """The job had not ended after `timeout_s` seconds; it stood in `state`. It goes on regardless."""

    def __init__(self, job_id: UUID, timeout_s: float, state: str) -> None:
        super().__init__(f"job {job_id} is still {state} after {timeout_s:g} s")
        self.job_id = job_id
        self.timeout_s = timeout_s
        self.state = state


class NotMigrated(AssaylineError):
    """The database has no Assayline, or an older one."""


class ServiceRefused(AssaylineError):
    """The HTTP service answered and did not do it: a wrong key, Postgres away, a fault of its own.

    `kind` is the last part of its problem's type (`unauthorized`, `store-away` …), `retry_after_s` when to come again.
    """

    def __init__(self, status: int, kind: str, detail: str, retry_after_s: float | None) -> None:
        super().__init__(f"{status} {kind}: {detail}")
        self.status = status
        self.kind = kind
        self.retry_after_s = retry_after_s


class DriverMissing(AssaylineError, ImportError):
    """The optional package `package` is needed for this and is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'assayline-client[{package}]'")
        self.package = package


class UnsupportedConnection(AssaylineError, TypeError):
    """The client cannot enqueue over a connection of this kind."""


_REFUSAL = re.compile(r"(?:item (?P<item>\d+): )?(?P<field>\w+): (?P<problem>.*)", re.DOTALL)
_JOB = re.compile(r"\(job ([0-9a-f-]{36})\)")
_MISSING = frozenset({"42883", "3F000", "42P01"})
"""undefined_function, invalid_schema_name, undefined_table."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn the database's refusals inside the block into this tree, the driver's exception kept as the cause."""
    try:
        yield
    except AssaylineError:
        raise
    except Exception as error:
        known = from_database(error)
        if known is None:
            raise
        raise known from error


def from_database(error: BaseException) -> AssaylineError | None:
    """Read a driver's exception; None where it is no refusal of ours."""
    sqlstate, message = _facts(error)
    if sqlstate in _MISSING and "assayline" in message:
        return NotMigrated(f"{message}. Run `assayline migrate` against this database.")
    match = _REFUSAL.match(message)
    if sqlstate is None or match is None:
        # Class 22, data exception: text that PostgreSQL's json does not take, past what the client checks.
        return InvalidJob("options", message) if sqlstate and sqlstate.startswith("22") else None
    item = int(match["item"]) if match["item"] else None
    return _refusal(sqlstate, match["field"], match["problem"], item)


def _refusal(sqlstate: str, field: str, problem: str, item: int | None) -> AssaylineError | None:
    match sqlstate:
        case "AL001":
            return (UnknownAnalysis if field == "analysis" else UnknownModel)(field, problem, item)
        case "AL002":
            return InvalidJob(field, problem, item)
        case "AL003":
            return TooLarge(field, problem, item, limit=MAX_LEVELS if "levels" in problem else MAX_BYTES)
        case "AL409":
            job = _JOB.findall(problem)
            return IdempotencyConflict(f"{field}: {problem}", UUID(job[-1]) if job else None, item)
        case _:
            return InvalidJob("options", f"{field}: {problem}", item) if sqlstate.startswith("22") else None


def _facts(error: BaseException) -> tuple[str | None, str]:
    """SQLSTATE and message of the innermost exception that has one (SQLAlchemy wraps the driver's, asyncpg's twice)."""
    found: tuple[str | None, str] = (None, str(error))
    seen: BaseException | None = error
    while seen is not None:
        sqlstate = getattr(seen, "sqlstate", None) or getattr(seen, "pgcode", None)
        if sqlstate:
            found = (sqlstate, _message(seen))
        seen = getattr(seen, "orig", None) or seen.__cause__
    return found


def _message(error: Any) -> str:
    """The server's sentence: psycopg and psycopg2 keep it in `diag`, asyncpg in `message`."""
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    return str(primary or getattr(error, "message", None) or error)
