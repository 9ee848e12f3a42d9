"""The client for sync programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Unpack
from uuid import UUID

from .cancelling import PORTION, Cancelled, Walk, Which, portion_of, which_json
from .ears import Ear
from .errors import AssaylineError, translated
from .http_words import Service, is_service
from .jobs import Job, JobFields
from .links import Link, PsycopgLink, link_for
from .receipts import Receipts
from .records import Receipt, StoredJob, as_id, receipts, state_after_cancel, stored_job
from .shelf import Shelf, libpq_url, psycopg_module, reusable
from .statements import (
    CANCEL,
    CANCEL_JOBS,
    COUNT_CANCELLABLE,
    ENQUEUE,
    ENQUEUE_STAGED,
    GET,
    STAGE,
    Chunk,
    Chunker,
    enqueue_params,
    lookup_params,
)
from .watch import Watch, no_sentinels, redis_module, redis_settings

if TYPE_CHECKING:
    from .http_api import HttpApi


class Client:
    """Hands jobs over to Assayline and asks after them. Safe to share between threads.

    Args:
        database_url: `postgresql://…`, for connections of its own (needs psycopg). Not needed where every call brings
            its `connection`. Or the HTTP service's URL, `http://host:port`: then calls without a `connection` go there,
            each job of `enqueue_many` is a transaction of its own, and `redis_url` is not needed.
        api_key: the HTTP service's key.
        redis_url: `redis://…`, so that `wait` hears of a job's end at once (needs redis-py). Else it polls Postgres.
            For Sentinels give a client as `redis`.
        redis: a client of redis-py's shape in its place; it stays the caller's.

    Each call takes `connection`: the caller's own DB-API connection (psycopg, psycopg2, others with `%s`), SQLAlchemy
    Connection or Session, or Django connection. The job is then part of the caller's transaction.
    """

    def __init__(
        self,
        database_url: str | None = None,
        redis_url: str | None = None,
        *,
        redis: Any = None,
        api_key: str | None = None,
    ) -> None:
        self._database_url = database_url
        self._http = _service(database_url, api_key) if is_service(database_url) else None
        self._redis = redis
        self._own_redis = _redis_client(redis_url) if redis is None and redis_url else None
        self._shelf: Shelf[Any] = Shelf()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that the client opened itself."""
        for connection in self._shelf.clear():
            connection.close()
        if self._own_redis is not None:
            self._own_redis.close()

    def enqueue(
        self, analysis: str, content: str | bytes, *, connection: Any = None, **fields: Unpack[JobFields]
    ) -> Receipt:
        """Enqueue one job; `Job` says what the fields mean.

        Raises:
            InvalidJob: a field is refused; IdempotencyConflict: the key was used for another request.
        """
        if self._http is not None and connection is None:
            return self._http.enqueue(Job(analysis, content, **fields))
        params = enqueue_params(Job(analysis, content, **fields))
        with self._link(connection) as link:
            return receipts(link.fetch(ENQUEUE, params))[0]

    def enqueue_many(self, jobs: Iterable[Job], *, connection: Any = None) -> Receipts:
        """Enqueue any number of jobs, in chunks, as the result is iterated.

        An iterator that nobody reads enqueues nothing, and says so with a RuntimeWarning.

        Each chunk is one transaction (a part of the caller's, with `connection`). When a job is refused, chunks whose
        receipts came out before are in, and nothing else is.

        Raises:
            InvalidJob, IdempotencyConflict: `item` is the place of the refused job in `jobs`, from 0.
        """
        if self._http is not None and connection is None:
            return Receipts(self._http.enqueue_many(jobs))
        return Receipts(self._sending(jobs, connection))

    def _sending(self, jobs: Iterable[Job], connection: Any) -> Iterator[Receipt]:
        chunker = Chunker()
        for job in jobs:
            if chunk := chunker.add(job):
                yield from self._send(chunk, connection)
        if chunk := chunker.rest():
            yield from self._send(chunk, connection)

    def _send(self, chunk: Chunk, connection: Any) -> list[Receipt]:
        with self._link(connection) as link, link.atomic():
            link.fetch(STAGE)
            link.stage(chunk)
            return receipts(link.fetch(ENQUEUE_STAGED))

    def get(self, job_id: UUID | str, *, tenant: str | None = None, connection: Any = None) -> StoredJob:
        """A job as it stands, with its result and ledger.

        Raises:
            JobNotFound: there is none, or it is not of this `tenant`.
        """
        wanted = as_id(job_id)
        if self._http is not None and connection is None:
            return self._http.get(wanted, tenant)
        with self._link(connection) as link:
            return stored_job(link.fetch(GET, lookup_params(wanted, tenant)), wanted)

    def cancel(self, job_id: UUID | str, *, tenant: str | None = None, connection: Any = None) -> str:
        """Cancel a job that has not ended; return the state that it is in then.

        Raises:
            JobNotFound: there is none, or it is not of this `tenant`.
        """
        wanted = as_id(job_id)
        if self._http is not None and connection is None:
            return self._http.cancel(wanted, tenant)
        with self._link(connection) as link:
            return state_after_cancel(link.fetch(CANCEL, lookup_params(wanted, tenant)), wanted)

    def cancel_many(
        self, *, on_portion: Callable[[Cancelled], object] | None = None, connection: Any = None, **which: Unpack[Which]
    ) -> Cancelled:
        """Cancel all jobs that a filter means, in portions; `on_portion` hears after each how many it is so far.

        Each portion is a transaction of its own: what is done is done, whatever comes after it. With `connection` all
        are part of the caller's, which holds the rows of all its jobs until it ends.

        Raises:
            InvalidJob: the filter names nothing, or something that no job has.
        """
        if self._http is not None and connection is None:
            return self._http.cancel_many(which, on_portion)
        wanted, walk = which_json(which), Walk(one_go=connection is not None)
        while not walk.done:
            with self._link(connection) as link:
                pause_s = walk.took(portion_of(link.fetch(CANCEL_JOBS, (wanted, PORTION, walk.after))))
            if on_portion is not None:
                on_portion(walk.so_far)
            time.sleep(pause_s)
        return walk.so_far

    def cancellable(self, *, connection: Any = None, **which: Unpack[Which]) -> dict[str, int]:
        """How many jobs `cancel_many` would cancel, by the states that they are in.

        Raises:
            InvalidJob: see `cancel_many`.
        """
        if self._http is not None and connection is None:
            return self._http.cancellable(which)
        with self._link(connection) as link:
            return {row[0]: row[1] for row in link.fetch(COUNT_CANCELLABLE, (which_json(which),))}

    def wait(
        self, job_id: UUID | str, timeout_s: float = 60.0, *, tenant: str | None = None, connection: Any = None
    ) -> StoredJob:
        """Wait until a job has ended, and return it. A job that failed is returned, not raised: look at its `state`.

        Raises:
            WaitTimeout: it had not ended after `timeout_s` seconds.
            JobNotFound: there is none, or it is not of this `tenant`.
        """
        wanted = as_id(job_id)
        if self._http is not None and connection is None:
            return self._http.wait(wanted, timeout_s, tenant)
        watch = Watch(wanted, timeout_s, time.monotonic())
        with Ear(self._redis or self._own_redis, wanted) as ear:
            while not (job := self.get(wanted, tenant=tenant, connection=connection)).ended:
                ear.listen(watch.pause_s(time.monotonic(), job.state, hearing=ear.hearing))
        return job

    @contextmanager
    def _link(self, given: Any) -> Iterator[Link]:
        with translated():
            if given is not None:
                yield link_for(given)
                return
            connection = self._connection()
            try:
                yield PsycopgLink(connection)
            finally:
                if not (reusable(connection) and self._shelf.put(connection, time.monotonic())):
                    connection.close()

    def _connection(self) -> Any:
        kept, stale = self._shelf.take(time.monotonic())
        for connection in stale:
            connection.close()
        if kept is not None:
            return kept
        if self._database_url is None:
            raise AssaylineError("no database: give Client a database_url, or this call a connection")
        return psycopg_module().connect(libpq_url(self._database_url), autocommit=True)


def _service(url: str | None, api_key: str | None) -> HttpApi:
    from .http_api import HttpApi

    return HttpApi(Service.at(str(url), api_key))


def _redis_client(url: str) -> Any:
    redis = redis_module()
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(no_sentinels(url), **redis_settings(Retry(NoBackoff(), 0)))
