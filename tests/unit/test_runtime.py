"""The end of a worker's runtime: nothing that runs on its loop keeps a thread, or a connection, for ever."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import pytest

from workers import runtime as runtime_room
from workers.runtime import Runtime, Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG_S = 3_600.0
WITHIN_S = 10.0


class Stuck:
    """Work that never ends by itself."""

    def __init__(self) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()

    async def __call__(self, *_: object) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


@pytest.fixture
def stuck() -> Stuck:
    return Stuck()


@pytest.fixture
def started(stuck: Stuck) -> Iterator[Runtime]:
    """A runtime whose one tick, and whose every job, is stuck."""

    async def nothing(*_: object, **__: object) -> int:
        return 0

    store = SimpleNamespace(heartbeat=nothing, retire=nothing)
    runner = SimpleNamespace(store=store, incarnation=None, run=stuck, hand_back=nothing, calling=set(), stopping=False)

    async def build() -> Services:
        return Services(runner=cast("Any", runner), ticks={"stuck": stuck})

    runtime = Runtime(build)
    runtime.start()
    yield runtime
    runtime.stop()


def on_a_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Do something as one of Celery's threads does; what comes of it, an error included, is in the list."""
    came: list[object] = []

    def wait() -> None:
        try:
            came.append(work())
        except CancelledError as error:
            came.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread, came


def test_a_tick_under_way_does_not_hold_up_the_stop(started: Runtime, stuck: Stuck) -> None:
    """A night of a million inputs takes an hour; whoever ticks next goes on with it."""
    thread, came = on_a_thread(lambda: started.tick("stuck"))
    assert stuck.begun.wait(WITHIN_S)
    started.begin_stop(LONG_S)
    thread.join(WITHIN_S)
    assert came == ["stuck"]
    assert stuck.ended.is_set()


def test_a_tick_that_comes_while_the_worker_stops_is_left_to_the_next_one(started: Runtime, stuck: Stuck) -> None:
    started.begin_stop(LONG_S)
    started._ending.result(WITHIN_S)  # type: ignore[union-attr]
    assert started.tick("stuck") == "stuck"
    assert not stuck.begun.is_set()


def test_a_write_that_outlasts_the_end_is_cut(started: Runtime, stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection goes back, and its thread ends: Celery would wait for it for ever."""
    monkeypatch.setattr(runtime_room, "SETTLE_S", 0.05)
    thread, came = on_a_thread(lambda: started.run_job(uuid4(), 1, "fake"))
    assert stuck.begun.wait(WITHIN_S)
    started.begin_stop(0.0)
    thread.join(WITHIN_S)
    assert isinstance(came[0], CancelledError)
    assert stuck.ended.is_set()
