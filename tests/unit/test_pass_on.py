"""What Postgres tells of ended jobs is passed on to those who wait, and to nobody else."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from gateway.journal.journal import PREFIX
from gateway.redis_line import RedisAway
from tasks.announce import Announcer, events_channel

JOBS = [UUID(int=number) for number in (1, 2)]


class Line:
    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.sent: list[tuple[str | bytes | int, ...]] = []

    def post(self, *commands: tuple[str | bytes | int, ...]) -> None:
        if self.away:
            raise RedisAway("away")
        self.sent += commands


def test_each_job_is_told_of_on_its_own_channel_and_nothing_is_kept() -> None:
    """No result, and no answer that had come for it."""
    line = Line()
    Announcer(line).pass_on(f"cancelled {JOBS[0]} {JOBS[1]}")  # type: ignore[arg-type]
    assert line.sent == [
        command
        for job in JOBS
        for command in (
            ("PUBLISH", events_channel(job), json.dumps({"id": str(job), "state": "cancelled"})),
            ("DEL", f"{PREFIX}{job}"),
        )
    ]


@pytest.mark.parametrize(
    "told", ["", "cancelled", "running " + str(JOBS[0]), f"cancelled {JOBS[0]} x", str(JOBS[0]), "cancelled  "]
)
def test_what_is_not_understood_is_said_and_not_passed_on(told: str, caplog: pytest.LogCaptureFixture) -> None:
    line = Line()
    Announcer(line).pass_on(told)  # type: ignore[arg-type]
    assert line.sent == []
    assert "not understood" in caplog.text


def test_a_redis_that_is_away_costs_nothing() -> None:
    Announcer(Line(away=True)).pass_on(f"cancelled {JOBS[0]}")  # type: ignore[arg-type]
