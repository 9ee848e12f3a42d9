"""Any sequence of enqueues and batches: one job for each (tenant, key), a conflict exactly where requests differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.producer import Client, IdempotencyConflict, Job, JobFields, Receipt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

Connection = psycopg.Connection[Any]
Owner = tuple[str, str]


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO assayline.catalog_models VALUES ('one/small')")
        for name in "ab":
            connection.execute("INSERT INTO assayline.catalog_analyses VALUES (%s, '{one/small}', 'bulk', 3)", (name,))
        yield connection


def job(analysis: str, content: str, key: str | None, tenant: str | None, context: dict[str, Any] | None) -> Job:
    return Job(analysis, content, idempotency_key=key, tenant=tenant, context=context)


JOBS = st.builds(
    job,
    analysis=st.sampled_from("ab"),
    content=st.sampled_from(["x", "y"]),
    key=st.sampled_from([None, "k", "K", "k "]),
    tenant=st.sampled_from([None, "default", "acme"]),
    context=st.sampled_from([None, {"n": 1, "m": 2}, {"m": 2, "n": 1}, {"n": 2}]),
)
STEPS = st.lists(st.one_of(JOBS, st.lists(JOBS, max_size=6)), max_size=8)


def request_of(job: Job) -> tuple[Any, ...]:
    """What makes two requests the same, in the words of the model: all but the key, JSON's order of names aside."""
    context = None if job.context is None else tuple(sorted(job.context.items()))
    return job.analysis, job.content, job.tenant or "default", context


@dataclass
class Model:
    """What ought to be in the database."""

    owners: dict[Owner, tuple[UUID | None, tuple[Any, ...]]]
    jobs: int = 0

    def conflict(self, batch: list[Job]) -> int | None:
        """The first place of the batch at which a key meets another request."""
        known = {owner: request for owner, (_, request) in self.owners.items()}
        for place, job in enumerate(batch):
            if job.idempotency_key is None:
                continue
            owner = (job.tenant or "default", job.idempotency_key)
            if known.setdefault(owner, request_of(job)) != request_of(job):
                return place
        return None

    def accept(self, job: Job, job_id: UUID, created: bool) -> None:
        if job.idempotency_key is None:
            assert created
            self.jobs += 1
            return
        owner = (job.tenant or "default", job.idempotency_key)
        assert created is (owner not in self.owners)
        self.jobs += created
        assert self.owners.setdefault(owner, (job_id, request_of(job)))[0] == job_id


def count(connection: Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM assayline.{table}").fetchone()
    assert row is not None
    return int(row[0])


def send(client: Client, connection: Connection, step: Job | list[Job]) -> list[Receipt]:
    """Through the door for many, or the door for one."""
    if isinstance(step, list):
        return list(client.enqueue_many(step, connection=connection))
    fields: JobFields = {
        "idempotency_key": step.idempotency_key, "tenant": step.tenant, "context": step.context,
    }  # fmt: skip
    return [client.enqueue(step.analysis, step.content, connection=connection, **fields)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_one_job_for_each_key_and_a_conflict_where_requests_differ(connection: Connection, steps: list[Any]) -> None:
    connection.execute("TRUNCATE assayline.jobs, assayline.job_contents, assayline.idempotency_keys")
    client, model = Client(), Model({})
    for step in steps:
        batch = step if isinstance(step, list) else [step]
        clash = model.conflict(batch)
        if clash is not None:
            with pytest.raises(IdempotencyConflict) as conflict:
                send(client, connection, step)
            assert (conflict.value.item or 0) == clash
            continue
        for request, receipt in zip(batch, send(client, connection, step), strict=True):
            model.accept(request, receipt.id, receipt.created)
    assert count(connection, "jobs") == count(connection, "job_contents") == model.jobs
    assert count(connection, "idempotency_keys") == len(model.owners)
