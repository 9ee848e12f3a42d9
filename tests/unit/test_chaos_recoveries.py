"""Recovery times of the chaos bench, from moves whose times are known."""

from __future__ import annotations

import math

import pytest

from ops.bench.faults.judge import Move
from ops.bench.faults.outcome import worst
from ops.bench.faults.recoveries import Life, Outage, Wait, consuming, releasing, reruns

KILLED = Life("w1", 0.0, ended_s=100.0)
LIVING = Life("w2", 0.0)


def claim(at_s: float, incarnation: str) -> Move:
    return Move(at_s, "queued", "running", "claim", incarnation=incarnation)


def end(at_s: float, incarnation: str) -> Move:
    return Move(at_s, "running", "succeeded", "succeed", incarnation=incarnation)


def rescue(at_s: float, incarnation: str, to: str = "scheduled") -> Move:
    return Move(at_s, "running", to, "rescue", incarnation=incarnation)


LOST = [claim(99.0, "w1"), rescue(120.0, "w1"), claim(121.5, "w2"), end(122.0, "w2")]


def test_an_attempt_that_died_with_its_worker_ran_again() -> None:
    assert reruns({"a": LOST}, [KILLED, LIVING], [], []) == [Wait(21.5, 21.5)]


@pytest.mark.parametrize(
    ("outages", "own_s"),
    [
        ([Outage(90.0, 95.0), Outage(200.0, 201.0)], 21.5),
        ([Outage(105.0, 108.0)], 18.5),
        ([Outage(105.0, 108.0), Outage(106.0, 109.0), Outage(106.0, 107.0)], 17.5),
        ([Outage(95.0, 102.0)], 19.5),
        ([Outage(120.0, 130.0)], 20.0),
        ([Outage(105.0, 108.0, anew=True)], 13.5),
        ([Outage(105.0, 108.0, anew=True), Outage(104.0, 106.0), Outage(107.0, 109.0), Outage(111.0, 112.0)], 11.5),
        ([Outage(90.0, 95.0, anew=True)], 21.5),
    ],
)
def test_what_servers_were_away_is_left_out(outages: list[Outage], own_s: float) -> None:
    assert reruns({"a": LOST}, [KILLED, LIVING], outages, []) == [Wait(21.5, own_s)]


RELEASED = Move(121.0, "scheduled", "queued", "release")
AGAIN = Move(136.0, "queued", "queued", "republish")


def test_a_job_whose_message_may_have_been_lost_too_is_no_measure() -> None:
    moves = {"a": [*LOST[:2], RELEASED, AGAIN, claim(140.0, "w2")]}
    hit = reruns(moves, [KILLED, LIVING], [], [Outage(115.0, 121.2)])
    assert hit == [Wait(40.0, 40.0, hit_again=True)]
    assert hit[0].told == "job a: rescue +20.0, release +21.0, republish +36.0, claim +40.0"
    assert (worst(hit), worst(hit, whole=True)) == (None, 40.0)
    assert worst([*hit, Wait(21.5, 21.5)]) == 21.5


@pytest.mark.parametrize("losses", [[], [Outage(100.0, 120.5)], [Outage(137.0, 138.0)]])
def test_a_message_that_was_sent_again_for_no_loss_counts(losses: list[Outage]) -> None:
    """Nobody took it: too few workers, or a fault of ours."""
    moves = {"a": [*LOST[:2], RELEASED, AGAIN, claim(140.0, "w2")]}
    assert worst(reruns(moves, [KILLED, LIVING], [], losses)) == 40.0


def test_what_ended_before_the_kill_or_was_anothers_is_no_rerun() -> None:
    moves = {
        "ended": [claim(98.0, "w1"), end(99.0, "w1")],
        "anothers": [claim(99.0, "w2"), end(101.0, "w2")],
        "rescued before": [claim(50.0, "w1"), rescue(90.0, "w1"), claim(95.0, "w2"), end(101.0, "w2")],
        "dead letter": [claim(99.0, "w1"), rescue(120.0, "w1", to="failed")],
    }
    assert reruns(moves, [KILLED, LIVING], [], []) == []


