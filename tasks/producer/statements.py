"""The statements the client sends, and how a batch is cut into chunks and written as COPY text.

Placeholders are `%s`; a link rewrites them for a driver that wants others. Parameters and results are text, so that no
driver's own idea of uuid or jsonb comes between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from uuid import UUID

from .errors import InvalidJob
from .jobs import Job, Wire, wire

ENQUEUE = "SELECT 0, job_id::text, created FROM public.assayline_enqueue(%s::text, %s::text, %s::text::jsonb, 1)"
STAGE = "SELECT public.assayline_stage()::text"
STAGE_COPY = (
    "COPY pg_temp.assayline_staging (ord, analysis, content, options) FROM STDIN WITH (FORMAT text, ENCODING 'UTF8')"
)
STAGE_INSERT = (
    "INSERT INTO pg_temp.assayline_staging (ord, analysis, content, options)"
    " VALUES (%s::bigint, %s::text, %s::text, %s::text::jsonb)"
)
ENQUEUE_STAGED = "SELECT ord, job_id::text, created FROM public.assayline_enqueue_staged(1)"
GET = "SELECT public.assayline_get(%s::text::uuid, %s::text)::text"
CANCEL = "SELECT public.assayline_cancel(%s::text::uuid, %s::text)"
CANCEL_JOBS = (
    "SELECT cancelled, running, held, reached::text"
    " FROM public.assayline_cancel_jobs(%s::text::jsonb, %s::integer, %s::text::uuid)"
)
COUNT_CANCELLABLE = "SELECT state, jobs FROM public.assayline_count_cancellable(%s::text::jsonb)"

CHUNK_ROWS = 2_000
"""Jobs per chunk: by then the cost of a transaction is spread thin (measured: 3 of 65 µs per job)."""

CHUNK_BYTES = 8 * 1_048_576
"""A chunk is closed once it holds this much, so that a stream of large contents stays small in memory."""

Params = tuple[str | int | None, ...]


def enqueue_params(job: Job) -> Params:
    """The parameters of ENQUEUE.

    Raises:
        InvalidJob: see `jobs.wire`.
    """
    wired = wire(job)
    return wired.analysis, wired.content.decode(), wired.options.decode()


def lookup_params(job_id: UUID, tenant: str | None) -> Params:
    """The parameters of GET and CANCEL."""
    return str(job_id), tenant


@dataclass(slots=True)
class Chunk:
    """Checked jobs that go to the database together, from place `first` of the whole batch on."""

    first: int
    rows: list[Wire] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, row: Wire) -> bool:
        """Append one job; say whether the chunk is full now."""
        self.rows.append(row)
        self.size_bytes += len(row.content) + len(row.options)
        return len(self.rows) >= CHUNK_ROWS or self.size_bytes >= CHUNK_BYTES

    def copy_text(self) -> bytes:
        """The chunk in COPY's text format."""
        return b"".join(map(_copy_line, count(self.first), self.rows))

    def params(self) -> Iterator[Params]:
        """The chunk as parameters of STAGE_INSERT, row by row."""
        for ord_, row in enumerate(self.rows, self.first):
            yield ord_, row.analysis, row.content.decode(), row.options.decode()


class Chunker:
    """Gathers jobs into chunks; the caller moves the iterable, whichever colour it has."""

    def __init__(self) -> None:
        self._open = Chunk(0)

    def add(self, job: Job) -> Chunk | None:
        """Take one job; return the chunk that it filled.

        Raises:
            InvalidJob: the job cannot be sent; `item` is its place. Jobs of the open chunk are not sent either.
        """
        place = self._open.first + len(self._open.rows)
        try:
            full = self._open.add(wire(job))
        except InvalidJob as error:
            error.item = place
            raise
        return self._turn() if full else None

    def rest(self) -> Chunk | None:
        """The last chunk, if there is one."""
        return self._turn() if self._open.rows else None

    def _turn(self) -> Chunk:
        done, self._open = self._open, Chunk(self._open.first + len(self._open.rows))
        return done


def _copy_line(ord_: int, row: Wire) -> bytes:
    # Encoded JSON has no raw control character: only its backslashes need doubling.
    options = row.options.replace(b"\\", b"\\\\")
    return b"%d\t%b\t%b\t%b\n" % (ord_, _escaped(row.analysis.encode()), _escaped(row.content), options)


def _escaped(text: bytes) -> bytes:
    """COPY's text format: https://www.postgresql.org/docs/current/sql-copy.html (File Formats, Text Format)."""
    return text.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\t", b"\\t").replace(b"\r", b"\\r")
