"""What the client says to the HTTP API and what its answers mean; who carries the bytes is `http_api`'s business.

The answers are the database's own JSON, and problem documents that become the same exceptions as over SQL.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote, urlencode, urlsplit
from uuid import UUID

from .cancelling import Portion, which_json
from .errors import (
    MAX_BYTES,
    MAX_LEVELS,
    AssaylineError,
    IdempotencyConflict,
    InvalidJob,
    JobNotFound,
    NotMigrated,
    ServiceRefused,
    TooLarge,
    UnknownAnalysis,
    UnknownModel,
    WaitTimeout,
)
from .jobs import Job, wire
from .records import Receipt, StoredJob, stored_job

URN = "urn:assayline:problem:"
JOBS = "/v1/jobs"
CANCELLATIONS = "/v1/cancellations"
HTTP_BAD = 400
"""From here on a status says that it was not done."""

LONGEST_WAIT_S = 60
"""The service's own bound of one wait."""

PAUSE_S = 0.5
"""Pause before asking again where the service answered before its time: it is being restarted."""

MAX_ANSWER_BYTES = 64 * 1_048_576
"""Longest answer that is read. A job's is a few KiB; its raw text may be long, but no model writes so much."""


class Ask(NamedTuple):
    """One request. `wait_s`: how long its answer may be kept back on purpose."""

    method: str
    path: str
    body: bytes | None = None
    wait_s: int = 0


class Said(NamedTuple):
    """One answer."""

    status: int
    retry_after: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Service:
    """Where the API is, and with which key."""

    secure: bool
    host: str
    port: int
    prefix: str
    headers: Mapping[str, str]

    @classmethod
    def at(cls, url: str, api_key: str | None) -> Service:
        """Read a URL, `http://host:port` or `https://…`, perhaps with a path before `/v1`.

        Raises:
            AssaylineError: it names no host, or the key is missing or no plain ASCII.
        """
        parts = urlsplit(url)
        if not parts.hostname:
            raise AssaylineError("no host in the service's URL: it is written http://host:port")
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise AssaylineError("over HTTP the client needs api_key: the service's ASSAYLINE_API_KEY")
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json", "Connection": "close"}
        return cls(secure, parts.hostname, port, parts.path.rstrip("/"), headers)


def is_service(url: str | None) -> bool:
    """Whether a URL is of the HTTP API, not of a database."""
    return url is not None and url.startswith(("http://", "https://"))


def enqueue_ask(job: Job) -> Ask:
    """Hand one job over.

    Raises:
        InvalidJob: see `jobs.wire`.
    """
    wired = wire(job)
    head = json.dumps({"analysis": wired.analysis, "content": wired.content.decode()}, ensure_ascii=False)
    # Both are objects already: joined where one ends and the other begins.
    rest = b"}" if wired.options == b"{}" else b"," + wired.options[1:]
    return Ask("POST", JOBS, head.encode()[:-1] + rest)


def get_ask(job_id: UUID, tenant: str | None, wait_s: int = 0) -> Ask:
    """Look at a job, or wait up to `wait_s` seconds for its end."""
    query = {**({"wait": str(wait_s)} if wait_s else {}), **_of(tenant)}
    return Ask("GET", f"{JOBS}/{job_id}{_query(query)}", wait_s=wait_s)


def cancel_ask(job_id: UUID, tenant: str | None) -> Ask:
    """Cancel a job."""
    return Ask("POST", f"{JOBS}/{job_id}/cancel{_query(_of(tenant))}", b"")


def cancel_many_ask(which: Mapping[str, Any], after: str | None, *, dry_run: bool = False) -> Ask:
    """Cancel jobs by filter, from where the request before has come to; or count them.

    Raises:
        InvalidJob: see `cancelling.which_json`.
    """
    rest = {**({} if after is None else {"cursor": after}), **({"dry_run": True} if dry_run else {})}
    body = {**json.loads(which_json(which)), **rest}
    return Ask("POST", CANCELLATIONS, json.dumps(body, ensure_ascii=False).encode())


def receipt_of(said: Said, item: int = 0) -> Receipt:
    """Read the answer to `enqueue_ask`; raises what `checked` does, with the job's place in it."""
    try:
        found = checked(said, None)
    except (InvalidJob, IdempotencyConflict) as error:
        error.item = item if error.item is None else error.item
        raise
    return Receipt(item, UUID(found["id"]), bool(found["created"]))


