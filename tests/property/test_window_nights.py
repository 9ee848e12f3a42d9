"""Windows in any zone at any instant: one night for each date, in order, never two at once."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from tasks.clock.window import Window

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "America/St_Johns",
)
TIMES = st.builds(time, st.integers(0, 23), st.sampled_from([0, 1, 15, 30, 59]))
WINDOWS = st.builds(Window, TIMES, TIMES, st.sampled_from([ZoneInfo(name) for name in ZONES]))
DAYS = st.dates(date(2024, 1, 2), date(2029, 12, 30))
INSTANTS = st.datetimes(datetime(2024, 1, 3), datetime(2029, 12, 29), timezones=st.just(UTC))
DAY = timedelta(days=1)


@given(WINDOWS, DAYS)
def test_nights_follow_each_other_and_never_overlap(window, day):
    this, following = window.night(day), window.night(day + DAY)
    assert this.opens_at <= this.closes_at <= following.opens_at


@given(WINDOWS, DAYS)
def test_a_night_is_as_long_as_its_hours_give_or_take_a_change_of_the_clocks(window, day):
    opens, closes = (datetime.combine(day, t) for t in (window.opens, window.closes))
    nominal = closes - opens if closes > opens else closes + DAY - opens
    night = window.night(day)
    assert abs((night.closes_at - night.opens_at) - nominal) <= timedelta(hours=1)


@given(WINDOWS, INSTANTS)
def test_an_instant_is_in_the_one_night_that_holds_it(window, now):
    night = window.at(now)
    around = [window.night(now.date() + days * DAY) for days in range(-3, 4)]
    assert [one for one in around if one.holds(now)] == ([night] if night else [])


@given(WINDOWS, INSTANTS)
def test_the_night_before_and_the_night_after_are_neighbours(window, now):
    last, following = next(window.before(now)), window.next_after(now)
    assert last.closes_at <= now < following.opens_at
    between = (following.local_date - last.local_date).days
    current = window.at(now)
    assert between == (2 if current and current.opens_at < current.closes_at else 1)


@given(WINDOWS, INSTANTS)
def test_open_is_what_the_local_clock_shows_but_for_the_hours_of_a_change(window, now):
    local = now.astimezone(window.zone)
    quiet = {(local + timedelta(hours=h)).utcoffset() for h in (-26, -13, 0, 13, 26)}
    if len(quiet) > 1:
        return
    shown = local.time()
    if window.opens < window.closes:
        shows_open = window.opens <= shown < window.closes
    else:
        shows_open = shown >= window.opens or shown < window.closes
    assert (window.at(now) is not None) is shows_open
