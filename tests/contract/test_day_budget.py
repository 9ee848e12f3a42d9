"""The day's money of a limit group over a real Valkey: kept by all processes, begun from the ledger, not forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import redis
from limitworld import START_US, Admitted, LimitWorld, Process, admitted, refused, spent_up

from gateway.breaker.policy import SECOND_US
from gateway.catalog import build_catalog
from gateway.catalog_entries import Lane, Limits
from gateway.errors import CatalogError, ConfigurationError, DayBudgetSpent, LimitReached
from gateway.limits.groups import LimitGroups
from gateway.limits.kinds import LimitKind
from gateway.limits.limiter import LEASE_S
from gateway.limits.money import ASK_AGAIN_S, LedgerAway
from gateway.limits.rates import Need
from gateway.limits.refusals import SLOT_RETRY_S
from gateway.redis_line import RedisAway
from gateway.traffic import traffic
from gateway.yaml_source import parse_yaml
from tasks.headroom import GroupRoom, LimitHeadroom

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from gateway.limits.group import LimitGroup

DAY_S = 86_400.0
LEFT_S = DAY_S - START_US / SECOND_US % DAY_S
"""Of the day in UTC when a test begins."""
CENT = Need(cost_usd=Decimal("0.01"))


@dataclass(slots=True)
class Books:
    """A ledger that is told what was spent. away: nobody can say. meanwhile: happens while it answers."""

    usd: str = "0"
    away: bool = False
    meanwhile: Callable[[], Awaitable[None]] | None = None
    asked: list[datetime] = field(default_factory=list)

    async def spent_usd(self, group: LimitGroup, since: datetime) -> Decimal:
        self.asked.append(since)
        found = Decimal(self.usd)
        await asyncio.sleep(0)
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.away:
            raise LedgerAway
        return found


def usd(amount: str) -> Need:
    return Need(cost_usd=Decimal(amount))


@pytest.fixture
def world_of(redis_url: str) -> Iterator[Callable[..., LimitWorld]]:
    """Make a world with so much money a day."""
    made: list[LimitWorld] = []

    def make(budget: str, books: Books | None = None, **more: Any) -> LimitWorld:
        limits = Limits(usd_per_day=Decimal(budget), **more.pop("limits", {}))
        made.append(LimitWorld(redis_url, limits, spending=books or Books(), **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def spent(here: LimitWorld, process: Process) -> tuple[int | None, int]:
    """Micro-dollars spent, and of those what open calls may cost."""
    money = here.state(process).money
    assert money is not None
    return money.spent, money.open


def test_no_more_is_reserved_than_the_day_has_whoever_asks_at_once(world_of: Callable[..., LimitWorld]) -> None:
    books = Books("0.03")
    here = world_of("0.10", books)
    processes = [here.process() for _ in range(4)]

    async def all_at_once() -> list[object]:
        asked = [process.limiter.reserve(here.group, CENT, Lane.INTERACTIVE) for process in processes * 5]
        return await asyncio.gather(*asked, return_exceptions=True)

    outcomes = [type(outcome).__name__ for outcome in here.do(all_at_once())]
    assert (outcomes.count("Reservation"), outcomes.count("LimitReached")) == (7, 13)
    assert spent(here, processes[0]) == (100_000, 70_000)
    assert 1 <= len(books.asked) <= len(processes), "one look for all of a process"


def test_a_call_counts_at_its_worst_until_its_cost_is_known(world_of: Callable[..., LimitWorld]) -> None:
    here = world_of("0.10")
    process = here.process()
    first = admitted(here.reserve(process, usd("0.06")))
    error = refused(here.reserve(process, usd("0.06")))
    assert error.retry_after_s == SLOT_RETRY_S, "it may cost less than it may"
    assert str(error) == "openai/default/default may spend 0.10 USD a day: its open calls may take what is left of it"
    here.settle(first, usd("0.02"))
    assert spent(here, process) == (20_000, 0)
    admitted(here.reserve(process, usd("0.06")))


@pytest.mark.parametrize(("used", "counted"), [(None, 0), (usd("0"), 0), (Need(), 60_000), (usd("0.07"), 70_000)])
def test_what_was_not_made_costs_nothing_and_what_nobody_knows_its_worst(
    world_of: Callable[..., LimitWorld], used: Need | None, counted: int
) -> None:
    here = world_of("0.10")
    process = here.process()
    first = admitted(here.reserve(process, usd("0.06")))
    for _ in range(2):
        here.settle(first, used)
    assert spent(here, process) == (counted, 0)
    here.renew(process)
    here.settle(first, used)
    assert spent(here, process) == (counted, 0)


def test_where_it_is_spent_no_call_goes_before_the_next_day(world_of: Callable[..., LimitWorld]) -> None:
    books = Books("0.095")
    here = world_of("0.10", books)
    process = here.process()
    error = spent_up(here.reserve(process, CENT))
    assert error.retry_after_s == pytest.approx(LEFT_S)
    assert "openai/default/default has spent 0.095 of the 0.10 USD that it may in a day" in str(error)
    admitted(here.reserve(process, usd("0.005")))
    here.pass_s(LEFT_S - 1)
    spent_up(here.reserve(process, CENT))
    books.usd = "0"
    here.pass_s(1)
    admitted(here.reserve(process, CENT))
    assert [since.isoformat() for since in books.asked] == ["2023-11-14T00:00:00+00:00", "2023-11-15T00:00:00+00:00"]


def test_days_change_at_midnight_of_the_accounts_zone_whose_clocks_change(world_of: Callable[..., LimitWorld]) -> None:
    """25 hours: 2026-10-25 in Berlin."""
    begins = datetime(2026, 10, 24, 22, tzinfo=UTC).timestamp()
    here = world_of("0.01", zone="Europe/Berlin", now_us=round(begins * SECOND_US))
    process = here.process()
    here.settle(admitted(here.reserve(process, CENT)), CENT)
    assert spent_up(here.reserve(process, CENT)).retry_after_s == 25 * 3_600
    here.pass_s(25 * 3_600 - 0.001)
    spent_up(here.reserve(process, CENT))
    here.pass_s(0.001)
    admitted(here.reserve(process, CENT))


def test_a_call_over_midnight_counts_in_the_day_it_was_reserved_in(world_of: Callable[..., LimitWorld]) -> None:
    here = world_of("0.10")
    process = here.process()
    here.pass_s(LEFT_S - 1)
    late = admitted(here.reserve(process, CENT))
    here.pass_s(2)
    early = admitted(here.reserve(process, CENT))
    here.renew(process)
    here.settle(late, usd("0.005"))
    assert spent(here, process) == (10_000, 10_000)
    here.settle(early, usd("0.004"))
    assert spent(here, process) == (4_000, 0)


def test_of_a_process_that_died_its_calls_stay_counted_at_their_worst(world_of: Callable[..., LimitWorld]) -> None:
    here = world_of("0.10")
    dead, other = here.process(), here.process()
    admitted(here.reserve(dead, usd("0.06")))
    assert isinstance(here.reserve(other, usd("0.06")), LimitReached)
    here.pass_s(LEASE_S + 1)
    assert isinstance(here.reserve(other, usd("0.06")), DayBudgetSpent), "nobody will give it back"
    assert spent(here, other) == (60_000, 0)
    admitted(here.reserve(other, usd("0.04")))


def test_what_calls_cost_that_ended_while_redis_was_away_is_told_afterwards(
    world_of: Callable[..., LimitWorld],
) -> None:
    here = world_of("0.10", limits={"concurrent_calls": 4})
    process, other = here.process(), here.process()
    calls = [admitted(here.reserve(process, usd("0.02"), Lane.INTERACTIVE)) for _ in range(4)]
    process.line.gone = True
    for call in calls:
        here.settle(call, usd("0.005"))
    here.renew(process)
    assert spent(here, other) == (80_000, 80_000)
    process.line.gone = False
    here.renew(process)
    assert spent(here, other) == (20_000, 0)
    admitted(here.reserve(other, usd("0.08")))


def test_what_ended_while_redis_was_away_is_told_in_its_order_before_anything_else(
    world_of: Callable[..., LimitWorld],
) -> None:
    """The next call that ends brings it along; nobody waits for a renewal."""
    here = world_of("0.10")
    process = here.process()
    first, second = (admitted(here.reserve(process, usd("0.02"))) for _ in range(2))
    process.line.gone = True
    here.settle(first, usd("0.005"))
    with pytest.raises(RedisAway):
        here.reserve(process, CENT)
    process.line.gone = False
    here.settle(second, usd("0.001"))
    assert spent(here, process) == (6_000, 0)


def test_of_a_call_whose_end_was_lost_the_worst_is_spent_and_nobody_waits_for_it(
    world_of: Callable[..., LimitWorld],
) -> None:
    here = world_of("0.10")
    process = here.process()
    calls = [admitted(here.reserve(process, usd("0.02"))) for _ in range(4)]
    process.line.loses = True
    for call in calls[:3]:
        here.settle(call, usd("0.001"))
    process.line.loses = False
    assert isinstance(here.reserve(process, usd("0.03")), LimitReached)
    for _ in range(2):
        here.renew(process)
    assert spent(here, process) == (80_000, 20_000)
    assert isinstance(here.reserve(process, usd("0.05")), DayBudgetSpent)
    process.line.loses = True
    here.settle(calls[3], usd("0.001"))
    process.line.loses = False
    here.renew(process)
    assert spent(here, process) == (80_000, 0), "also where the process holds nothing else"
    here.renew(process)


def test_a_process_that_was_taken_for_dead_counts_once(world_of: Callable[..., LimitWorld]) -> None:
    here = world_of("0.10")
    frozen, other = here.process(), here.process()
    first = admitted(here.reserve(frozen, usd("0.06")))
    here.pass_s(LEASE_S + 1)
    admitted(here.reserve(other, CENT))
    assert spent(here, other) == (70_000, 10_000)
    for _ in range(2):
        here.renew(frozen)
    assert spent(here, other) == (70_000, 70_000)
    here.settle(first, usd("0.02"))
    assert spent(here, other) == (30_000, 10_000)


def test_after_a_flush_the_ledger_tells_what_was_spent_and_renewals_what_is_open(
    world_of: Callable[..., LimitWorld],
) -> None:
    books = Books()
    here = world_of("0.10", books)
    renewing, ending, other = here.process(), here.process(), here.process()
    kept = admitted(here.reserve(renewing, usd("0.03")))
    ended = admitted(here.reserve(ending, usd("0.02")))
    here.flush()
    here.pass_s(1)
    books.usd = "0.04"
    here.settle(admitted(here.reserve(other, CENT)), CENT)
    assert spent(here, other) == (50_000, 0)
    for _ in range(2):
        here.renew(renewing)
    assert spent(here, other) == (80_000, 30_000)
    for _ in range(2):
        here.settle(ended, usd("0.015"))
    assert spent(here, other) == (95_000, 30_000), "it was under way when the ledger was asked"
    here.settle(kept, usd("0.001"))
    assert spent(here, other) == (66_000, 0)


@pytest.mark.parametrize("in_the_ledger", [False, True])
def test_a_call_that_ends_while_the_ledger_is_asked_is_not_missed(
    world_of: Callable[..., LimitWorld], in_the_ledger: bool
) -> None:
    """Nor one that ended just before, and is written there later. At worst it counts twice."""
    books = Books()
    here = world_of("0.20", books)
    ending, asking = here.process(), here.process()
    first, second = (admitted(here.reserve(ending, usd("0.06"))) for _ in range(2))
    here.flush()
    here.pass_s(1)
    here.settle(first, usd("0.03"))
    books.usd = "0.03" if in_the_ledger else "0"

    async def ends_meanwhile() -> None:
        ending.limiter.settle(second.reservation, usd("0.05"))
        await ending.line.ask(("PING",))

    books.meanwhile = ends_meanwhile
    here.settle(admitted(here.reserve(asking, CENT)), CENT)
    assert spent(here, asking) == (90_000 + 30_000 * in_the_ledger, 0)
    for _ in range(2):
        here.settle(second, usd("0.05"))
        here.renew(ending)
    assert spent(here, asking) == (90_000 + 30_000 * in_the_ledger, 0)


def test_what_ended_long_before_the_ledger_is_asked_is_in_it(
    world_of: Callable[..., LimitWorld], redis_url: str
) -> None:
    here = world_of("0.20", Books("0.03"))
    process = here.process()
    first = admitted(here.reserve(process, usd("0.06")))
    here.flush()
    here.settle(first, usd("0.03"))
    with redis.Redis.from_url(redis_url) as client:
        [day] = client.keys("*:spent:*")
        assert 0 < client.pttl(day) <= 30_000
    assert spent(here, process) == (None, 0)


def test_a_reservation_that_goes_out_twice_counts_once(world_of: Callable[..., LimitWorld]) -> None:
    here = world_of("0.10")
    process = here.process()
    first = admitted(here.reserve(process, CENT)).reservation
    again = here.do(process.limiter._ask(first, 0))
    assert not again.in_the_way
    assert spent(here, process) == (10_000, 10_000)


def test_a_renewal_and_a_later_reservation_that_go_out_twice_count_once(
    world_of: Callable[..., LimitWorld],
) -> None:
    """The renewal does not know of the reservation behind it, and so says nothing of it."""
    here = world_of("0.10", limits={"requests_per_min": 600, "concurrent_calls": 5})
    process = here.process()
    admitted(here.reserve(process, CENT))
    before = here.state(process).rates[LimitKind.REQUESTS].tat_us
    process.line.repeats = True

    async def renewed_and_reserved() -> None:
        process.limiter._renewals.renew()
        await process.limiter.reserve(here.group, CENT, Lane.INTERACTIVE)

    here.do(renewed_and_reserved())
    process.line.repeats = False
    state = here.state(process)
    assert state.open == 2
    assert spent(here, process) == (20_000, 20_000)
    assert state.rates[LimitKind.REQUESTS].tat_us - before == pytest.approx(100_000, rel=0.05), "a request takes 0.1 s"


def test_a_reservation_that_goes_out_again_after_its_holder_lapsed_counts_once(
    world_of: Callable[..., LimitWorld], redis_url: str
) -> None:
    here = world_of("0.10")
    process = here.process()
    first = admitted(here.reserve(process, CENT)).reservation
    with redis.Redis.from_url(redis_url) as client:
        client.delete(here.group.key(f"held:{process.limiter._holder.name}"))
    here.do(process.limiter._ask(first, 0))
    assert spent(here, process) == (10_000, 10_000)


def test_what_another_limit_refuses_costs_nothing(world_of: Callable[..., LimitWorld]) -> None:
    here = world_of("0.10", limits={"concurrent_calls": 1})
    process = here.process()
    admitted(here.reserve(process, CENT))
    assert "calls open" in str(refused(here.reserve(process, CENT)))
    assert spent(here, process) == (10_000, 10_000)


def test_without_the_ledger_nothing_is_guessed(world_of: Callable[..., LimitWorld]) -> None:
    books = Books(away=True)
    here = world_of("0.10", books)
    process = here.process()
    assert refused(here.reserve(process, CENT)).retry_after_s == ASK_AGAIN_S
    assert spent(here, process) == (None, 0)
    books.away = False
    admitted(here.reserve(process, CENT))
    nobody = world_of("0.10")
    nobody.spending = None
    here.flush()
    with pytest.raises(ConfigurationError, match="has a budget for the day"):
        nobody.reserve(nobody.process(), CENT)


def test_the_day_lapses_with_all_that_is_in_it(world_of: Callable[..., LimitWorld], redis_url: str) -> None:
    here = world_of("0.10")
    admitted(here.reserve(here.process(), CENT))
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.ttl("assayline:limits:{openai/default}:default:spent:2023-11-14") in range(172_700, 172_801)


def test_as_many_as_the_state_says_are_admitted(world_of: Callable[..., LimitWorld]) -> None:
    here = world_of("0.10", Books("0.02"))
    process = here.process()
    assert here.state(process).admits(Lane.BULK, 100) == 1, "nobody knows yet what is spent"
    here.settle(admitted(here.reserve(process, CENT)), CENT)
    bookable = here.state(process).admits(Lane.BULK, 100)
    got = [here.reserve(process, CENT) for _ in range(bookable + 1)]
    assert bookable == 7
    assert [isinstance(one, Admitted) for one in got] == [True] * bookable + [False]
    state = here.state(process)
    assert (state.admits(Lane.BULK, 100), state.opens_in_s(Lane.BULK, 0), state.spent_up) == (0, 0, False)
    assert state.ready_in_s(Lane.BULK) is None, "open calls may cost less"
    for one in got[:bookable]:
        here.settle(admitted(one), CENT)
    state = here.state(process)
    assert (state.admits(Lane.BULK, 100), state.spent_up) == (0, True)
    assert state.opens_in_s(Lane.BULK, 0) == state.ready_in_s(Lane.BULK) == pytest.approx(LEFT_S)


ENTRY = (
    "context_window: 10, max_output_tokens: 5, capabilities: [], price: null, note: n, source: s, checked: 2026-01-01"
)
CATALOG = build_catalog(
    parse_yaml(
        f"""
