"""Confirms as RabbitMQ may send them: one by one, many at once, out of order, refusals, returns, none at all."""

from __future__ import annotations

import time
from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.brokers.confirms import Confirms, Returned, Unconfirmed

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 5


class Rabbit:
    """A connection with one channel. `answers`: what `drain_events` finds, in order; then nothing."""

    def __init__(self, answers: list[tuple[Any, ...]] | None = None) -> None:
        self.answers = answers or []
        self.asked: list[str] = []
        self.events: dict[str, set[Callable[..., None]]] = defaultdict(set)
        self.on_blocked: Callable[[str], None] | None = None
        self.on_unblocked: Callable[[], None] | None = None
        self.channel = SimpleNamespace(
            connection=self, events=self.events, confirm_select=lambda nowait: self.asked.append("confirms")
        )
        self.published: list[dict[str, Any]] = []

    @property
    def producer(self) -> Any:
        return SimpleNamespace(
            channel=self.channel, publish=lambda body, **message: self.published.append({"body": body, **message})
        )

    def drain_events(self, timeout: float) -> None:
        if not self.answers:
            time.sleep(timeout)
            raise TimeoutError
        kind, *said = self.answers.pop(0)
        if kind == "blocked":
            assert self.on_blocked is not None
            self.on_blocked("")
            return
        for heard in self.events[kind]:
            heard(*said)


def send_all(confirms: Confirms) -> None:
    with confirms.batch() as send:
        for number in range(COUNT):
            send(number, exchange="", routing_key=f"queue-{number % 2}")


def publish(rabbit: Rabbit, *, within_s: float = 0.05) -> None:
    send_all(Confirms(rabbit.producer, rabbit.asked.append, within_s=within_s))


@given(st.permutations(range(1, COUNT + 1)))
def test_each_by_itself_in_any_order(numbers: list[int]) -> None:
    rabbit = Rabbit([("basic_ack", number, False) for number in numbers])
    publish(rabbit)
    assert [message["body"] for message in rabbit.published] == list(range(COUNT))
    assert all(message["mandatory"] for message in rabbit.published)
    assert rabbit.asked == ["confirms", "queue-0", "queue-1"], "each queue is declared once"


@given(st.lists(st.integers(1, COUNT), max_size=4))
def test_many_at_once(cuts: list[int]) -> None:
    publish(Rabbit([("basic_ack", number, True) for number in (*cuts, COUNT)]))


@given(st.sets(st.integers(1, COUNT), max_size=COUNT - 1))
def test_one_missing_is_all_missing(confirmed: set[int]) -> None:
    with pytest.raises(Unconfirmed, match=f"{COUNT - len(confirmed)} messages were not confirmed within"):
        publish(Rabbit([("basic_ack", number, False) for number in confirmed]), within_s=0.001)


def test_a_refusal_is_no_confirm() -> None:
    answers = [("basic_ack", 1, False), ("basic_nack", 3, True), ("basic_ack", COUNT, True)]
    with pytest.raises(Unconfirmed, match="refused"):
        publish(Rabbit(answers))


def test_what_comes_back_is_not_published() -> None:
    answers = [("basic_return", Exception(), "", "queue-1", None), ("basic_ack", COUNT, True)]
    with pytest.raises(Returned, match="queue-1"):
        publish(Rabbit(answers))


def test_a_blocked_connection_is_not_waited_for() -> None:
    began = time.monotonic()
    with pytest.raises(Unconfirmed, match="alarm"):
        publish(Rabbit([("basic_ack", 1, False), ("blocked",)]), within_s=60)
    assert time.monotonic() - began < 5


def test_a_second_batch_counts_on() -> None:
    """And forgets what was wrong with the first."""
    rabbit = Rabbit([("basic_nack", 1, False), ("basic_ack", COUNT, True)])
    confirms = Confirms(rabbit.producer, rabbit.asked.append, within_s=0.05)
    with pytest.raises(Unconfirmed):
        send_all(confirms)
    rabbit.answers = [("basic_ack", COUNT + 1, False)]
    with confirms.batch() as send:
        send("more", exchange="", routing_key="queue")


def test_a_batch_that_is_broken_off_is_not_waited_for() -> None:
    rabbit = Rabbit()
    confirms = Confirms(rabbit.producer, rabbit.asked.append, within_s=60)
    with pytest.raises(KeyError), confirms.batch():
        raise KeyError
