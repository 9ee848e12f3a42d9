"""The judge of the chaos bench: forged records, one for each kind of violation, and clean ones that must pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ops.bench.faults import peer
from ops.bench.faults.conduct import Manner, answer_to
from ops.bench.faults.judge import VIOLATIONS, Call, Line, Move, Records, Stored, judge, paid_again, told
from ops.bench.faults.outcome import Outcome, report
from ops.bench.report import Options

MOVES = (
    Move(1.0, "scheduled", "queued", "release", (0, 1), (0, 0)),
    Move(2.0, "queued", "running", "claim", (1, 1), (0, 1), "worker-1"),
    Move(3.0, "running", "succeeded", "succeed", (1, 1), (1, 1), "worker-1"),
)
RESCUED = (
    *MOVES[:2],
    Move(25.0, "running", "scheduled", "rescue", (1, 1), (1, 1), "worker-1"),
    Move(26.0, "scheduled", "queued", "release", (1, 2), (1, 1), "worker-1"),
    Move(27.0, "queued", "running", "claim", (2, 2), (1, 2), "worker-2"),
    Move(28.0, "running", "succeeded", "succeed", (2, 2), (2, 2), "worker-2"),
)
GOOD = Stored("a", "id-a", "succeeded", "succeed", MOVES, (Line("succeeded", "call-1"),), 1, answer_to("a"))
CALL = Call("call-1", "a", Manner.WELL, 2.5)
SECOND = Call("call-2", "a", Manner.WELL, 27.5)


def judged(job: Stored | None = GOOD, *calls: Call, asked: tuple[str, ...] = ("a",)) -> dict[str, list[str]]:
    jobs = [] if job is None else [job]
    found = judge(Records(asked, jobs, calls or (CALL,)))
    return {name: said for name, said in found.items() if said}


def changed(**fields: Any) -> Stored:
    return replace(GOOD, **fields)


def test_a_job_that_went_well_breaks_nothing() -> None:
    assert judged() == {}
    assert judged(changed(announced=answer_to("a"))) == {}
    assert list(judge(Records((), (), ()))) == list(VIOLATIONS)


def test_a_job_run_again_after_its_worker_died_breaks_nothing() -> None:
    again = changed(moves=RESCUED, ledger=(Line("unknown"), Line("succeeded", "call-2")))
    assert judged(again, CALL, SECOND) == {}
    # The worker died before it had made its call: more rows than calls are no harm.
    assert judged(again, SECOND) == {}
    assert paid_again(Records(("a",), [again], [CALL, SECOND])) == {"jobs": 1, "calls": 1, "reasked": 0}


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (None, "a: taken, and not there"),
        (
            changed(state="queued", reason="release", moves=MOVES[:1], written=0, result=None),
            "is queued still (release)",
        ),
        (
            changed(
                state="failed",
                reason="server_error",
                moves=(*MOVES[:2], Move(3.0, "running", "failed", "server_error", (1, 1), (1, 1))),
                written=0,
                result=None,
            ),
            "is failed (server_error)",
        ),
    ],
)
def test_a_job_that_did_not_end_well_is_lost(job: Stored | None, said: str) -> None:
    calls = () if job else (Call("call-9", "other", Manner.HANG, 1.0),)
    found = judged(job, *calls)
    assert said in found["jobs lost"][0]
    assert set(found) <= {"jobs lost", "calls without a ledger row"}


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (changed(written=2), "2 results written, ended well 1 times"),
        (changed(announced={"label": "other"}), "announced was {'label': 'other'}"),
    ],
)
def test_two_results_are_one_too_many(job: Stored, said: str) -> None:
    found = judged(job)
    assert list(found) == ["results doubled"]
    assert said in found["results doubled"][0]


def test_a_key_that_made_two_jobs_is_a_double() -> None:
    jobs = [GOOD, changed(id="id-b", ledger=())]
    assert judge(Records(("a",), jobs, [CALL]))["results doubled"] == ["a: 2 jobs"]


def test_a_result_of_another_job_is_seen() -> None:
    assert list(judged(changed(result=answer_to("b")))) == ["results of another job, or none"]
    assert list(judged(changed(result=None))) == ["results of another job, or none"]


ZOMBIE = Move(29.0, "succeeded", "succeeded", "succeed", (2, 2), (2, 2), "worker-1")


@pytest.mark.parametrize(
    ("moves", "said"),
    [
        ((*RESCUED, ZOMBIE), "succeeded to succeeded (succeed) is no move"),
        ((MOVES[0], MOVES[2]), "running to succeeded (succeed) does not follow on queued, release 1, claim 0"),
        ((MOVES[0], replace(MOVES[1], claimed=(0, 2)), MOVES[2]), "took its claim_no from 0 to 2"),
        ((MOVES[0], MOVES[1], replace(MOVES[2], claimed=(1, 2))), "took its claim_no from 1 to 2"),
        ((replace(MOVES[0], released=(0, 2)), *MOVES[1:]), "took its release from 0 to 2"),
        ((MOVES[0], replace(MOVES[1], released=(1, 0)), MOVES[2]), "took its release from 1 to 0"),
        (MOVES[:2], "stands as succeeded, and its last move led to running"),
    ],
)
def test_a_move_that_there_is_not_is_illegal(moves: tuple[Move, ...], said: str) -> None:
    found = judged(changed(moves=moves))["jobs in an illegal state"]
    assert said in found[0]


def test_an_end_written_by_a_worker_that_lost_the_job_is_doubled_and_illegal() -> None:
    zombies = changed(
        moves=(*RESCUED, ZOMBIE), written=2, ledger=(Line("succeeded", "call-1"), Line("succeeded", "call-2"))
    )
    assert list(judged(zombies, CALL, SECOND)) == ["results doubled", "jobs in an illegal state"]


def test_a_call_that_the_ledger_does_not_have() -> None:
    for ledger in ((), (Line("not_called"), Line("cached"))):
        assert judged(changed(ledger=ledger))["calls without a ledger row"] == [
            "a: 1 calls, and 0 of them in the ledger"
        ]
    assert "a: 2 calls, and 1 of them in the ledger" in judged(GOOD, CALL, SECOND)["calls without a ledger row"]


def test_a_row_that_names_another_jobs_call() -> None:
    found = judged(changed(ledger=(Line("succeeded", "call-7"), Line("unknown"))))
    assert found["calls without a ledger row"] == ["a: its ledger names call-7, which is no call of it"]


def test_a_paid_call_must_be_heard_or_said_to_be_unheard() -> None:
    """The other row says how its own call ended, so nothing speaks for the first."""
    quiet = changed(moves=RESCUED, ledger=(Line("succeeded", "call-1"), Line("succeeded")))
    assert judged(quiet, CALL, SECOND)["paid calls that no row explains"] == [
        "a: 1 paid calls were not heard, and 0 rows say so"
    ]
    for outcome in ("unknown", "abandoned", "failed"):
        said = changed(moves=RESCUED, ledger=(Line(outcome), Line("succeeded", "call-2")))
        assert judged(said, CALL, SECOND) == {}


def test_a_refused_call_is_not_paid() -> None:
    retried = changed(ledger=(Line("failed", "call-0"), Line("succeeded", "call-1")))
    refused = Call("call-0", "a", Manner.ERROR, 1.0)
    assert judged(retried, refused, CALL) == {}
    assert paid_again(Records(("a",), [retried], [refused, CALL])) == {"jobs": 0, "calls": 0, "reasked": 0}


def test_a_reask_is_paid_again_for_a_reason() -> None:
    reasked = changed(ledger=(Line("succeeded", "call-1"), Line("succeeded", "call-2")))
    invalid = replace(CALL, manner=Manner.INVALID)
    assert judged(reasked, invalid, SECOND) == {}
    assert paid_again(Records(("a",), [reasked], [invalid, SECOND])) == {"jobs": 1, "calls": 1, "reasked": 1}


def test_few_of_many_violations_are_told_one_by_one() -> None:
    assert told({"jobs lost": ["a", "b", "c"], "results doubled": ["d"]}, 2) == [
        "jobs lost: a",
        "jobs lost: b",
        "results doubled: d",
    ]


@pytest.mark.parametrize("kind", list(VIOLATIONS))
def test_one_violation_of_any_kind_fails_the_bench(kind: str) -> None:
    clean: dict[str, list[str]] = {name: [] for name in VIOLATIONS}
    good = Outcome(1, {"seed": 1}, clean, {}, [], None)
    bad = Outcome(2, {"seed": 2}, clean | {kind: ["job.7 (id)"]}, {}, [], {"lost": 3})
    assert report(Options(), [good], []).ok
    failed = report(Options(), [good, bad], ["a remark"])
    assert not failed.ok
    assert (failed.checks[0].value, [check.what for check in failed.checks if not check.ok][1:]) == (1, [kind])
    assert failed.notes == ["a remark", f"{kind}: job.7 (id)"]
    assert list(failed.peers.values()) == [{"lost": 3}]


def test_what_became_of_the_peers_tasks() -> None:
    calls = [CALL, SECOND, Call("call-3", "b", Manner.ERROR, 3.0), Call("call-4", "b", Manner.WELL, 4.0)]
    rows = [("a", peer.json.dumps(answer_to("a")))] * 2 + [("b", peer.json.dumps(answer_to("a")))]
    assert peer.figures(["a", "b", "c"], rows, calls) == {
        "asked": 3,
        "lost": 1,
        "stored_twice": 1,
        "paid_twice": 1,
        "calls_paid_again": 1,
        "astray": 1,
    }
