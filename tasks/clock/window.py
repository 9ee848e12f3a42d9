"""Off-peak windows in local time: when one is open, and which night that is.

Pure arithmetic over `zoneinfo`. A window belongs to the local date on which it opens; there is exactly one for each
date, whatever the clocks do that night:

- the clocks go forward over its opening or closing time: the moment they do stands for the time that does not exist
  (Celery's crontab, and `datetime` itself, would be an hour late);
- the clocks go back and the time comes twice: the first of the two counts. So a window neither opens twice nor
  closes and opens again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
GAP_PRECISION = timedelta(seconds=1)
"""Changes of the clocks fall on whole seconds in all of the tz database."""


@dataclass(frozen=True, slots=True)
class Night:
    """One occurrence of a window: the local date it opens on, and its ends as instants (UTC); the end is not in it."""

    local_date: date
    fold: int
    opens_at: datetime
    closes_at: datetime

    def holds(self, now: datetime) -> bool:
        """Whether an instant lies within."""
        return self.opens_at <= now < self.closes_at


@dataclass(frozen=True, slots=True)
class Window:
    """Local hours of each day. Where `closes` is not after `opens`, it is on the next day; equal means all day."""

    opens: time
    closes: time
    zone: ZoneInfo

    def night(self, local_date: date) -> Night:
        """Return the occurrence that opens on a local date."""
        last = local_date if self.closes > self.opens else local_date + DAY
        return Night(local_date, 0, instant(local_date, self.opens, self.zone), instant(last, self.closes, self.zone))

    def at(self, now: datetime) -> Night | None:
        """Return the occurrence that holds an instant, None while the window is closed."""
        today = now.astimezone(self.zone).date()
        found = (self.night(day) for day in (today - DAY, today, today + DAY))
        return next((night for night in found if night.holds(now)), None)

    def next_after(self, now: datetime) -> Night:
        """Return the first occurrence that opens after an instant."""
        today = now.astimezone(self.zone).date()
        found = (self.night(today + days * DAY) for days in range(-1, 4))
        return next(night for night in found if night.opens_at > now)

    def before(self, now: datetime) -> Iterator[Night]:
        """Yield the occurrences that are over at an instant, latest first; not those that the clocks skip whole."""
        day = now.astimezone(self.zone).date() + DAY
        while True:
            night = self.night(day)
            if night.opens_at < night.closes_at <= now:
                yield night
            day -= DAY


def instant(local_date: date, local_time: time, zone: ZoneInfo) -> datetime:
    """Return when a local clock first shows a time, in UTC; for a time that it skips, when it skips it."""
    local = datetime.combine(local_date, local_time, zone)
    first = local.astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return first
    # In a gap `fold` works the other way round (PEP 495): fold=1 lies before the change, fold=0 after it.
    return _change(local.replace(fold=1).astimezone(UTC), first, zone)


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant between the two at which the zone's offset changes."""
    old = before.astimezone(zone).utcoffset()
    while after - before > GAP_PRECISION:
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle <= before:
            break
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after
