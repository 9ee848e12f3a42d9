"""The whole way of the nightly batch: two real beats, two real workers, a dispatcher; each input one job, once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

DEADLINE_S = 60.0
INPUTS = 12
ITS_OWN_CLOCK = """
from celery.schedules import schedule
TICKS = {"schedules": schedule(0.2)}
SCHEDULES = {
    "nightly": {
        "analysis": "skill_extraction",
        "inputs_env": "ASSAYLINE_NIGHTLY_INPUTS",
        "opens": "00:00",
        "closes": "00:00",
    },
}
"""
"""As `beat_schedule.py`, but five ticks a second and open all day."""


def rows(database_url: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as connection:
        return connection.execute(query).fetchall()


def until(database_url: str, query: str, wanted: int) -> None:
    give_up_at = time.monotonic() + DEADLINE_S
    while (found := rows(database_url, query)[0]["n"]) != wanted:
        assert time.monotonic() < give_up_at, f"{found} of {wanted}: {query}"
        time.sleep(0.05)


@pytest.fixture
def environment(tmp_path: Path, database_url: str, redis_url: str) -> dict[str, str]:
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "beat_schedule.py").write_text(ITS_OWN_CLOCK)
    (tmp_path / "inputs").mkdir()
    for number in range(INPUTS):
        (tmp_path / "inputs" / f"{number:02}.py").write_text(f"x = {number}\n")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAYLINE_", "LLM_"))}
    return ours | {
        "ASSAYLINE_DATABASE_URL": database_url,
        "ASSAYLINE_REDIS_URL": redis_url,
        "ASSAYLINE_FAKE": "1",
        "ASSAYLINE_NIGHTLY_INPUTS": str(tmp_path / "inputs"),
        "PYTHONPATH": str(tmp_path / "clock"),
    }


def test_two_beats_and_two_workers_run_a_night_once(
    environment: dict[str, str], tmp_path: Path, database_url: str
) -> None:
    commands = (
        ("dispatcher",),
        ("worker", "--slots=4"),
        ("worker", "--slots=4"),
        ("beat", f"--state={tmp_path}/one"),
        ("beat", f"--state={tmp_path}/two"),
    )
    with ExitStack() as stack:
        for command in commands:
            argv = [sys.executable, "-m", "ops.cli.main", *command]
            running = stack.enter_context(subprocess.Popen(argv, cwd=tmp_path, env=environment))
            stack.callback(running.kill)
        until(database_url, "SELECT count(*) AS n FROM assayline.jobs WHERE state = 'succeeded'", INPUTS)
    [run] = rows(database_url, "SELECT * FROM assayline.schedule_runs")
    assert (run["state"], run["jobs"], run["repeats"], run["refused"]) == ("done", INPUTS, 0, 0)
    jobs = rows(database_url, "SELECT lane, source, claim_no FROM assayline.jobs")
    assert len(jobs) == INPUTS
    assert {(job["lane"], job["source"], job["claim_no"]) for job in jobs} == {("bulk", "schedule:nightly", 1)}