providers:
  openai:
    dialect: fake
    accounts:
      - {{name: default, zone: Asia/Tokyo, limits: {{default: {{usd_per_day: "0.01"}}}}}}
      - {{name: second, limits: {{default: {{usd_per_day: "0.02"}}}}}}
    models: {{small: {{{ENTRY}}}, free: {{{ENTRY}, limit_group: free}}}}
defaults: {{chain: [openai/small]}}
""",
        "c.yaml",
        CatalogError,
    ),
    {},
)


def test_a_group_is_out_when_no_account_of_it_has_money_left(world_of: Callable[..., LimitWorld]) -> None:
    here, groups = world_of("1"), LimitGroups(CATALOG)
    process = here.process()
    first, second = groups.at("openai")[0].groups

    def rooms() -> list[GroupRoom]:
        return list(here.do(LimitHeadroom(process.limiter, groups).rooms("openai", "bulk", 100)))

    for group, all_of_it in ((first, CENT), (second, usd("0.02"))):
        room, free = rooms()
        assert (room.out, free.out, free.most) == (None, None, None)
        assert room.most
        reservation = here.do(process.limiter.reserve(group, all_of_it, Lane.BULK))
        here.said(process, partial(process.limiter.settle, reservation, all_of_it))
    room, free = rooms()
    assert (room.most, free.out, free.most) == (0, None, None)
    assert isinstance(room.out, DayBudgetSpent)
    # It is 22:13 in UTC: Tokyo's day is the longer one.
    assert room.next_in_s == room.out.retry_after_s == pytest.approx(LEFT_S)
    [fares] = here.do(traffic(CATALOG, process.limiter))
    shown = {group.group.name: (group.spent_usd, group.usd_per_day) for group in fares.accounts[1].groups}
    assert shown == {"default": (0.02, 0.02), "free": (None, None)}
