"""What a dispatcher is told of limits, over a real Valkey: as much as workers can reserve, and no more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from limitworld import LimitWorld, admitted

from gateway.breaker.health import Health
from gateway.breaker.policy import BreakerPolicy
from gateway.catalog import build_catalog
from gateway.catalog_entries import Lane
from gateway.errors import BreakerOpen, CatalogError
from gateway.limits.alone import LONGEST_S
from gateway.limits.groups import LimitGroups
from gateway.limits.limiter import Limiter
from gateway.limits.rates import Need
from gateway.redis_line import RedisAway, RedisLine
from gateway.yaml_source import parse_yaml
from tasks.headroom import IN_THE_DARK, WAITING_SHARE, GroupRoom, LimitHeadroom

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.limits.group import LimitGroup
    from gateway.limits.group_state import GroupState

ENTRY = (
    "context_window: 10, max_output_tokens: 5, capabilities: [], price: null, note: n, source: s, checked: 2026-01-01"
)
CATALOG = f"""
providers:
  openai:
    dialect: fake
    accounts:
      - {{name: default, limits: {{default: {{requests_per_min: 60}}}}}}
      - {{name: second, limits: {{default: {{requests_per_min: 600}}}}}}
    models:
      small: {{{ENTRY}}}
      large: {{{ENTRY}}}
      free: {{{ENTRY}, limit_group: free}}
  house:
    dialect: fake
    accounts: [{{limits: {{default: {{concurrent_calls: 4}}, rare: {{concurrent_calls: 1}}}}}}]
    models: {{listed: {{{ENTRY}}}, rare: {{{ENTRY}, limit_group: rare}}}}
    other_models: {{{ENTRY}}}
defaults: {{chain: [openai/small]}}
"""
GROUPS = LimitGroups(build_catalog(parse_yaml(CATALOG, "c.yaml", CatalogError), {}))
SLOTS = 1_000


def rooms(here: LimitWorld, provider: str, lane: Lane = Lane.BULK, slots: int = SLOTS) -> list[GroupRoom]:
    process = here.process()
    return list(here.do(LimitHeadroom(process.limiter, GROUPS).rooms(provider, lane.value, slots)))


def test_models_of_a_group_share_its_room_over_all_accounts(world: Callable[..., LimitWorld]) -> None:
    here = world()
    [room, free] = rooms(here, "openai")
    process = here.process()
    [shared, _] = GROUPS.at("openai")
    states = [here.do(process.limiter.state(group)) for group in shared.groups]
    assert [group.account for group in shared.groups] == ["default", "second"]
    assert (room.models, room.most) == (("small", "large"), sum(state.admits(Lane.BULK, 100) for state in states))
    assert (free.models, free.most, free.out) == (("free",), None, None)
    assert 0 < room.next_in_s <= 0.1, "of the account whose date is the next"


def test_open_calls_take_no_room_of_those_to_come(world: Callable[..., LimitWorld]) -> None:
    here = world()
    [before] = rooms(here, "house")[1:]
    [group] = GROUPS.at("house")[-1].groups
    reservation = here.do(here.process().limiter.reserve(group, Need(), Lane.BULK))
    [after] = rooms(here, "house")[1:]
    assert (before.most, after.most) == (3, 3), "bulk has four fifths of four slots"
    assert reservation.wait_s == 0


def test_models_that_are_not_listed_have_the_room_that_no_other_group_names(world: Callable[..., LimitWorld]) -> None:
    assert [room.models for room in rooms(world(), "house")] == [("rare",), None]


def test_no_more_are_let_wait_than_the_slots_bear(world: Callable[..., LimitWorld]) -> None:
    here = world()
    [many, _] = rooms(here, "openai", Lane.INTERACTIVE)
    [few, _] = rooms(here, "openai", Lane.INTERACTIVE, slots=20)
    assert many.most > 50
    assert few.most == 2 * (1 + int(20 * WAITING_SHARE))


def test_as_many_as_it_says_are_admitted(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=600, input_tokens_per_min=60_000)
    process = here.process()
    for _ in range(3):
        here.settle(admitted(here.reserve(process, Need(1, 700, 0))), Need(1, 700, 0))
        here.pass_s(1.0)
    bookable = here.state(process).admits(Lane.BULK, 1_000)
    got = [here.reserve(process, Need(1, 700, 0)) for _ in range(bookable + 1)]
    assert [type(one).__name__ for one in got] == ["Admitted"] * bookable + ["LimitReached"]


def test_in_the_dark_a_few_go(world: Callable[..., LimitWorld]) -> None:
    here = world()
    line = RedisLine.from_url("redis://127.0.0.1:1/0")
    here.lines.append(line)
    [room, free] = here.do(LimitHeadroom(Limiter(line, "dispatcher"), GROUPS).rooms("openai", "bulk", SLOTS))
    assert (room.most, free.most) == (IN_THE_DARK, None)


class Flickering:
    """A limiter whose Redis comes and goes."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self.away = False

    async def state(self, group: LimitGroup) -> GroupState:
        if self.away:
            raise RedisAway("Redis is away")
        return await self._limiter.state(group)


