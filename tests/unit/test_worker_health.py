"""What a worker's health is judged by: each sign alone, and what is noted between two looks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest

from workers.health.findings import Health, Problem
from workers.health.pulse import REMEMBERED_TICKS, TICK_S, LoopTicker, Pulse
from workers.health.thresholds import Thresholds
from workers.health.worker import LOOKED_LATELY_S, WorkerHealth, WorkerSigns, judge

AT = Thresholds()
WELL = WorkerSigns(slots=4)


@pytest.mark.parametrize(
    ("changes", "part", "deadly"),
    [
        ({"loop_late_s": AT.late_s}, "loop", False),
        ({"loop_late_s": AT.stuck_s}, "loop", True),
        ({"heartbeat_s": AT.silent_s}, "postgres", False),
        ({"heartbeat_s": 3600.0}, "postgres", False),
        ({"heartbeat_s": 3600.0, "postgres_back_s": AT.back_s - 1}, "heartbeat", False),
        ({"heartbeat_s": AT.mute_s - 1, "postgres_back_s": AT.back_s}, "heartbeat", False),
        ({"heartbeat_s": AT.mute_s, "postgres_back_s": AT.back_s}, "heartbeat", True),
        ({"waiting": None}, "broker", False),
        ({"looked_s": None}, "broker", False),
        ({"looked_s": LOOKED_LATELY_S + 1}, "health", False),
        ({"consuming": False}, "consumer", False),
        ({"waiting": 9, "idle_s": AT.idle_s}, "consumer", True),
        ({"busy": 4, "still_s": 300.0}, "pool", True),
        ({"stopping": True}, "worker", False),
    ],
)
def test_each_sign_alone(changes: dict[str, Any], part: str, deadly: bool) -> None:
    health = judge(replace(WELL, **changes), AT)
    [problem] = health.problems
    assert (problem.part, problem.deadly) == (part, deadly)
    assert (health.live, health.ready) == (not deadly, False)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loop_late_s": AT.late_s - 0.1},
        {"heartbeat_s": AT.silent_s - 0.1},
        {"waiting": 9, "idle_s": AT.idle_s - 1},
        {"busy": 4, "still_s": 299.0},
        {"busy": 3, "still_s": 3600.0},
    ],
)
def test_what_is_well(changes: dict[str, Any]) -> None:
    health = judge(replace(WELL, **changes), AT)
    assert (health.live, health.ready, health.problems) == (True, True, [])


def test_a_worker_that_is_stopping_is_not_blamed_for_taking_nothing() -> None:
    assert judge(replace(WELL, stopping=True, consuming=False, waiting=9, idle_s=3600.0), AT).live


def test_the_document_has_the_figures_beside_what_is_wrong() -> None:
    document = judge(replace(WELL, loop_late_s=12.3456), AT).document()
    assert (document["live"], document["ready"], document["loop_late_s"]) == (False, False, 12.346)
    assert document["problems"] == [
        {"part": "loop", "problem": "the event loop is 12.3 s late: something on it blocks", "deadly": True}
    ]


def test_each_figure_leaves_room_for_what_it_waits_for() -> None:
    """A loop is given up before the fleet takes its worker for dead; nothing before kombu has looked again."""
    assert AT.late_s < AT.stuck_s < 20.0
    assert AT.silent_s < AT.mute_s
    assert min(AT.idle_s, AT.mute_s) > AT.back_s >= 30.0
    assert AT.look_every_s < AT.back_s


# Looking ----------------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Queue:
    """Implements what `WorkerHealth` needs of `Broker`."""

    length: int | None = 0
    closed: bool = False

    def waiting(self) -> int | None:
        return self.length

    def close(self) -> None:
        self.closed = True


class World:
    def __init__(self, slots: int = 2) -> None:
        self.clock, self.queue = Clock(), Queue()
        self.pulse = Pulse(self.clock)
        self.pulse.consuming = True
        self.postgres, self.asked = True, 0
        self.watch = WorkerHealth(
            self.pulse,
            self.queue,  # type: ignore[arg-type]
            self.answers,
            slots=slots,
            longest_s=300.0,
            thresholds=AT,
        )

    def answers(self) -> bool:
        self.asked += 1
        return self.postgres

    def passes(self, seconds: float, *, heartbeats: bool = True) -> Health:
        """Let time pass, with a look every five seconds."""
        for _ in range(round(seconds / AT.look_every_s)):
            self.clock.now += AT.look_every_s
            if heartbeats:
                self.pulse.heartbeat()
            self.watch.look()
        return self.watch.health()


def of(health: Health) -> list[tuple[str, bool]]:
    return [(problem.part, problem.deadly) for problem in health.problems]


def test_messages_that_nobody_takes_for_a_minute_are_the_end() -> None:
    world = World()
    world.queue.length = 3
    assert of(world.passes(AT.idle_s)) == []
    assert of(world.passes(AT.look_every_s)) == [("consumer", True)]


@pytest.mark.parametrize("happens", ["taken", "empty", "away", "busy"])
def test_whatever_explains_it_starts_the_minute_anew(happens: str) -> None:
    world = World(slots=1)
    world.queue.length = 3
    world.passes(AT.idle_s - AT.look_every_s)
    match happens:
        case "taken":
            with world.pulse.slot():
                pass
            world.passes(AT.look_every_s)
        case "empty":
            world.queue.length = 0
            world.passes(AT.look_every_s)
        case "away":
            world.queue.length = None
            world.passes(AT.look_every_s)
        case "busy":
            with world.pulse.slot():
                world.passes(AT.look_every_s)
    world.queue.length = 3
    assert of(world.passes(AT.idle_s)) == []
    assert of(world.passes(AT.look_every_s)) == [("consumer", True)]


def test_a_broker_that_is_away_for_hours_kills_nobody_and_one_that_is_back_is_judged_anew() -> None:
    world = World()
    world.queue.length = None
    assert of(world.passes(3600.0)) == [("broker", False)]
    world.queue.length = 3
    assert of(world.passes(AT.idle_s)) == []
    assert of(world.passes(AT.look_every_s)) == [("consumer", True)]


def test_missing_heartbeats_count_from_when_postgres_answers() -> None:
    world = World()
    world.postgres = False
    assert of(world.passes(3600.0, heartbeats=False)) == [("postgres", False)]
    world.postgres = True
    assert of(world.passes(AT.back_s, heartbeats=False)) == [("heartbeat", False)]
    assert of(world.passes(AT.look_every_s, heartbeats=False)) == [("heartbeat", True)]
    assert of(world.passes(AT.look_every_s)) == []


def test_postgres_is_not_asked_while_heartbeats_are_written() -> None:
    world = World()
    world.passes(600.0)
    assert world.asked == 0


def test_slots_that_are_all_in_use_and_never_freed_are_the_end() -> None:
    world = World(slots=2)
    with world.pulse.slot(), world.pulse.slot():
        assert of(world.passes(295.0)) == []
        assert of(world.passes(5.0)) == [("pool", True)]
    assert of(world.watch.health()) == []
    assert (world.pulse.taken, world.pulse.busy) == (2, 0)


def test_before_the_first_look_nothing_is_known_of_the_broker() -> None:
    assert World().watch.health().problems == [Problem("broker", "it has not been asked yet")]


def test_what_was_held_is_let_go() -> None:
    world = World()
    world.watch.close()
    assert world.queue.closed


# The loop ---------------------------------------------------------------------------------------------------------


async def test_a_blocked_loop_is_seen_while_it_is_blocked_and_remembered_for_a_while() -> None:
    ticker = LoopTicker()
    assert ticker.late_s == 0.0
    ticker.start()
    time.sleep(TICK_S + 0.2)  # noqa: ASYNC251  the loop is to stand still
    assert ticker.late_s >= 0.2
    await asyncio.sleep(0)
    assert 0.2 <= ticker.late_s < 5.0


def test_a_stumble_is_forgotten_after_ten_seconds() -> None:
    clock = Clock()
    ticker = LoopTicker(clock)
    loop = Calls()
    ticker._next(loop)  # type: ignore[arg-type]
    clock.now += TICK_S + 3.0
    ticker._next(loop)  # type: ignore[arg-type]
    assert ticker.late_s == 3.0
    for _ in range(REMEMBERED_TICKS):
        clock.now += TICK_S
        ticker._next(loop)  # type: ignore[arg-type]
    assert ticker.late_s == 0.0
    assert set(loop.pauses) == {TICK_S}


class Calls:
    """Implements what the ticker needs of a loop."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def call_later(self, pause_s: float, *_: Any) -> None:
        self.pauses.append(pause_s)
