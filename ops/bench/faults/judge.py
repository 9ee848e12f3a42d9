"""What a run must not have done, found in the records: the provider's calls against Postgres's rows and moves. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ops.bench.faults.conduct import PAID, Manner, answer_to
from tasks.states import LEGAL, TERMINAL, State

UNMADE = frozenset({"not_called", "cached"})
"""Outcomes of ledger rows that no call belongs to."""
OPEN_ENDED = frozenset({"unknown", "abandoned", "failed"})
"""Outcomes that explain a call whose answer nobody has: it may have been paid for."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that came to the provider: its name there, its job's marker, how it was treated. Seconds since 1970."""

    name: str
    marker: str
    manner: Manner
    at_s: float

    @property
    def paid(self) -> bool:
        """Whether a provider would charge for it."""
        return self.manner in PAID


@dataclass(frozen=True, slots=True)
class Move:
    """One write of a job's state: from where to where, its numbers before and after, where it then is.

    Seconds since 1970.
    """

    at_s: float
    was: str
    now: str
    reason: str = ""
    released: tuple[int, int] = (0, 0)
    claimed: tuple[int, int] = (0, 0)
    incarnation: str | None = None
    provider: str = ""

    @property
    def is_claim(self) -> bool:
        """Whether a worker took the job."""
        return self.now == State.RUNNING

    @property
    def is_release(self) -> bool:
        """Whether a dispatcher released it."""
        return self.was == State.SCHEDULED and self.now == State.QUEUED

    @property
    def is_sent(self) -> bool:
        """Whether a message of it was sent: for the first time, or again."""
        return self.now == State.QUEUED


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the ledger. `name`: the provider's of the call, None where no answer said it."""

    outcome: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """One job as it is at the end: its row, moves in their order, ledger, and its result.

    written: how often a result of it was written. announced: what Redis says, None where it says nothing.
    """

    marker: str
    id: str
    state: str
    reason: str = ""
    moves: Sequence[Move] = ()
    ledger: Sequence[Line] = ()
    written: int = 0
    result: Any = None
    announced: Any = None


@dataclass(frozen=True, slots=True)
class Records:
    """All that is judged. asked: the markers of all jobs that were taken for certain."""

    asked: Collection[str]
    jobs: Sequence[Stored]
    calls: Sequence[Call]
    by_marker: Mapping[str, Sequence[Stored]] = field(init=False)
    called: Mapping[str, Sequence[Call]] = field(init=False)

    def __post_init__(self) -> None:
        """Look up by marker what is asked for by marker."""
        jobs: defaultdict[str, list[Stored]] = defaultdict(list)
        for job in self.jobs:
            jobs[job.marker].append(job)
        called: defaultdict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            called[call.marker].append(call)
        object.__setattr__(self, "by_marker", jobs)
        object.__setattr__(self, "called", called)

    def lines(self, marker: str) -> list[Line]:
        """The ledger of a marker's calls: rows that say that no call was made are left out."""
        return [line for job in self.by_marker.get(marker, ()) for line in job.ledger if line.outcome not in UNMADE]


def lost(records: Records) -> Iterator[str]:
    """Jobs that were taken and are not there, have not ended, or ended badly: a third call is always well."""
    for marker in records.asked:
        if marker not in records.by_marker:
            yield f"{marker}: taken, and not there"
    for job in records.jobs:
        if job.state not in TERMINAL:
            yield f"{_named(job)} is {job.state} still ({job.reason})"
        elif job.state != State.SUCCEEDED:
            yield f"{_named(job)} is {job.state} ({job.reason})"


def doubled(records: Records) -> Iterator[str]:
    """Jobs with two results, that were ended well twice, or asked for once and there twice; or announced otherwise."""
    for marker, jobs in records.by_marker.items():
        if len(jobs) > 1:
            yield f"{marker}: {len(jobs)} jobs"
    for job in records.jobs:
        ended = sum(move.now == State.SUCCEEDED for move in job.moves)
        if max(job.written, ended) > 1:
            yield f"{_named(job)}: {job.written} results written, ended well {ended} times"
        if job.announced is not None and job.announced != job.result:
            yield f"{_named(job)}: announced was {job.announced}, stored is {job.result}"


