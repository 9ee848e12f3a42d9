"""The end of a worker's runtime: nothing that runs on its loop keeps a thread, or a connection, for ever."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import pytest

from workers import runtime as runtime_room
from workers.departure import Departure
from workers.runtime import Runtime, Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG_S = 3_600.0
LONG = Departure(grace_s=LONG_S)
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

    attempts = SimpleNamespace(tasks=set())
    store = SimpleNamespace(retire=nothing)
    runner = SimpleNamespace(
        store=store,
        incarnation=None,
        run=stuck,
        hand_back=nothing,
        beat=nothing,
        give_back_unheld=nothing,
        attempts=attempts,
        stopping=False,
    )

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
    started.begin_stop(LONG)
    thread.join(WITHIN_S)
    assert came == ["stuck"]
    assert stuck.ended.is_set()


def test_a_tick_that_comes_while_the_worker_stops_is_left_to_the_next_one(started: Runtime, stuck: Stuck) -> None:
    started.begin_stop(LONG)
    started._ending.result(WITHIN_S)  # type: ignore[union-attr]
    assert started.tick("stuck") == "stuck"
    assert not stuck.begun.is_set()


def test_a_write_that_outlasts_the_end_is_cut(started: Runtime, stuck: Stuck) -> None:
    """Its connection goes back, and its thread ends: Celery would wait for it for ever."""
    thread, came = on_a_thread(lambda: started.run_job(uuid4(), 1, "fake"))
    assert stuck.begun.wait(WITHIN_S)
    started.begin_stop(Departure(grace_s=0.0, writes_s=0.05))
    thread.join(WITHIN_S)
    assert isinstance(came[0], CancelledError)
    assert stuck.ended.is_set()


class HangingPostgres:
    """A runner whose every statement hangs, as psycopg hangs: the first cancellation asks the server in vain."""

    def __init__(self) -> None:
        self.hangs = False
        self.attempts = SimpleNamespace(tasks=set())
        self.store = SimpleNamespace(retire=self.statement)
        self.incarnation, self.stopping = None, False
        self.begun, self.back = threading.Event(), asyncio.Event()

    async def statement(self, *_: object, **__: object) -> int:
        if self.hangs:
            with suppress(asyncio.CancelledError):
                await self.back.wait()
            await self.back.wait()
        return 0

    beat = hand_back = give_back_unheld = statement

    async def run(self, *_: object) -> None:
        self.begun.set()
        await self.statement()


@pytest.fixture
def hanging() -> Iterator[tuple[Runtime, HangingPostgres]]:
    runner = HangingPostgres()

    async def build() -> Services:
        return Services(runner=cast("Any", runner))

    runtime = Runtime(build)
    runtime.start()
    yield runtime, runner
    runner.hangs = False
    runtime._loop.call_soon_threadsafe(runner.back.set)
    with suppress(TimeoutError):
        runtime.stop()


def test_the_end_is_over_in_time_while_postgres_hangs(hanging: tuple[Runtime, HangingPostgres]) -> None:
    """The thread that waited for a write is free again, and it is known that nothing was handed back."""
    runtime, runner = hanging
    runner.hangs = True
    thread, came = on_a_thread(lambda: runtime.run_job(uuid4(), 1, "fake"))
    assert runner.begun.wait(WITHIN_S)
    runtime.begin_stop(Departure(grace_s=0.0, writes_s=0.0, cut_s=0.2, hand_back_s=0.05))
    with pytest.raises(TimeoutError):
        runtime.await_end(WITHIN_S)
    assert runtime._ending is not None
    assert runtime._ending.done(), "it ended by itself"
    thread.join(WITHIN_S)
    assert isinstance(came[0], CancelledError)
    with pytest.raises(TimeoutError):
        runtime.leave(0.05)


def test_the_calls_keep_their_time_while_postgres_hangs(hanging: tuple[Runtime, HangingPostgres]) -> None:
    """Telling it that the worker stops is not waited for: they are cancelled when the grace is over, not later."""
    runtime, runner = hanging
    call = asyncio.run_coroutine_threadsafe(runtime._tracked(asyncio.Event().wait()), runtime._loop)
    runtime._submit(asyncio.sleep(0)).result(WITHIN_S)
    runner.attempts.tasks = set(runtime._running)
    runner.hangs = True
    runtime.begin_stop(Departure(grace_s=0.05, writes_s=WITHIN_S, cut_s=0.0, hand_back_s=0.05))
    with pytest.raises(CancelledError):
        call.result(WITHIN_S / 2)


class Beats:
    """A runner whose heartbeats are counted, in an incarnation that nobody tells anything unless the test says so."""

    def __init__(self) -> None:
        self.count = 0
        self.away = False
        self.came = threading.Condition()
        self.standing: Callable[[bool], None] | None = None
        self.attempts = SimpleNamespace(tasks=set())
        self.store = SimpleNamespace(retire=self.nothing)
        self.incarnation, self.stopping = None, False

    async def nothing(self, *_: object, **__: object) -> int:
        return 0

    hand_back = give_back_unheld = nothing

    async def beat(self, **_: object) -> None:
        with self.came:
            self.count += 1
            self.came.notify_all()
        if self.away:
            raise ConnectionError("away")

    async def hear(self, standing: Callable[[bool], None]) -> None:
        self.standing = standing
        await asyncio.Event().wait()

    def wait_for(self, count: int) -> bool:
        with self.came:
            return self.came.wait_for(lambda: self.count >= count, WITHIN_S)


@pytest.fixture
def beats() -> Beats:
    return Beats()


@pytest.fixture
def beating(beats: Beats, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """A runtime that beats once an hour, and looks often while it hears nothing."""
    monkeypatch.setattr(runtime_room, "LOOK_S", 0.01)

    async def build() -> Services:
        return Services(runner=cast("Any", beats), hear=beats.hear)

    runtime = Runtime(build, heartbeat_s=LONG_S)
    runtime.start()
    yield runtime
    runtime.stop()


def stand(runtime: Runtime, beats: Beats, stands: bool) -> None:
    assert beats.standing is not None
    done = threading.Event()
    runtime._loop.call_soon_threadsafe(lambda: (beats.standing(stands), done.set()))  # type: ignore[misc]
    assert done.wait(WITHIN_S)


def test_while_nothing_is_heard_the_worker_looks_again_and_again(beating: Runtime, beats: Beats) -> None:
    assert beats.wait_for(5)


def test_while_it_hears_it_looks_with_its_heartbeats_alone(beating: Runtime, beats: Beats) -> None:
    """And once when the hearing begins, and once when it ceases: what was told in between is not heard any more."""
    assert beats.wait_for(2)
    stand(beating, beats, True)
    assert beats.wait_for(3)
    before = beats.count
    assert not threading.Event().wait(0.1)
    after = beats.count
    assert after - before <= 1, "the look that was due"
    stand(beating, beats, False)
    assert beats.wait_for(after + 5)


def test_a_heartbeat_that_is_not_heard_is_told_once(
    beating: Runtime, beats: Beats, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "workers.runtime")
    beats.away = True
    assert beats.wait_for(beats.count + 5)
    beats.away = False
    assert beats.wait_for(beats.count + 3)
    assert caplog.text.count("was not heard") == 1
    assert caplog.text.count("heard again") == 1
