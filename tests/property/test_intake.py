"""A worker's intake on RabbitMQ, over a model of RabbitMQ's consumers: each has a prefetch of its own, nothing shared.

The way there and back takes as long as it likes: what was sent before a cancel was read still arrives.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from amqp import spec
from hypothesis import given
from hypothesis import strategies as st

from workers.brokers import intake
from workers.brokers.intake import Intake

QUEUES = ("interactive", "bulk", "system")


@dataclass
class Consumer:
    """What RabbitMQ knows of one. `credit`: how many messages it may be sent now."""

    queue: str
    credit: int


@dataclass
class World:
    """A worker, a RabbitMQ, and the wire between them. A message is the tag of the consumer that it was sent to."""

    slots: int
    prompt: bool
    """Whether RabbitMQ reads at once what it is told."""
    waiting: Counter[str] = field(default_factory=Counter)
    consumers: dict[str, Consumer] = field(default_factory=dict)
    prefetch: int = 0
    told: deque[tuple[Any, ...]] = field(default_factory=deque)
    """Commands that RabbitMQ has not read."""
    sent: deque[str] = field(default_factory=deque)
    """Messages that have not arrived."""
    held: list[str] = field(default_factory=list)
    most_held: int = 0

    def __post_init__(self) -> None:
        queues = [SimpleNamespace(name=name, consume=self._consume_of(name)) for name in QUEUES]
        channel = SimpleNamespace(connection=object(), send_method=self._send)
        self.tasks = SimpleNamespace(channel=channel, queues=queues, _active_tags={}, _receive_callback=None)
        self.worker = SimpleNamespace(
            task_consumer=self.tasks,
            pool=SimpleNamespace(num_processes=self.slots),
            hub=SimpleNamespace(on_tick=set()),
            on_task_message=set(),
        )

    def start(self) -> None:
        """As Celery does: our step, then its own opening of all queues."""
        self.step = Intake(self.worker)
        self.step.start(self.worker)
        for queue in self.tasks.queues:
            tag = self.tasks._active_tags[queue.name] = f"stock-{queue.name}"
            queue.consume(tag)

    def _consume_of(self, name: str) -> Any:
        return lambda tag, *_, **__: self._tell("consume", tag, name)

    def _send(self, method: Any, _format: str, arguments: tuple[Any, ...]) -> None:
        if method == spec.Basic.Qos:
            assert arguments[1] > 0, "0 is no limit at all"
            self._tell("qos", arguments[1])
        else:
            assert method == spec.Basic.Cancel
            self._tell("cancel", arguments[0])

    def _tell(self, *command: Any) -> None:
        self.told.append(command)
        if self.prompt:
            self.read()

    def read(self) -> None:
        """RabbitMQ reads one command."""
        if not self.told:
            return
        match self.told.popleft():
            case "qos", count:
                self.prefetch = count
            case "cancel", tag:
                del self.consumers[tag]
            case "consume", tag, queue:
                assert tag not in self.consumers, "a tag is used once"
                self.consumers[tag] = Consumer(queue, self.prefetch)

    def deliver(self, choice: int) -> bool:
        """RabbitMQ sends a message to one of the consumers that may have one."""
        able = sorted(tag for tag, it in self.consumers.items() if it.credit and self.waiting[it.queue])
        if not able:
            return False
        tag = able[choice % len(able)]
        self.consumers[tag].credit -= 1
        self.waiting[self.consumers[tag].queue] -= 1
        self.sent.append(tag)
        return True

    def arrive(self) -> None:
        """The worker gets one message, and looks."""
        if self.sent:
            self.held.append(self.sent.popleft())
            self.most_held = max(self.most_held, len(self.held))
            for heard in tuple(self.worker.on_task_message):
                heard(None)
        self.tick()

    def finish(self, choice: int) -> None:
        """A job ends, and is acknowledged: its consumer, if it is still there, may have another message."""
        if self.held:
            tag = self.held.pop(choice % len(self.held))
            if tag in self.consumers:
                self.consumers[tag].credit += 1
            self.tick()

    def tick(self) -> None:
        """The worker's loop turns."""
        for look in tuple(self.worker.hub.on_tick):
            look()

    def settle(self) -> None:
        """Let everything arrive."""
        while self.told or self.sent or self.deliver(0):
            self.read()
            self.arrive()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(QUEUES)),
        st.tuples(st.sampled_from(["deliver", "finish"]), st.integers(0, 50)),
        st.tuples(st.sampled_from(["read", "arrive"]), st.none()),
    ),
    max_size=120,
)


def play(world: World, steps: list[tuple[str, Any]]) -> None:
    world.start()
    for step, what in steps:
        match step:
            case "publish":
                world.waiting[what] += 1
            case "deliver":
                world.deliver(what)
                if world.prompt:
                    world.arrive()
            case "finish":
                world.finish(what)
            case "read":
                world.read()
            case "arrive":
                world.arrive()


@given(slots=st.integers(1, 6), steps=STEPS)
def test_where_the_wire_is_quick_no_message_is_held_without_a_slot(slots: int, steps: list[tuple[str, Any]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(slots, prompt=True)
        patch.setattr(intake, "state", SimpleNamespace(reserved_requests=world.held))
        play(world, steps)
        assert world.most_held <= slots


@given(slots=st.integers(1, 6), steps=STEPS)
def test_however_slow_the_wire_every_slot_is_used_and_a_full_worker_is_closed(
    slots: int, steps: list[tuple[str, Any]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(slots, prompt=False)
        patch.setattr(intake, "state", SimpleNamespace(reserved_requests=world.held))
        play(world, steps)
        world.settle()
        assert world.most_held <= slots * len(QUEUES), "no worse than a prefetch for each queue"
        if len(world.held) >= slots:
            assert not world.consumers
        else:
            assert {it.queue for it in world.consumers.values() if it.credit > 0} == set(QUEUES)
            assert not +world.waiting, "nothing waits where a slot is free"


def test_at_the_end_nothing_is_looked_at_any_more() -> None:
    world = World(2, prompt=True)
    world.start()
    world.step.stop(world.worker)
    assert not world.worker.hub.on_tick
    assert not world.worker.on_task_message
    world.step.stop(world.worker)