def astray(records: Records) -> Iterator[str]:
    """Jobs that ended well with no result, or another's."""
    for job in records.jobs:
        if job.state == State.SUCCEEDED and job.result != answer_to(job.marker):
            yield f"{_named(job)} has the result {job.result}"


def illegal(records: Records) -> Iterator[str]:
    """Jobs that made a move there is not, under numbers that do not follow, or stand where no move led them."""
    for job in records.jobs:
        if (wrong := _first_break(job)) is not None:
            yield f"{_named(job)}: {wrong}"


def unwritten(records: Records) -> Iterator[str]:
    """Calls, paid or not, that the ledger has no row for; rows that name a call of another job."""
    for marker, calls in records.called.items():
        lines = records.lines(marker)
        if len(calls) > len(lines):
            yield f"{marker}: {len(calls)} calls, and {len(lines)} of them in the ledger"
        names = {call.name for call in calls}
        for line in lines:
            if line.name is not None and line.name not in names:
                yield f"{marker}: its ledger names {line.name}, which is no call of it"


def unexplained(records: Records) -> Iterator[str]:
    """Paid calls whose answer the ledger does not have, beyond the rows that say: unknown, abandoned, failed."""
    for marker, calls in records.called.items():
        lines = records.lines(marker)
        named = {line.name for line in lines}
        unheard = sum(call.paid and call.name not in named for call in calls)
        explained = sum(line.name is None and line.outcome in OPEN_ENDED for line in lines)
        if unheard > explained:
            yield f"{marker}: {unheard} paid calls were not heard, and {explained} rows say so"


VIOLATIONS: Mapping[str, Callable[[Records], Iterable[str]]] = {
    "jobs lost": lost,
    "results doubled": doubled,
    "results of another job, or none": astray,
    "jobs in an illegal state": illegal,
    "calls without a ledger row": unwritten,
    "paid calls that no row explains": unexplained,
}


def judge(records: Records) -> dict[str, list[str]]:
    """Return what was found of each kind of violation, one sentence each."""
    return {name: list(find(records)) for name, find in VIOLATIONS.items()}


def paid_again(records: Records) -> dict[str, int]:
    """Count what was paid more often than once, and why: a re-ask that the schema asked for, or a fault.

    Returns:
        jobs: that have more than one paid call. calls: paid beyond the first of each. reasked: of these, those after an
        answer that was heard and did not do; the rest were not heard, or were heard too late.
    """
    found = Counter(jobs=0, calls=0, reasked=0)
    for marker, calls in records.called.items():
        paid = [call for call in calls if call.paid]
        named = {line.name for line in records.lines(marker)}
        found["jobs"] += len(paid) > 1
        found["calls"] += max(0, len(paid) - 1)
        found["reasked"] += sum(call.manner is Manner.INVALID and call.name in named for call in paid)
    return dict(found)


def _first_break(job: Stored) -> str | None:
    state, release, claim_no = str(State.SCHEDULED), 0, 0
    for move in job.moves:
        at = f"{move.was} to {move.now} ({move.reason})"
        if (move.was, move.now) not in LEGAL:
            return f"{at} is no move"
        if (state, release, claim_no) != (move.was, move.released[0], move.claimed[0]):
            return f"{at} does not follow on {state}, release {release}, claim {claim_no}"
        if move.released[1] - move.released[0] not in (0, 1):
            return f"{at} took its release from {move.released[0]} to {move.released[1]}"
        if move.claimed[1] - move.claimed[0] != int(move.is_claim):
            return f"{at} took its claim_no from {move.claimed[0]} to {move.claimed[1]}"
        state, release, claim_no = move.now, move.released[1], move.claimed[1]
    return None if state == job.state else f"stands as {job.state}, and its last move led to {state}"


def _named(job: Stored) -> str:
    return f"{job.marker} ({job.id})"


def told(violations: Mapping[str, Sequence[str]], most: int) -> list[str]:
    """Return the first sentences of each kind, `most` at most, each after its kind."""
    return list(chain.from_iterable((f"{name}: {said}" for said in found[:most]) for name, found in violations.items()))
