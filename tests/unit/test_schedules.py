"""The schedules that ship, and what the environment makes of them."""

from __future__ import annotations

from datetime import time
from zoneinfo import ZoneInfo

import pytest

import beat_schedule
from gateway.analyses.registry import load_analyses
from gateway.errors import ConfigurationError
from tasks.clock.clock import CHUNK, CHUNK_CHARS, _chunk
from tasks.clock.schedule import in_force
from tasks.producer import Job

NIGHTLY = beat_schedule.SCHEDULES["nightly"]


def test_without_inputs_nothing_is_scheduled():
    assert in_force(beat_schedule.SCHEDULES, {}) == ()


def test_the_shipped_night_is_from_22_to_6_in_the_zone_that_is_set(tmp_path):
    env = {"ASSAYLINE_NIGHTLY_INPUTS": str(tmp_path), "ASSAYLINE_NIGHTLY_ZONE": "Europe/Berlin"}
    [schedule] = in_force(beat_schedule.SCHEDULES, env)
    assert (schedule.window.opens, schedule.window.closes) == (time(22), time(6))
    assert schedule.window.zone == ZoneInfo("Europe/Berlin")
    assert schedule.source == "schedule:nightly"


def test_the_shipped_schedules_name_shipped_analyses_and_a_tick_looks_after_them():
    names = load_analyses(offered=[]).names()
    assert all(entry["analysis"] in names for entry in beat_schedule.SCHEDULES.values())
    assert "schedules" in beat_schedule.TICKS


@pytest.mark.parametrize(
    ("changes", "env", "says"),
    [
        ({"opens": "25:00"}, {}, r"SCHEDULES\['nightly'\]\.opens"),
        ({"inputs": "/x"}, {}, r"SCHEDULES\['nightly'\]\.inputs: Extra"),
        ({"zone": "Mars/Olympus"}, {}, r"SCHEDULES\['nightly'\]\.zone: no time zone 'Mars/Olympus'"),
        ({}, {"ASSAYLINE_NIGHTLY_ZONE": "CEST"}, "ASSAYLINE_NIGHTLY_ZONE: no time zone 'CEST'"),
        ({}, {"ASSAYLINE_NIGHTLY_ZONE": "Europe"}, "ASSAYLINE_NIGHTLY_ZONE: no time zone 'Europe'"),
        ({}, {"ASSAYLINE_NIGHTLY_ZONE": "../etc/passwd"}, "ASSAYLINE_NIGHTLY_ZONE: no time zone"),
    ],
)
def test_a_wrong_schedule_is_refused_at_boot_with_its_place(changes, env, says):
    with pytest.raises(ConfigurationError, match=says):
        in_force({"nightly": {**NIGHTLY, **changes}}, env)


@pytest.mark.parametrize(("chars", "together"), [(1, CHUNK), (CHUNK_CHARS // 4, 4)])
def test_inputs_held_in_memory_together_are_bounded_by_number_and_by_length(chars, together):
    found = (Job("slow", "x" * chars) for _ in range(CHUNK + 1))
    assert len(_chunk(found)) == together
    assert len(_chunk(found)) > 0, "nothing is lost between two chunks"
