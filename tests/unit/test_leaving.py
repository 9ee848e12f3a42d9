"""A stopping worker's way out: with Celery if that ends in time, without it where its broker holds it up."""

from __future__ import annotations

import threading

import pytest

from workers import leaving
from workers.leaving import LET_GO_S, Leaving
from workers.worker import GRACE_S

WITHIN_S = 10.0
KILLED_AFTER_S = 30.0
"""`terminationGracePeriodSeconds` of Kubernetes, where nobody says otherwise."""


class Runtime:
    """Ends when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.ended, self.left = threading.Event(), threading.Event()
        self.error = error

    def await_end(self) -> None:
        assert self.ended.wait(WITHIN_S)
        if self.error is not None:
            raise self.error

    def leave(self) -> None:
        self.left.set()


@pytest.fixture
def no_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to wait for the second that Celery has in any case."""
    monkeypatch.setattr(leaving, "LEAST_S", 0.0)


class Exit:
    def __init__(self) -> None:
        self.codes: list[int] = []
        self.happened = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.happened.set()


def test_who_is_let_go_in_time_is_not_forced() -> None:
    runtime, forced = Runtime(), Exit()
    leaving = Leaving(runtime, 25.0, let_go_s=WITHIN_S, exit_now=forced)
    leaving.begin()
    runtime.ended.set()
    leaving.done()
    assert (forced.codes, runtime.left.is_set()) == ([], False)
    assert not leaving._thread.is_alive()


def test_who_was_never_told_to_stop_leaves_no_thread() -> None:
    leaving = Leaving(Runtime(), 25.0, exit_now=Exit())
    leaving.done()
    assert not leaving._thread.is_alive()


@pytest.mark.usefixtures("no_least")
def test_celery_held_up_by_its_broker_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """Once all is handed back, and the incarnation is off the list."""
    runtime, forced = Runtime(), Exit()
    leaving = Leaving(runtime, 0.0, let_go_s=0.0, exit_now=forced)
    leaving.begin()
    assert not forced.happened.wait(0.05), "it still runs something"
    runtime.ended.set()
    assert forced.happened.wait(WITHIN_S)
    assert (forced.codes, runtime.left.is_set()) == ([0], True)
    assert "the broker holds Celery up" in caplog.text
    leaving.done()


@pytest.mark.usefixtures("no_least")
@pytest.mark.parametrize("error", [ConnectionError("away"), TimeoutError("late")])
def test_what_was_not_handed_back_shows_in_the_exit_code(error: Exception) -> None:
    runtime, forced = Runtime(error), Exit()
    leaving = Leaving(runtime, 0.0, let_go_s=0.0, exit_now=forced)
    runtime.ended.set()
    leaving.begin()
    assert forced.happened.wait(WITHIN_S)
    assert forced.codes == [1]
    leaving.done()


@pytest.mark.usefixtures("no_least")
def test_last_words_that_fail_do_not_keep_it() -> None:
    class Mute(Runtime):
        def leave(self) -> None:
            raise TimeoutError

    runtime, forced = Mute(), Exit()
    leaving = Leaving(runtime, 0.0, let_go_s=0.0, exit_now=forced)
    runtime.ended.set()
    leaving.begin()
    assert forced.happened.wait(WITHIN_S)
    leaving.done()


@pytest.mark.parametrize(
    ("ended_after_s", "leaves_after_s"), [(0.0, LET_GO_S), (10.0, 14.0), (25.2, 29.0), (27.0, 29.0), (28.5, 29.5)]
)
def test_with_the_usual_grace_it_is_gone_before_kubernetes_kills(ended_after_s: float, leaves_after_s: float) -> None:
    leaving = Leaving(Runtime(), GRACE_S, exit_now=Exit())
    leaving._asked_at = 100.0
    assert ended_after_s + leaving._patience_s(100.0 + ended_after_s) == pytest.approx(leaves_after_s)
    assert leaves_after_s < KILLED_AFTER_S
    leaving.done()
