"""A filter, in portions of any size, cancels exactly the jobs that fit it, each once, whoever is told in between."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

BEGAN = datetime.now(UTC) - timedelta(minutes=10)
"""Not long ago: a job's id is about as old as its `created_at`."""
STATES = ("scheduled", "queued", "running", "succeeded", "failed", "cancelled", "expired")
OPEN = frozenset(STATES[:3])
FEW = st.sampled_from(["a", "b"])
MINUTES = st.integers(0, 3)

JOBS = st.lists(
    st.fixed_dictionaries(
        {
            "tenant": FEW, "analysis": FEW, "provider": FEW, "source": st.none() | FEW, "subject": st.none() | FEW,
            "lane": st.sampled_from(["interactive", "bulk"]), "tags": st.lists(FEW, max_size=2, unique=True),
            "state": st.sampled_from(STATES), "minute": MINUTES,
        }
    ),
    max_size=12,
)  # fmt: skip
NAMED = st.fixed_dictionaries(
    {},
    optional={
        "tenant": FEW, "analysis": FEW, "provider": FEW, "source": FEW, "subject": FEW, "tag": FEW,
        "lane": st.sampled_from(["interactive", "bulk"]), "created_after": MINUTES, "created_before": MINUTES,
        "state": st.lists(st.sampled_from(STATES[:3]), min_size=1, unique=True),
    },
)  # fmt: skip
FILTER = NAMED.map(lambda named: named or {"all": True})

INSERT = """
INSERT INTO assayline.jobs (id, tenant, analysis, provider, source, subject, lane, tags, state, created_at, reason,
                            chain, model, max_attempts, use_cache, use_fallback, priority, not_before)
SELECT assayline.uuid7(), %(tenant)s, %(analysis)s, %(provider)s, %(source)s, %(subject)s, %(lane)s, %(tags)s::text[],
       %(state)s, %(created_at)s, 'as it was', '{a/m}', 'm', 4, true, true, 5, now() RETURNING id
"""


def fits(job: dict[str, Any], named: dict[str, Any]) -> bool:
    """What a filter means, said once more."""
    return (
        job["state"] in named.get("state", OPEN)
        and all(job[name] == named[name] for name in named.keys() & job.keys() - {"state"})
        and ("tag" not in named or named["tag"] in job["tags"])
        and job["minute"] >= named.get("created_after", 0)
        and job["minute"] < named.get("created_before", 99)
    )


def at(minute: int) -> datetime:
    return BEGAN + timedelta(minutes=minute)


@pytest.fixture
def link(database_url: str) -> Any:
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as link:
        yield link


@settings(
    max_examples=60,
    deadline=None,
    derandomize="CI" in os.environ,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(jobs=JOBS, named=FILTER, most=st.integers(1, 4))
def test_a_filter_cancels_what_fits_it_and_nothing_else(
    link: psycopg.Connection[Any], jobs: list[dict[str, Any]], named: dict[str, Any], most: int
) -> None:
    link.execute("DELETE FROM assayline.jobs")
    made = {link.execute(INSERT, {**job, "created_at": at(job["minute"])}).fetchone()["id"]: job for job in jobs}
    said = {name: at(value).isoformat() if name.startswith("created") else value for name, value in named.items()}
    meant = {job_id for job_id, job in made.items() if fits(job, named)}
    counted = link.execute("SELECT * FROM assayline_count_cancellable(%s)", (Jsonb(said),)).fetchall()
    assert sum(row["jobs"] for row in counted) == len(meant)
    after, cancelled, portions = None, 0, 0
    while portions == 0 or after is not None:
        portion = link.execute("SELECT * FROM assayline_cancel_jobs(%s, %s, %s)", (Jsonb(said), most, after)).fetchone()
        assert portion["cancelled"] <= most
        assert portion["held"] == 0
        after, cancelled, portions = portion["reached"], cancelled + portion["cancelled"], portions + 1
    assert cancelled == len(meant)
    for row in link.execute("SELECT id, state, reason, finished_at FROM assayline.jobs").fetchall():
        was = made[row["id"]]["state"]
        assert (row["state"], row["reason"]) == (
            ("cancelled", f"cancel_{was}") if row["id"] in meant else (was, "as it was")
        )
        assert (row["finished_at"] is not None) == (row["id"] in meant)
