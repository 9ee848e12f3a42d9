"""What a process holds of a limit group, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.catalog_entries import Lane
    from gateway.limits.money import Day, Money


@dataclass(frozen=True, slots=True)
class Held:
    """A reservation as its process knows it; no date while the reply is on its way."""

    lane: Lane
    money: Money | None
    date_us: int | None = None


def days_held(held: Mapping[str, Held], today: Day | None) -> list[str]:
    """Return the keys of the days whose money some reservations count in, and of today: two around midnight."""
    keys = [one.money.day_key for one in held.values() if one.money is not None]
    return list(dict.fromkeys(keys if today is None else [*keys, today.key]))


def renewal(held: Mapping[str, Held], places: Mapping[str, int]) -> tuple[str | int, ...]:
    """Return reservations as `renew.lua` takes them. `places`: of each day's key among the script's."""
    arguments: tuple[str | int, ...] = ()
    for reservation_id, one in held.items():
        day, worst = ("", 0) if one.money is None else (places[one.money.day_key], one.money.worst)
        arguments += (reservation_id, one.lane.value, "" if one.date_us is None else one.date_us, day, worst)
    return arguments
