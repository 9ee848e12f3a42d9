"""The batches of Celery's events where the broker fails: nothing is dropped, nothing breaks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from kombu.asynchronous.timer import Timer

from workers.events import EVENTS_AT_ONCE, EventBatches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TASKS = [f"task-{number}" for number in range(3)]


class World:
    """A consumer with its event dispatcher as Celery builds it, over a broker that can be away."""

    def __init__(self) -> None:
        self.app = Celery("world", broker="memory://", set_as_current=False)
        self.published: list[list[str]] = []
        self.away = False
        self.consumer = SimpleNamespace(event_dispatcher=None, timer=Timer())
        self.step = EventBatches(self.consumer)

    def connect(self, early: Sequence[str] = ()) -> None:
        """What Celery's own step does at each connection. `early`: tasks that end before ours has its turn."""
        before = self.consumer.event_dispatcher
        dispatcher = self.app.events.Dispatcher(
            self.app.connection_for_write(), buffer_group=["task"], on_send_buffered=None
        )
        dispatcher.producer = SimpleNamespace(publish=self._publish)
        self.consumer.event_dispatcher = dispatcher
        if before is not None:
            before.disable()
            dispatcher.extend_buffer(before)
        self.send(early)
        dispatcher.on_send_buffered = pytest.fail
        self.step.start(self.consumer)

    def _publish(self, events: list[dict[str, Any]], **_: Any) -> None:
        if self.away:
            raise ConnectionError
        self.published.append([event["uuid"] for event in events])

    def send(self, tasks: Sequence[str]) -> None:
        """A task event of each."""
        for task in tasks:
            self.consumer.event_dispatcher.send("task-started", uuid=task)

    def tick(self) -> None:
        """Let the one entry of the timer run, however early. Cancelled ones lie there until their time."""
        [entry] = [scheduled.entry for scheduled in self.consumer.timer.queue if not scheduled.entry.canceled]
        entry()


@pytest.fixture
def world() -> Iterator[World]:
    """Connected."""
    made = World()
    made.connect()
    yield made
    made.app.close()


def test_events_wait_for_the_timer(world: World) -> None:
    world.send(TASKS)
    assert world.published == []
    world.tick()
    assert world.published == [TASKS]


def test_many_events_do_not_wait(world: World) -> None:
    many = [f"many-{number}" for number in range(EVENTS_AT_ONCE + 1)]
    world.send(many)
    assert world.published == [many[:EVENTS_AT_ONCE]]


@pytest.mark.parametrize("ticks", [0, 1], ids=["noticed by the stop", "noticed by a tick"])
def test_what_a_broken_connection_did_not_take_goes_over_the_next(world: World, ticks: int) -> None:
    world.away = True
    world.send(TASKS)
    for _ in range(ticks):
        world.tick()
    world.step.stop(world.consumer)
    world.away = False
    world.connect()
    world.tick()
    assert world.published == [TASKS]


def test_what_tasks_tell_while_there_is_no_connection_goes_over_the_next(world: World) -> None:
    world.away = True
    world.step.stop(world.consumer)
    world.send(TASKS)
    world.away = False
    world.connect()
    world.tick()
    assert world.published == [TASKS]


def test_what_came_before_the_takeover_is_sent(world: World) -> None:
    world.step.stop(world.consumer)
    world.connect(early=TASKS)
    world.tick()
    assert world.published == [TASKS]


def test_a_stop_sends_what_is_left_and_a_second_one_does_no_harm(world: World) -> None:
    world.send(TASKS)
    world.step.stop(world.consumer)
    world.step.shutdown(world.consumer)
    assert world.published == [TASKS]


def test_a_stop_before_any_connection_is_quiet() -> None:
    unconnected = World()
    unconnected.step.stop(unconnected.consumer)
    assert unconnected.published == []
