"""Off-peak windows, with the clocks standing still, going forward and going back."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from tasks.clock.window import Window, instant

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
"""Its clocks go by half an hour."""
CAIRO = ZoneInfo("Africa/Cairo")
"""Its clocks go forward at midnight: the day begins at one."""

NIGHT = Window(time(22), time(6), BERLIN)
FORWARD, BACK = date(2026, 3, 29), date(2026, 10, 25)
"""Berlin: 02:00 becomes 03:00; 03:00 becomes 02:00."""


def utc(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


def test_a_night_belongs_to_the_date_it_opens_on():
    night = NIGHT.night(date(2026, 11, 21))
    assert (night.opens_at, night.closes_at) == (utc(date(2026, 11, 21), 21), utc(date(2026, 11, 22), 5))
    assert NIGHT.at(utc(date(2026, 11, 22), 3)) == night


@pytest.mark.parametrize(
    ("hour", "minute", "open_"), [(20, 59, False), (21, 0, True), (23, 59, True), (4, 59, True), (5, 0, False)]
)
def test_the_opening_is_in_it_and_the_closing_is_not(hour, minute, open_):
    day = date(2026, 11, 21) if hour > 12 else date(2026, 11, 22)
    assert (NIGHT.at(utc(day, hour, minute)) is not None) is open_


def test_hours_by_day_open_and_close_on_one_date():
    lunch = Window(time(12), time(13), BERLIN).night(date(2026, 7, 1))
    assert (lunch.opens_at, lunch.closes_at) == (utc(date(2026, 7, 1), 10), utc(date(2026, 7, 1), 11))


def test_equal_ends_mean_all_day():
    whole = Window(time(0), time(0), BERLIN)
    assert whole.at(utc(date(2026, 7, 1), 21, 59)).local_date == date(2026, 7, 1)
    assert whole.at(utc(date(2026, 7, 1), 22, 0)).local_date == date(2026, 7, 2)


def test_a_night_is_an_hour_shorter_when_the_clocks_go_forward_and_longer_when_they_go_back():
    forward = NIGHT.night(FORWARD - timedelta(days=1))
    back = NIGHT.night(BACK - timedelta(days=1))
    assert forward.closes_at - forward.opens_at == timedelta(hours=7)
    assert back.closes_at - back.opens_at == timedelta(hours=9)


def test_an_opening_that_the_clocks_skip_is_the_moment_they_skip_it():
    """Not 03:30, which crontab and `datetime` make of it."""
    assert instant(FORWARD, time(2, 30), BERLIN) == utc(FORWARD, 1)
    assert instant(FORWARD, time(2, 0), BERLIN) == utc(FORWARD, 1)
    assert instant(FORWARD, time(3, 0), BERLIN) == utc(FORWARD, 1)
    assert instant(date(2026, 3, 8), time(2, 30), NEW_YORK) == utc(date(2026, 3, 8), 7)
    assert instant(date(2026, 10, 4), time(2, 15), LORD_HOWE) == datetime(2026, 10, 3, 15, 30, tzinfo=UTC)


def test_a_day_that_begins_at_one_begins_then():
    assert instant(date(2026, 4, 24), time(0, 0), CAIRO) == datetime(2026, 4, 23, 22, tzinfo=UTC)
    assert instant(date(2026, 4, 24), time(0, 30), CAIRO) == datetime(2026, 4, 23, 22, tzinfo=UTC)


def test_an_opening_that_comes_twice_opens_once_at_the_first():
    early = Window(time(2, 30), time(6), BERLIN)
    night = early.night(BACK)
    assert night.opens_at == utc(BACK, 0, 30)
    assert early.at(utc(BACK, 1, 30)) == night, "the second 02:30 is the same night"
    assert early.at(utc(BACK, 1, 10)) == night, "02:10 for the second time: the clock shows less than the opening"


def test_a_closing_that_comes_twice_closes_once_at_the_first():
    early = Window(time(22), time(2, 30), BERLIN)
    assert early.night(BACK - timedelta(days=1)).closes_at == utc(BACK, 0, 30)
    assert early.at(utc(BACK, 1, 10)) is None, "02:10 for the second time: it is not open again"


def test_a_closing_that_the_clocks_skip_is_the_moment_they_skip_it():
    early = Window(time(22), time(2, 30), BERLIN)
    assert early.night(FORWARD - timedelta(days=1)).closes_at == utc(FORWARD, 1)


def test_before_and_after():
    noon = utc(date(2026, 11, 21), 12)
    assert next(NIGHT.before(noon)) == NIGHT.night(date(2026, 11, 20))
    assert NIGHT.next_after(noon) == NIGHT.night(date(2026, 11, 21))
    inside = utc(date(2026, 11, 21), 23)
    assert next(NIGHT.before(inside)) == NIGHT.night(date(2026, 11, 20))
    assert NIGHT.next_after(inside) == NIGHT.night(date(2026, 11, 22))


def test_a_window_that_the_clocks_skip_whole_is_no_night_that_was_missed():
    skipped = Window(time(2, 10), time(2, 50), BERLIN)
    assert next(skipped.before(utc(FORWARD, 12))) == skipped.night(FORWARD - timedelta(days=1))
