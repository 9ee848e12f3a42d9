"""What a process says to its scripts: the keys and the arguments of each, in the order in which its file names them.

Pure: from values to what goes over the line. `now` is the time in microseconds, for tests; '' for Redis's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.breaker.policy import SECOND_US
from gateway.breaker.view import read_standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.breaker.health import Health
    from gateway.breaker.view import Standing
    from gateway.limits.group import LimitGroup
    from gateway.limits.money import Day
    from gateway.limits.rates import Need
    from gateway.limits.reservation import Reservation
    from gateway.limits.tightening import Tightening

Arguments = tuple[str | int, ...]
Said = tuple[list[str], Arguments]
"""Keys and arguments."""
Time = int | str


@dataclass(frozen=True, slots=True)
class Holder:
    """Who speaks: one life of a process, and how long what it holds counts without a renewal, in microseconds."""

    name: str
    lease_us: int


def reserve(one: Reservation, horizon_us: int, holder: Holder, now: Time) -> Said:
    """Ask for a reservation. `horizon_us`: how far ahead its date may be."""
    group, money = one.group, one.money
    keys = _keys(group, "buckets", "slots", "alive", f"held:{holder.name}", "ahead", "ceiling")
    keys += [*_of_account(group, "breaker", "retries"), *_day_keys(one)]
    budget, worst = ("", 0) if money is None else (group.budget or 0, money.worst)
    arguments: Arguments = (
        one.id, holder.name, one.lane.value, horizon_us, holder.lease_us,
        group.most_open, int(one.retry), now, budget, worst,
    )  # fmt: skip
    for bucket in one.buckets:
        arguments += tuple(bucket.arguments())
    return keys, arguments


def settle(one: Reservation, used: Need | None, health: Health, holder: Holder, now: Time) -> Said:
    """End a reservation. `used`: None for a call that was not made."""
    group = one.group
    keys = _keys(group, "buckets", "slots", "alive", f"held:{holder.name}", "ceiling")
    keys += [*_of_account(group, "breaker", "retries"), *_day_keys(one)]
    cost = 0 if one.money is None else one.money.cost(used)
    arguments: Arguments = (
        one.id, holder.name, now, health.value, one.epoch, one.admitted_us,
        cost, int(one.retry), int(used is not None),
    )  # fmt: skip
    for bucket in one.buckets:
        if difference_us := bucket.difference_us(used):
            arguments += (bucket.kind.value, difference_us)
    return keys, arguments


def renew(
    group: LimitGroup, held: Iterable[Reservation], today: Day | None, latest_id: int, holder: Holder, now: Time
) -> Said:
    """Say all that is held of a group. `latest_id`: of the reservations made so far, of whichever group."""
    held = list(held)
    keys = [*_keys(group, "slots", "alive", f"held:{holder.name}"), *_of_account(group, "breaker")]
    # Two days around midnight. What is lost of a day before that keeps nobody waiting any more.
    days = dict.fromkeys([*(one.money.day_key for one in held if one.money), *([] if today is None else [today.key])])
    places = {day: place for place, day in enumerate(days, len(keys) + 1)}
    arguments: Arguments = (holder.name, holder.lease_us, now, latest_id)
    for one in held:
        day, worst = ("", 0) if one.money is None else (places[one.money.day_key], one.money.worst)
        arguments += (one.id, one.lane.value, one.date_us or "", day, worst)
    return [*keys, *days], arguments


def state(group: LimitGroup, today: Day | None, now: Time) -> Said:
    """Look at a group."""
    keys = [*_keys(group, "buckets", "slots", "alive", "ceiling"), *_of_account(group, "breaker")]
    return [*keys, *([] if today is None else [today.key])], (now,)


def tighten(group: LimitGroup, news: Tightening, now: Time) -> Said:
    """Pass on what a provider said of its limits."""
    arguments: Arguments = (now, "" if news.at_us is None else news.at_us, news.closed_us)
    for kind, lacking in news.lacking.items():
        arguments += (kind.value, lacking.inflow_us, lacking.until_us)
    return _keys(group, "buckets"), arguments


@dataclass(frozen=True, slots=True)
class Reply:
    """What `reserve.lua` answers.

    what: the date, in microseconds; or what `as_error` takes for it. in_the_way: empty where it is reserved. admission:
    epoch, time, whether it is the probe, how many processes are alive; empty where it is refused.
    """

    what: int
    now_us: int
    in_the_way: str
    standing: Standing
    admission: Sequence[Any]

    @classmethod
    def read(cls, reply: Sequence[Any]) -> Reply:
        """Read it."""
        _, what, now_us, in_the_way, stands, *admission = reply
        return cls(what, now_us, in_the_way.decode(), read_standing(stands), admission)

    @property
    def wait_s(self) -> float:
        """Until the date."""
        return (self.what - self.now_us) / SECOND_US


def _day_keys(one: Reservation) -> list[str]:
    return [] if one.money is None else [one.money.day_key]


def _of_account(group: LimitGroup, *names: str) -> list[str]:
    owner = group.owner
    return [owner.key(name) for name in names]


def _keys(group: LimitGroup, *names: str) -> list[str]:
    prefix = group.key("")
    return [prefix + name for name in names]
