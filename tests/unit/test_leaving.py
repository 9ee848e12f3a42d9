"""A stopping process's way out: with Celery if that ends in time, without it where something holds it up."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import pytest

from workers.departure import GONE_WITHIN_S, KILLED_AFTER_S, Departure
from workers.leaving import LET_GO_S, Leaving, gone_within

WITHIN_S = 10.0
NEVER_S = 3_600.0
LONG = Departure(grace_s=NEVER_S)
SHORT = Departure(grace_s=0.0, writes_s=0.0, cut_s=0.0, hand_back_s=0.05, last_words_s=0.05)


class Runtime:
    """Ends when it is told to; that, and its last words, are bounded as they are asked to be."""

    def __init__(self, error: Exception | None = None) -> None:
        self.ended: Future[None] = Future()
        self.left = threading.Event()
        self.error = error
        self.within_s: list[float] = []

    def end(self) -> None:
        """All is handed back, or it is known that it cannot be."""
        if self.error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(self.error)

    def await_end(self, within_s: float) -> None:
        self.within_s.append(within_s)
        self.ended.result(min(within_s, WITHIN_S))

    def leave(self, within_s: float) -> None:
        self.within_s.append(within_s)
        self.left.set()


class Exit:
    def __init__(self) -> None:
        self.codes: list[int] = []
        self.happened = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.happened.set()


def test_who_is_let_go_in_time_is_not_forced() -> None:
    runtime, forced = Runtime(), Exit()
    leaving = Leaving(runtime, LONG, let_go_s=WITHIN_S, exit_now=forced)
    leaving.begin()
    runtime.end()
    leaving.let_go()
    leaving.done()
    assert (forced.codes, runtime.left.is_set()) == ([], False)
    assert not leaving._thread.is_alive()


def test_who_was_never_told_to_stop_leaves_no_thread() -> None:
    leaving = Leaving(Runtime(), LONG, exit_now=Exit())
    leaving.let_go()
    leaving.done()
    assert not leaving._thread.is_alive()


def test_celery_held_up_by_its_broker_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """Once all is handed back, and the incarnation is off the list."""
    runtime, forced = Runtime(), Exit()
    leaving = Leaving(runtime, LONG, let_go_s=0.0, exit_now=forced)
    leaving.begin()
    assert not forced.happened.wait(0.05), "it still runs something"
    runtime.end()
    assert forced.happened.wait(WITHIN_S)
    assert (forced.codes, runtime.left.is_set()) == ([0], True)
    assert "the worker ends without it" in caplog.text
    leaving.done()


@pytest.mark.parametrize("error", [ConnectionError("away"), TimeoutError("late")])
def test_what_was_not_handed_back_shows_in_the_exit_code(error: Exception) -> None:
    runtime, forced = Runtime(error), Exit()
    leaving = Leaving(runtime, LONG, let_go_s=0.0, exit_now=forced)
    runtime.end()
    leaving.begin()
    assert forced.happened.wait(WITHIN_S)
    assert forced.codes == [1]
    leaving.done()


def test_an_end_that_never_comes_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Postgres hangs: what is not handed back by the deadline is left to the dispatcher."""
    runtime, forced = Runtime(), Exit()
    leaving = Leaving(runtime, SHORT, let_go_s=NEVER_S, exit_now=forced)
    began = time.monotonic()
    leaving.begin()
    assert forced.happened.wait(WITHIN_S)
    assert SHORT.handed_back_s <= time.monotonic() - began
    assert (forced.codes, runtime.left.is_set()) == ([1], True)
    assert "left to the dispatcher: TimeoutError" in caplog.text
    leaving.done()


def test_a_closing_that_never_ends_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    runtime, forced = Runtime(), Exit()
    leaving = Leaving(runtime, SHORT, exit_now=forced)
    leaving.begin()
    runtime.end()
    leaving.let_go()
    assert forced.happened.wait(WITHIN_S)
    assert (forced.codes, runtime.left.is_set()) == ([0], False)
    assert "closing takes too long" in caplog.text
    leaving.done()


def test_last_words_that_fail_do_not_keep_it() -> None:
    class Mute(Runtime):
        def leave(self, within_s: float) -> None:
            raise TimeoutError

    runtime, forced = Mute(), Exit()
    leaving = Leaving(runtime, LONG, let_go_s=0.0, exit_now=forced)
    runtime.end()
    leaving.begin()
    assert forced.happened.wait(WITHIN_S)
    leaving.done()


@pytest.mark.parametrize("departure", [Departure(), Departure(grace_s=0.0), Departure(grace_s=600.0)])
def test_its_waits_end_with_its_deadline(departure: Departure) -> None:
    """What is awaited is given what is left until then, from the signal on, and no more."""
    runtime, forced = Runtime(TimeoutError()), Exit()
    leaving = Leaving(runtime, departure, let_go_s=0.0, exit_now=forced)
    leaving.begin()
    runtime.end()
    assert forced.happened.wait(WITHIN_S)
    await_end_s, leave_s = runtime.within_s
    assert departure.handed_back_s - WITHIN_S < await_end_s <= departure.handed_back_s
    assert departure.gone_s - WITHIN_S < leave_s <= departure.gone_s
    leaving.done()


def test_with_the_usual_grace_it_is_gone_before_kubernetes_kills() -> None:
    """And has time left for Celery where all goes well; a longer grace puts the deadline off by as much."""
    usual = Departure()
    assert usual.gone_s == GONE_WITHIN_S < KILLED_AFTER_S
    assert usual.grace_s + LET_GO_S <= usual.handed_back_s
    assert Departure(usual.grace_s + 100.0).gone_s == GONE_WITHIN_S + 100.0


def test_a_process_that_was_told_to_stop_and_does_not_is_left(caplog: pytest.LogCaptureFixture) -> None:
    forced = Exit()
    with gone_within(0.0, exit_now=forced) as told_to_stop:
        assert not forced.happened.wait(0.05), "nobody told it"
        told_to_stop()
        assert forced.happened.wait(WITHIN_S)
    assert forced.codes == [0]
    assert "the process ends without it" in caplog.text


def test_a_process_that_ends_in_time_is_not_forced() -> None:
    forced = Exit()
    with gone_within(NEVER_S, exit_now=forced) as told_to_stop:
        told_to_stop()
    with gone_within(0.0, exit_now=forced):
        pass
    assert forced.codes == []
    assert "assayline-leaving" not in {thread.name for thread in threading.enumerate()}
