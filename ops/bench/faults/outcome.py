"""What came of one seed, and the report over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ops.bench.faults.acts import Deed
from ops.bench.faults.judge import Move, told
from ops.bench.faults.peer import TITLE
from ops.bench.faults.plan import DRAWN, Kind
from ops.bench.faults.recoveries import Life, Outage, Wait, consuming, releasing, reruns
from ops.bench.report import Check, Figures, Options, Report

MOST_TOLD = 5
"""Of each kind of violation so many are told one by one."""
RERUN, CONSUMING, RELEASE = "rerun", "consuming", "release"
CONSUMING_GOAL_S = 10.0
RECOVERIES: Mapping[str, tuple[Kind, str, float]] = {
    RERUN: (Kind.KILL_WORKER, "kill -9 of a worker to its jobs' next claim, worst", 30.0),
    CONSUMING: (Kind.KILL_VALKEY, "the broker's return to a job taken, slowest worker", CONSUMING_GOAL_S),
    RELEASE: (Kind.KILL_DISPATCHER, "a dispatcher's death to the next release, worst", 2.0),
}
"""By name: the kind of fault it follows, what is measured, and the seconds it may take."""
LOSING = frozenset(
    {
        Kind.FLUSH,
        Kind.KILL_VALKEY,
        Kind.RESET_REDIS,
        Kind.REFUSE_REDIS,
        Kind.STALL_REDIS,
        Kind.KILL_WORKER,
        Kind.FREEZE_WORKER,
        Kind.KILL_DISPATCHER,
    }
)
"""What may take a message: in the broker, on its way, or in the hands of who sends or has taken it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One seed's. waits: by name of `RECOVERIES`. beside: the peer's figures, None where it did not run."""

    seed: int
    figures: Mapping[str, Any]
    violations: Mapping[str, Sequence[str]]
    waits: Mapping[str, Sequence[Wait]]
    deeds: Sequence[Deed]
    beside: Figures | None


def waits(
    moves: Mapping[str, Sequence[Move]], lives: Sequence[Life], deeds: Sequence[Deed], kinds: Iterable[Kind]
) -> dict[str, list[Wait]]:
    """Measure recoveries, by name: those that follow a kind of fault among `kinds`."""
    outages = [
        Outage(deed.since_s, deed.until_s, deed.fault.kind is Kind.KILL_POSTGRES)
        for deed in deeds
        if DRAWN[deed.fault.kind].takes and deed.until_s is not None
    ]
    losses = [
        Outage(deed.since_s, deed.since_s if deed.until_s is None else deed.until_s)
        for deed in deeds
        if deed.fault.kind in LOSING
    ]
    in_order = sorted(chain.from_iterable(moves.values()), key=lambda move: move.at_s)
    releases = [move.at_s for move in in_order if move.is_release]
    backs_s = [deed.until_s for deed in _of(deeds, Kind.KILL_VALKEY) if deed.until_s is not None]
    deaths_s = [deed.since_s for deed in _of(deeds, Kind.KILL_DISPATCHER)]
    found = {
        RERUN: reruns(moves, lives, outages, losses),
        CONSUMING: consuming(in_order, lives, backs_s, outages, CONSUMING_GOAL_S),
        RELEASE: releasing(releases, deaths_s, outages),
    }
    wanted = set(kinds)
    return {name: found[name] for name, (kind, _, _) in RECOVERIES.items() if kind in wanted}


def worst(found: Iterable[Wait], *, whole: bool = False) -> float | None:
    """The longest, None where there is none, or one that never ended. `whole`: whatever else happened counted in."""
    known = list(found)
    if any(wait.own_s == math.inf for wait in known):
        return None
    return max((wait.whole_s if whole else wait.own_s for wait in known if whole or _counts(wait)), default=None)


def report(options: Options, outcomes: Sequence[Outcome], remarks: Sequence[str]) -> Report:
    """Put the report together; `remarks` come before what was too slow or wrong, job by job."""
    total = {name: sum(len(one.violations[name]) for one in outcomes) for name in outcomes[0].violations}
    checks = [Check("violations of all kinds", sum(total.values()), "", "=", 0)]
    checks += [Check(name, count, "", "=", 0) for name, count in total.items()]
    slow: list[str] = []
    for name in outcomes[0].waits:
        _, what, goal_s = RECOVERIES[name]
        found = sorted(chain.from_iterable(one.waits[name] for one in outcomes), key=lambda wait: -wait.own_s)
        checks.append(Check(what, worst(found), "s", "<=", goal_s))
        if left_out := sum(wait.hit_again for wait in found):
            slow.append(f"{what}: {left_out} of {len(found)} are left out, for another fault may have hit them again")
        if suspects := [wait.own_s for wait in found if wait.apart]:
            slow.append(
                f"{what}: {len(suspects)} of {len(found)} are of jobs that lost a second worker in a row and come back"
                f" one by one, the last after {max(suspects):.1f} s"
            )
        slow += [f"{what}: {wait.own_s:.1f} s, {wait.told}" for wait in found if _slow(wait, goal_s)][:MOST_TOLD]
    return Report(
        "chaos",
        checks,
        [one.figures for one in outcomes],
        {f"{TITLE}, seed {one.seed}": one.beside for one in outcomes if one.beside is not None},
        options.without,
        [*remarks, *slow, *chain.from_iterable(told(one.violations, MOST_TOLD) for one in outcomes)],
        {f"faults of seed {one.seed}": [_row(deed) for deed in one.deeds] for one in outcomes},
    )


def _slow(wait: Wait, goal_s: float) -> bool:
    return wait.own_s > goal_s and _counts(wait)


def _counts(wait: Wait) -> bool:
    return not (wait.hit_again or wait.apart)


def _of(deeds: Iterable[Deed], kind: Kind) -> list[Deed]:
    return [deed for deed in deeds if deed.fault.kind is kind]


def _row(deed: Deed) -> Figures:
    return {
        "at_s": deed.fault.at_s,
        "fault": str(deed.fault.kind),
        "which": deed.fault.which,
        "amount": deed.fault.amount_told,
        "lasted_s": None if deed.until_s is None else deed.until_s - deed.since_s,
        "struck": deed.told,
    }
