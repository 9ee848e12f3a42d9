"""The demo's jobs: real files of this project, small enough for the small model's window and a machine's patience."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ops
from ops.cli import store
from ops.cli.wait import watch
from tasks.producer import Client, Job
from tasks.states import TERMINAL, State

if TYPE_CHECKING:
    from ops.cli.screen import Screen
    from tasks.producer import StoredJob

SOURCE = Path(ops.__file__).resolve().parents[1]
"""Where the packages lie: the checkout, or the place they are installed to."""

SERVED_WITHIN_S = 60.0
POLL_S = 0.1
SOURCE_NAME = "demo"
OPEN = [state.value for state in State if state not in TERMINAL]
MOST_LEFTOVERS = 100

# What a job needs before it can be enqueued and run: the catalog mirrored by the dispatcher, a worker's heartbeat.
SERVED = """
SELECT EXISTS (SELECT FROM assayline.catalog_analyses WHERE cardinality(chain) > 0)
   AND EXISTS (SELECT FROM assayline.workers WHERE NOT stopping
                AND heartbeat_at > clock_timestamp() - interval '20 seconds') AS served
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One job of the demo: a file below `SOURCE`, after the `question` that a completion asks of it."""

    analysis: str
    path: str
    context: dict[str, Any] = field(default_factory=dict)
    question: str = ""
    schema: dict[str, Any] | None = None

    def job(self) -> Job:
        """The job. Its lane is the analysis's: three of these wait in the bulk lane, three where a person waits."""
        content = self.question + (SOURCE / self.path).read_text(encoding="utf-8")
        return Job(self.analysis, content, context=self.context or None, schema=self.schema, source=SOURCE_NAME)


KINDS = ["application code", "database query", "documentation", "configuration"]
CLASSIFY: dict[str, Any] = {"labels": KINDS}

PURPOSE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["purpose"],
    "properties": {"purpose": {"type": "string"}},
}

SAMPLES = (
    Sample("text_classification", "tasks/sql/expire.sql", CLASSIFY),
    Sample("text_classification", "tasks/producer/README.md", CLASSIFY),
    Sample("completion", "tasks/sql/take_run.sql", question="What is this for? One sentence.\n\n", schema=PURPOSE),
    Sample("skill_extraction", "workers/app.py", {"file_path": "workers/app.py"}),
    Sample("code_quality", "ops/migrations/steps.py", {"file_path": "ops/migrations/steps.py"}),
    Sample("code_complexity", "tasks/upkeep.py", {"file_path": "tasks/upkeep.py"}),
)
"""Five analyses, in both lanes of the provider."""


class Gone(Exception):
    """The services are being stopped: there is nothing left to wait for."""


def wait_until_served(database_url: str, gone: Callable[[], bool]) -> None:
    """Return once jobs can be enqueued and somebody runs them.

    Raises:
        Gone: the services are stopped.
        TimeoutError: that did not happen within a minute.
    """
    until = time.monotonic() + SERVED_WITHIN_S
    if gone():
        raise Gone
    with store.connected(database_url) as connection:
        _drop_leftovers(connection)
        while not connection.execute(SERVED).fetchone()["served"]:  # type: ignore[index]
            if gone():
                raise Gone
            if time.monotonic() > until:
                raise TimeoutError(f"no dispatcher and worker within {SERVED_WITHIN_S:g} s")
            time.sleep(POLL_S)


def _drop_leftovers(connection: Any) -> None:
    """Cancel what a demo that was killed left behind: its jobs would run now, before ours."""
    left = store.page(
        connection, states=OPEN, tenant=None, analysis=None, provider=None, before=None, limit=MOST_LEFTOVERS
    )
    for row in left:
        if row["source"] == SOURCE_NAME:
            connection.execute("SELECT public.assayline_cancel(%s)", [row["id"]])


def run_samples(
    database_url: str, redis_url: str, screen: Screen, timeout_s: float, gone: Callable[[], bool]
) -> list[StoredJob]:
    """Enqueue all samples, show where they stand until they have ended, and return them as they stand then.

    Raises:
        Gone: the services are stopped.
    """
    jobs = (sample.job() for sample in SAMPLES)
    with Client(database_url, redis_url) as client, store.connected(database_url) as connection:
        ids = [receipt.id for receipt in client.enqueue_many(jobs)]
        names = {job_id: f"{one.analysis:<20} {one.path}" for job_id, one in zip(ids, SAMPLES, strict=True)}

        def look() -> dict[Any, Any]:
            if gone():
                raise Gone
            return store.standing(connection, ids)

        watch(ids, look, screen, timeout_s, names)
        return [client.get(job_id) for job_id in ids]
