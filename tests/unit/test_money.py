"""Days of money: when they begin in a zone, what fits into them, what is refused for good."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from gateway.catalog_entries import Limits
from gateway.errors import ExceedsLimit
from gateway.limits.group import LimitGroup
from gateway.limits.money import DayState, day_of
from gateway.limits.rates import Need, check_fits
from gateway.pricing import micro_usd

LIMITS = Limits(usd_per_day=Decimal("0.5"))
HOUR_S = 3_600.0


def at(zone: str, *moment: int) -> tuple[str, str, float]:
    """The day of a group at a moment of UTC: its date, when it began in UTC, and the hours left."""
    day = day_of(LimitGroup("p", "a", "g", LIMITS, zone), datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[arg-type,misc]
    return day.key.rpartition(":")[2], f"{day.since.astimezone(UTC):%m-%d %H:%M}", day.left_s / HOUR_S


@pytest.mark.parametrize(("zone", "moment", "day"), [
    ("UTC", (2026, 11, 21, 23, 0), ("2026-11-21", "11-21 00:00", 1)),
    ("Asia/Tokyo", (2026, 11, 21, 23, 0), ("2026-11-22", "11-21 15:00", 16)),
    ("Europe/Berlin", (2026, 3, 28, 23, 0), ("2026-03-29", "03-28 23:00", 23)),
    ("Europe/Berlin", (2026, 10, 24, 22, 0), ("2026-10-25", "10-24 22:00", 25)),
    ("Europe/Berlin", (2026, 10, 25, 12, 0), ("2026-10-25", "10-24 22:00", 11)),
    ("America/Santiago", (2026, 9, 6, 4, 0), ("2026-09-06", "09-06 04:00", 23)),  # its midnight does not exist
])  # fmt: skip
def test_a_day_goes_from_midnight_to_midnight_of_the_zone(
    zone: str, moment: tuple[int, ...], day: tuple[str, str, float]
) -> None:
    assert at(zone, *moment) == day


def test_micro_dollars_are_never_less_than_it_costs() -> None:
    assert [micro_usd(Decimal(usd)) for usd in ("0", "0.000001", "0.0000011", "30")] == [0, 1, 2, 30_000_000]


def test_a_call_of_unknown_price_never_goes_where_money_is_limited() -> None:
    with pytest.raises(ExceedsLimit, match=r"price is unknown, and its account may spend 0\.5 USD a day"):
        check_fits(LIMITS, Need())
    check_fits(Limits(), Need())


def test_a_call_that_a_day_does_not_hold_is_refused_for_good() -> None:
    with pytest.raises(ExceedsLimit, match=r"may cost 0\.51 USD, and its account may spend 0\.5 USD"):
        check_fits(LIMITS, Need(cost_usd=Decimal("0.51")))
    check_fits(LIMITS, Need(cost_usd=Decimal("0.5")))


STATE = DayState(budget=100, spent=40, open=0, cost=20, left_s=60.0)


@pytest.mark.parametrize(("changes", "admits", "spent_up"), [
    ({}, 3, False),
    ({"spent": 90, "open": 10}, 0, False),
    ({"spent": 90, "open": 9}, 0, True),
    ({"spent": 130, "open": 100}, 0, False),
    ({"spent": None}, 1, False),
    ({"cost": None}, 1, False),
    ({"cost": None, "spent": 100}, 0, True),
    ({"cost": 0}, 9, False),
    ({"cost": 0, "spent": 101}, 0, True),
])  # fmt: skip
def test_how_many_more_calls_fit(changes: dict[str, int | None], admits: int, spent_up: bool) -> None:
    state = replace(STATE, **changes)
    assert (state.admits(9), state.spent_up) == (admits, spent_up)