def job_of(said: Said, job_id: UUID) -> StoredJob:
    """Read the answer to `get_ask`."""
    checked(said, job_id)
    return stored_job([[said.body]], job_id)


def state_of(said: Said, job_id: UUID) -> str:
    """Read the answer to `cancel_ask`."""
    return str(checked(said, job_id)["state"])


def portion_from(said: Said) -> Portion:
    """Read the answer to `cancel_many_ask`."""
    found = checked(said, None)
    return Portion(found["cancelled"], found["running"], found["held"], found["next"])


def cancellable_from(said: Said) -> dict[str, int]:
    """Read the answer to `cancel_many_ask` with `dry_run`."""
    found = checked(said, None)["matching"]
    return {str(state): int(jobs) for state, jobs in found.items()}


def checked(said: Said, job_id: UUID | None) -> dict[str, Any]:
    """Read an answer's JSON object.

    Raises:
        AssaylineError: it is a problem, or none of the service's answers at all.
    """
    try:
        found = json.loads(said.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ServiceRefused(said.status, "not-assayline", "the answer is not Assayline's: is the URL right?", None)
    if said.status >= HTTP_BAD:
        _raise(said, found, job_id)
    return found


def _raise(said: Said, problem: Mapping[str, Any], job_id: UUID | None) -> NoReturn:
    name = str(problem.get("type", "")).removeprefix(URN)
    make = _ERRORS.get(name)
    if make is not None and (name != "no-such-job" or job_id is not None):
        raise make(problem, job_id)
    retry_after_s = float(said.retry_after) if said.retry_after and said.retry_after.isdigit() else None
    raise ServiceRefused(said.status, name, str(problem.get("detail", "")), retry_after_s)


def _first(problem: Mapping[str, Any]) -> tuple[str, str]:
    """The first field that is wrong, and what is wrong with it."""
    errors = problem.get("errors") or [{}]
    return str(errors[0].get("field", "options")), str(errors[0].get("problem", problem.get("detail", "")))


def _invalid(problem: Mapping[str, Any], _: UUID | None) -> AssaylineError:
    field, words = _first(problem)
    return TooLarge(field, words, limit=MAX_LEVELS) if "levels" in words else InvalidJob(field, words)


def _conflict(problem: Mapping[str, Any], _: UUID | None) -> AssaylineError:
    held_by = problem.get("job_id")
    return IdempotencyConflict(str(problem.get("detail", "")), UUID(held_by) if held_by else None)


_ERRORS: Mapping[str, Callable[[Mapping[str, Any], UUID | None], AssaylineError]] = {
    "invalid": _invalid,
    "unknown-analysis": lambda problem, _: UnknownAnalysis(*_first(problem)),
    "unknown-model": lambda problem, _: UnknownModel(*_first(problem)),
    "too-large": lambda problem, _: TooLarge(*_first(problem), limit=MAX_BYTES),
    "idempotency-conflict": _conflict,
    "no-such-job": lambda _, job_id: JobNotFound(job_id or UUID(int=0)),
    "not-migrated": lambda problem, _: NotMigrated(str(problem.get("detail", ""))),
}


class Turns:
    """The asking of one `wait`: how long the next answer may be kept back, and how long to pause before it."""

    def __init__(self, job_id: UUID, timeout_s: float, now: float) -> None:
        self._job_id = job_id
        self._timeout_s = timeout_s
        self._until = now + timeout_s
        self._asked_at = now
        self._asked_s = 0

    def wait_s(self, now: float) -> int:
        """Whole seconds that the service may keep the next answer back."""
        self._asked_at = now
        self._asked_s = max(0, min(LONGEST_WAIT_S, int(self._until - now)))
        return self._asked_s

    def pause_s(self, now: float, state: str) -> float:
        """Seconds to pause after an answer that said `state`.

        Raises:
            WaitTimeout: the time is up.
        """
        left = self._until - now
        if left <= 0:
            raise WaitTimeout(self._job_id, self._timeout_s, state)
        answered_early = now - self._asked_at < self._asked_s
        return min(PAUSE_S, left) if answered_early or not self._asked_s else 0.0


def _of(tenant: str | None) -> dict[str, str]:
    return {} if tenant is None else {"tenant": tenant}


def _query(given: Mapping[str, str]) -> str:
    return f"?{urlencode(given, quote_via=quote)}" if given else ""
