"""What a dispatcher's health and beat's are judged by."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.dispatch_policy import Policy
from workers.health.beat import BeatHealth
from workers.health.dispatcher import DispatcherHealth
from workers.health.findings import Health
from workers.health.thresholds import Thresholds

AT = Thresholds()
EVERY_S = {"release one": 1.0, "expire": 30.0}


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Neighbours:
    postgres: bool = True
    broker: int | None = 0
    asked: int = 0

    def answers(self) -> bool:
        self.asked += 1
        return self.postgres

    def waiting(self) -> int | None:
        return self.broker

    def close(self) -> None:
        self.broker = None


class World:
    def __init__(self) -> None:
        self.clock, self.neighbours = Clock(), Neighbours()
        self.watch = DispatcherHealth(
            EVERY_S,
            self.neighbours,  # type: ignore[arg-type]
            self.neighbours.answers,
            thresholds=AT,
            clock=self.clock,
        )

    def passes(self, seconds: float, *done: str) -> Health:
        """Let time pass, with a look every five seconds, and these pieces of work done before each."""
        for _ in range(round(seconds / AT.look_every_s)):
            self.clock.now += AT.look_every_s
            for work in done:
                self.watch.passed(work)
            self.watch.look()
        return self.watch.health()


def said(health: Health) -> list[tuple[str, bool]]:
    return [(problem.problem.partition(":")[0], problem.deadly) for problem in health.problems]


def test_one_that_passes_is_well_and_asks_nobody() -> None:
    world = World()
    health = world.passes(600.0, *EVERY_S)
    assert (health.live, health.ready, world.neighbours.asked) == (True, True, 0)
    assert health.figures["passed_s"]["release one"] == 0.0


def test_a_piece_of_work_that_is_never_done_is_the_end_though_the_others_are() -> None:
    world = World()
    assert said(world.passes(20.0, "expire")) == [("release one", False)]
    assert said(world.passes(60.0, "expire")) == [("release one", True)]
    assert world.watch.health().live is False
    assert said(world.passes(5.0, *EVERY_S)) == []


def test_each_piece_is_given_its_own_period() -> None:
    world = World()
    assert said(world.passes(40.0, "release one")) == []
    assert said(world.passes(5.0, "release one")) == [("expire", False)]


def test_stores_that_are_away_are_no_reason_and_standing_still_once_they_are_back_is() -> None:
    for away in ("postgres", "broker"):
        world = World()
        setattr(world.neighbours, away, False if away == "postgres" else None)
        health = world.passes(3600.0)
        assert (health.live, health.ready) == (True, False)
        world.neighbours.postgres, world.neighbours.broker = True, 0
        assert world.passes(AT.back_s).live
        assert not world.passes(AT.look_every_s).live


def test_a_dispatcher_has_a_pass_for_each_provider_and_each_chore() -> None:
    policy = Policy()
    assert policy.periods_s(["one", "two"]) == {
        "release one": policy.poll_s,
        "release two": policy.poll_s,
        "promote": policy.poll_s,
        "republish": policy.republish_every_s,
        "replay": policy.replay_every_s,
        "expire": policy.expire_every_s,
        "rescue": policy.rescue_every_s,
    }
    assert "rescue" not in Policy(rescue=False).periods_s(["one"])


def test_beat_is_well_while_its_scheduler_turns() -> None:
    clock = Clock()
    watch = BeatHealth(AT, clock)
    clock.now += AT.beat_silent_s - 1
    assert watch.health().ready
    clock.now += 1
    assert not watch.health().live
    watch.turned()
    assert watch.health().ready
