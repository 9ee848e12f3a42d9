"""The inputs of a batch: a folder of texts, or a file of jobs as JSON lines.

A text is one job, about that file; its path travels as the job's `subject`. A line of a `.jsonl` file is one job with
the fields of `tasks.producer.Job` (`content` at least). What cannot be a job is told, never skipped in silence.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

from tasks.clock.schedule import Schedule
from tasks.producer import Job
from tasks.producer.errors import MAX_BYTES, InvalidJob
from tasks.producer.jobs import wire

MAX_INPUTS = 1_000_000
"""Most jobs of one batch: a night's work, and a bound for a folder given by mistake."""

MAX_LINE_BYTES = 2 * MAX_BYTES + 4_096
"""A line holds a content of 1 MiB and options of 1 MiB."""

JSON_LINES = (".jsonl", ".ndjson")

RESERVED = frozenset({"idempotency_key", "source", "lane", "not_before", "tenant"})
"""Fields that the schedule sets itself."""

FIELDS = frozenset(field.name for field in fields(Job)) - RESERVED


@dataclass(frozen=True, slots=True)
class Problem:
    """An input that is no job: its place (`path` or `path:line`) and why."""

    place: str
    problem: str


def inputs(schedule: Schedule) -> Iterator[Job | Problem]:
    """Yield the jobs of a schedule, in the order of their paths, and what is none. Reads files as it goes.

    The idempotency key of a job is made of the schedule's name and the whole input: what has been done one night is
    not done again (nor paid for again) another night, unless it has changed.

    Raises:
        OSError: the place itself cannot be read.
    """
    root = schedule.inputs
    found = _lines(root, root.name, schedule) if root.is_file() else _folder(schedule)
    yield from islice(found, MAX_INPUTS)
    if next(found, None) is not None:
        yield Problem(str(root), f"more than {MAX_INPUTS} inputs; the rest was left out")


def _folder(schedule: Schedule) -> Iterator[Job | Problem]:
    root = schedule.inputs
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is neither a folder nor a file")
    unread: list[OSError] = []
    for path in _files(root, unread):
        place = path.relative_to(root).as_posix()
        try:
            if path.suffix in JSON_LINES:
                yield from _lines(path, place, schedule)
            else:
                yield _text(path, place, schedule)
        except OSError as error:
            yield _unreadable(place, error)
    for refusal in unread:
        yield _unreadable(Path(refusal.filename).relative_to(root).as_posix(), refusal)


def _files(root: Path, unread: list[OSError]) -> Iterator[Path]:
    """Yield the files below a folder in a fixed order. Links are not followed: they lead out of it, or in circles.

    `unread` takes the errors of the folders below that cannot be listed.
    """
    os.scandir(root).close()
    for folder, names, files in os.walk(root, onerror=unread.append):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def _unreadable(place: str, error: OSError) -> Problem:
    return Problem(place, f"cannot be read: {type(error).__name__}")


def _text(path: Path, place: str, schedule: Schedule) -> Job | Problem:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            return Problem(place, f"longer than {MAX_BYTES} bytes (1 MiB)")
        if not content.strip():
            return Problem(place, "empty")
        return _job({"content": content.decode(), "subject": place[-500:]}, place, schedule)
    except UnicodeDecodeError as error:
        return Problem(place, f"not UTF-8 at byte {error.start}")


def _lines(path: Path, name: str, schedule: Schedule) -> Iterator[Job | Problem]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            place = f"{name}:{number}"
            if len(line) > MAX_LINE_BYTES:
                yield Problem(place, f"longer than {MAX_LINE_BYTES} bytes; the rest of the file was left out")
                return
            if line.strip():
                yield _line(line, place, schedule)


def _line(line: bytes, place: str, schedule: Schedule) -> Job | Problem:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Problem(place, f"not JSON: {error}")
    if not isinstance(given, dict):
        return Problem(place, "not a JSON object")
    foreign = sorted(given.keys() - FIELDS)
    if foreign:
        return Problem(place, f"{', '.join(foreign)}: not a field of a batch's job")
    return _job(given, place, schedule)


def _job(given: dict[str, Any], place: str, schedule: Schedule) -> Job | Problem:
    try:
        canonical = json.dumps([schedule.analysis, given], sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        job = Job(
            **{"analysis": schedule.analysis, **given},
            tenant=schedule.tenant,
            source=schedule.source,
            lane="bulk",
            idempotency_key=f"{schedule.source}:{digest}",
        )
        wire(job)
    except RecursionError:
        return Problem(place, "nested too deep")
    except (InvalidJob, TypeError, UnicodeEncodeError) as error:
        return Problem(place, str(error))
    return job