@pytest.mark.parametrize("moves", [LOST[:1], LOST[:2]])
def test_a_job_that_never_ran_again_takes_for_ever(moves: list[Move]) -> None:
    found = reruns({"a": moves}, [KILLED, LIVING], [], [])
    assert found == [Wait(math.inf, math.inf)]
    assert worst(found) is None


def sent(at_s: float, provider: str = "") -> Move:
    return Move(at_s, "scheduled", "queued", "release", provider=provider)


def test_how_long_each_worker_took_to_consume_again() -> None:
    claims = [claim(at_s, name) for at_s, name in [(40.0, "w1"), (51.0, "w2"), (54.0, "w1"), (60.0, "w2")]]
    lives = [KILLED, LIVING, Life("late", 55.0)]
    assert consuming([sent(50.0), *claims], lives, [50.0], [], 10.0) == [Wait(4.0, 4.0), Wait(1.0, 1.0)]
    # Postgres was away for most of it.
    away = [Outage(50.5, 53.0)]
    assert consuming([sent(50.0), *claims], lives, [50.0], away, 10.0) == [Wait(4.0, 1.5), Wait(1.0, 0.5)]


def test_a_wait_begins_with_the_first_message_to_the_workers_provider() -> None:
    """While that is out of order its jobs go elsewhere; one that takes what lay there needs no other."""
    lives = [Life("w1", 0.0, provider="one"), Life("w2", 0.0, provider="two")]
    moves = [sent(50.0, "one"), claim(50.5, "w1"), sent(57.0, "two"), claim(58.0, "w2"), claim(80.0, "w1")]
    assert consuming(moves, lives, [50.0], [], 5.0) == [Wait(0.5, 0.5), Wait(1.0, 1.0)]
    assert consuming([*moves[:2], moves[-1]], lives, [50.0], [], 5.0) == [Wait(0.5, 0.5)]
    assert consuming([claim(50.2, "w2"), *moves], lives, [50.0], [], 5.0) == [Wait(0.5, 0.5), Wait(0.0, 0.0)]


def test_a_worker_that_never_consumes_again_is_seen() -> None:
    moves = [claim(40.0, "w1"), sent(50.0), claim(51.0, "w2"), claim(90.0, "w2")]
    assert consuming(moves, [Life("w1", 0.0), LIVING], [50.0], [], 10.0) == [Wait(40.0, math.inf), Wait(1.0, 1.0)]


def test_a_worker_that_was_killed_soon_says_nothing_and_later_a_lot() -> None:
    moves = [claim(40.0, "w1"), sent(50.0), claim(90.0, "w2")]
    assert consuming(moves, [Life("w1", 0.0, ended_s=58.0)], [50.0], [], 10.0) == []
    assert consuming(moves, [Life("w1", 0.0, stopped_s=58.0)], [50.0], [], 10.0) == []
    assert consuming(moves, [Life("w1", 0.0, ended_s=65.0)], [50.0], [], 10.0) == [Wait(15.0, 15.0)]


def test_a_job_that_lost_a_second_worker_comes_back_apart_from_others() -> None:
    retried = [claim(90.0, "w0"), Move(98.0, "running", "scheduled", "retry"), sent(98.5), *LOST]
    assert reruns({"a": retried}, [KILLED, LIVING], [], []) == [Wait(21.5, 21.5)]
    second = [claim(90.0, "w0"), rescue(98.0, "w0"), sent(98.5), *LOST]
    suspect = reruns({"a": second}, [KILLED, LIVING], [], [])
    assert suspect == [Wait(21.5, 21.5, apart=True)]
    assert (worst(suspect), worst(suspect, whole=True)) == (None, 21.5)


def test_the_next_release_after_a_dispatchers_death() -> None:
    releases = [99.9, 100.5, 103.0, 110.0]
    assert releasing(releases, [100.0, 105.0, 111.0], [Outage(104.0, 109.5, anew=True)]) == [
        Wait(0.5, 0.5),
        Wait(5.0, 0.5),
    ]


def test_the_worst_is_told_with_and_without_outages() -> None:
    found = [Wait(21.5, 13.5), Wait(14.0, 14.0)]
    assert (worst(found), worst(found, whole=True), worst([])) == (14.0, 21.5, None)