def test_in_the_dark_half_of_what_there_was_room_for_goes_for_as_long_as_workers_go_on(
    world: Callable[..., LimitWorld],
) -> None:
    here = world()
    process, now = here.process(), [0.0]
    limiter = Flickering(process.limiter)
    headroom = LimitHeadroom(limiter, GROUPS, clock=lambda: now[0])  # type: ignore[arg-type]

    def most(after_s: float, *, away: bool) -> int | None:
        limiter.away, now[0] = away, after_s
        return here.do(headroom.rooms("openai", "interactive", SLOTS))[0].most

    [shared, _] = GROUPS.at("openai")
    for _ in range(10):
        here.do(process.limiter.reserve(shared.groups[1], Need(), Lane.INTERACTIVE))
    heard = most(0.0, away=False)
    assert heard is not None
    assert heard > 10 + 2 * IN_THE_DARK
    assert most(1.0, away=True) == most(1.0 + LONGEST_S - 0.1, away=True) == heard // 2
    assert most(1.0 + LONGEST_S, away=True) == IN_THE_DARK, "workers call no more"
    again = most(100.0, away=False)
    assert again is not None
    assert most(101.0, away=True) == again // 2, "it was there in between"


def test_where_it_opens_is_when_one_more_is_admitted(world: Callable[..., LimitWorld]) -> None:
    here = world(requests_per_min=60)
    process = here.process()
    while (bookable := here.state(process).admits(Lane.BULK, 100)) > 0:
        for _ in range(bookable):
            admitted(here.reserve(process, Need()))
    opens_in_s = here.state(process).opens_in_s(Lane.BULK, 0)
    assert opens_in_s == pytest.approx(1.0, abs=0.51)
    here.pass_s(opens_in_s - 0.01)
    assert here.state(process).admits(Lane.BULK, 100) == 0
    here.pass_s(0.02)
    assert here.state(process).admits(Lane.BULK, 100) == 1


def test_a_provider_is_out_when_no_account_of_it_is_well(world: Callable[..., LimitWorld]) -> None:
    here = world()
    process = here.process()
    first, second = (group for group in GROUPS.at("openai")[0].groups)

    def fail(group: LimitGroup) -> None:
        for _ in range(BreakerPolicy().failures_in_a_row):
            reservation = here.do(process.limiter.reserve(group, Need(), Lane.INTERACTIVE))
            here.said(process, partial(process.limiter.settle, reservation, Need(), Health.FAILS))

    fail(first)
    [room, free] = rooms(here, "openai")
    assert (room.out, free.out) == (None, None)
    assert room.most > 0
    fail(second)
    [room, free] = rooms(here, "openai")
    assert (room.most, free.most) == (0, 0)
    assert isinstance(room.out, BreakerOpen)
    assert isinstance(free.out, BreakerOpen), "a breaker is the account's, whatever the group"
    assert "openai/default is open: 5 failures in a row" in str(room.out)
    here.pass_s(room.next_in_s)
    [room, _] = rooms(here, "openai")
    assert (room.most, room.out is None) == (2, False), "one of each account goes to see how things are"
