"""Which faults a run has, and when: a pure function of a seed, so that any run can be had again.

A plan says what is done to the system, not what comes of it. Each fault is undone in the end: what was killed is
started, what was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

GAP_S = (2.0, 4.0)
"""Between two faults, drawn from this span."""
SETTLE_S = 4.0
"""From the end of an outage to the next one of the same server: long enough for a heartbeat."""
DRAWS = 100
"""So many plans are drawn from a seed until one has every kind of fault; a seed's first has, nearly always."""


class Kind(StrEnum):
    """What can be done to it."""

    KILL_WORKER = "kill a worker"
    FREEZE_WORKER = "stop a worker until it is taken for dead"
    KILL_DISPATCHER = "kill a dispatcher"
    RESET_REDIS = "reset connections, worker to Redis"
    RESET_POSTGRES = "reset connections, worker to Postgres"
    REFUSE_REDIS = "refuse connections, worker to Redis"
    REFUSE_POSTGRES = "refuse connections, worker to Postgres"
    STALL_REDIS = "stall connections, worker to Redis"
    STALL_POSTGRES = "stall connections, worker to Postgres"
    FLUSH = "FLUSHALL"
    KILL_VALKEY = "kill Valkey"
    KILL_POSTGRES = "kill Postgres"
    COPIES = "deliver copies"
    CLOCK = "set a clock"


@dataclass(frozen=True, slots=True)
class Drawn:
    """How a kind of fault is drawn. Spans are uniform, in seconds unless said otherwise.

    weight: how often it comes, against the others. lasts_s: until it is undone. strikes: one of the fleet's processes
    of this name, "" for none. takes: the server that is away meanwhile; two faults never take the same one away at
    once. needs: the server that must be there. apart_s: least time from the end of one to the next of its kind.
    amount: of what is delivered (jobs), or by how much it is wrong (seconds).
    """

    weight: int
    lasts_s: tuple[float, float] = (0.0, 0.0)
    strikes: str = ""
    takes: str = ""
    needs: str = ""
    apart_s: float = 0.0
    amount: tuple[float, float] = (0.0, 0.0)


WORKER, DISPATCHER, CLOCKED = "worker", "dispatcher", "process"
REDIS, POSTGRES = "redis", "postgres"

DRAWN: dict[Kind, Drawn] = {
    Kind.KILL_WORKER: Drawn(20, (0.2, 1.0), strikes=WORKER),
    Kind.FREEZE_WORKER: Drawn(2, (24.0, 28.0), strikes=WORKER, apart_s=10.0),
    Kind.KILL_DISPATCHER: Drawn(4, (0.2, 1.0), strikes=DISPATCHER, needs=POSTGRES, apart_s=10.0),
    Kind.RESET_REDIS: Drawn(5, needs=REDIS),
    Kind.RESET_POSTGRES: Drawn(5, needs=POSTGRES),
    Kind.REFUSE_REDIS: Drawn(2, (1.0, 4.0), takes=REDIS),
    Kind.REFUSE_POSTGRES: Drawn(2, (1.0, 4.0), takes=POSTGRES),
    Kind.STALL_REDIS: Drawn(2, (2.0, 8.0), takes=REDIS),
    Kind.STALL_POSTGRES: Drawn(2, (2.0, 8.0), takes=POSTGRES),
    Kind.FLUSH: Drawn(3, needs=REDIS, apart_s=10.0),
    Kind.KILL_VALKEY: Drawn(3, (1.0, 4.0), takes=REDIS, apart_s=20.0),
    # For twenty seconds after each of its returns nobody is taken for dead: more often, and nobody ever would be.
    Kind.KILL_POSTGRES: Drawn(3, (0.5, 2.0), takes=POSTGRES, apart_s=45.0),
    Kind.COPIES: Drawn(4, needs=POSTGRES, amount=(10.0, 40.0)),
    Kind.CLOCK: Drawn(4, strikes=CLOCKED, amount=(-3600.0, 3600.0)),
}
"""A stopped worker is taken for dead after twenty seconds, and then goes on: what it writes must be refused."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many processes there are to strike; of beats, only the clocks are."""

    workers: int
    dispatchers: int
    beats: int = 0

    def of(self, name: str) -> int:
        """How many there are of a name; of those with a clock, that is all, workers come first, then dispatchers."""
        all_of_them = self.workers + self.dispatchers + self.beats
        return {WORKER: self.workers, DISPATCHER: self.dispatchers, CLOCKED: all_of_them}[name]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. at_s: from the run's beginning. lasts_s, amount: see `Drawn`. place: which process, from 0."""

    at_s: float
    kind: Kind
    lasts_s: float = 0.0
    place: int = 0
    amount: float = 0.0

    @property
    def ends_s(self) -> float:
        """When it is undone."""
        return self.at_s + self.lasts_s

    @property
    def which(self) -> str:
        """What it strikes, for people."""
        strikes = DRAWN[self.kind].strikes
        return f"{strikes} {self.place + 1}" if strikes else DRAWN[self.kind].takes

    @property
    def amount_told(self) -> str:
        """The amount with its unit."""
        return {Kind.COPIES: f"{self.amount:.0f} jobs", Kind.CLOCK: f"{self.amount:+.0f} s"}.get(self.kind, "")


def plan(
    seed: int,
    seconds: float,
    fleet: Fleet,
    drawn: Mapping[Kind, Drawn] = DRAWN,
    gap_s: tuple[float, float] = GAP_S,
) -> tuple[Fault, ...]:
    """Draw a plan: every kind at least once, in the order of time.

    Args:
        seed: equal seeds, equal plans.
        seconds: all faults are undone by then.
        fleet: what there is to strike.
        drawn: the kinds that there are, and how each is drawn.
        gap_s: from one fault to the next, drawn from this span.

    Raises:
        ValueError: there is no room for every kind in so few seconds.
    """
    for draw in range(DRAWS):
        faults = tuple(_dealt(Random(f"chaos {seed} {draw}"), seconds, fleet, drawn, gap_s))
        if {fault.kind for fault in faults} == drawn.keys():
            return faults
    raise ValueError(f"{seconds:g} s are too few for {len(drawn)} kinds of faults, one each {gap_s[1]:g} s")


def _dealt(
    rng: Random, seconds: float, fleet: Fleet, drawn: Mapping[Kind, Drawn], gap_s: tuple[float, float]
) -> Iterator[Fault]:
    """Deal each time the first card of a deck that may be played then. One of each kind lies on top."""
    times = list(_times(rng, seconds, gap_s))
    kinds, weights = list(drawn), [one.weight for one in drawn.values()]
    deck = [*rng.sample(kinds, len(kinds)), *rng.choices(kinds, weights, k=max(0, len(times) - len(kinds)))]
    free_s: dict[str, float] = {}
    for at_s in times:
        for place, kind in enumerate(deck):
            fault = _of(rng, kind, drawn[kind], at_s, fleet)
            taken = dict(_taken(fault, drawn[kind]))
            if fault.ends_s <= seconds and all(free_s.get(one, 0.0) <= at_s for one in (*taken, drawn[kind].needs)):
                free_s.update(taken)
                del deck[place]
                yield fault
                break


def _times(rng: Random, seconds: float, gap_s: tuple[float, float]) -> Iterator[float]:
    at_s = rng.uniform(*gap_s)
    while at_s < seconds:
        yield at_s
        at_s += rng.uniform(*gap_s)


def _of(rng: Random, kind: Kind, drawn: Drawn, at_s: float, fleet: Fleet) -> Fault:
    place = rng.randrange(fleet.of(drawn.strikes)) if drawn.strikes else 0
    return Fault(at_s, kind, rng.uniform(*drawn.lasts_s), place, rng.uniform(*drawn.amount))


def _taken(fault: Fault, drawn: Drawn) -> Iterator[tuple[str, float]]:
    """What no other fault may have beside this one, and until when, in seconds of the run."""
    yield fault.kind, fault.ends_s + drawn.apart_s
    if drawn.takes:
        yield drawn.takes, fault.ends_s + SETTLE_S
    if drawn.strikes in (WORKER, DISPATCHER):
        yield fault.which, fault.ends_s


def edges(faults: Sequence[Fault]) -> list[tuple[float, Fault, bool]]:
    """Beginnings and ends in the order of time: (seconds of the run, fault, whether it is the end).

    Each fault has both, at the same instant where it does not last.
    """
    return sorted(
        ((at_s, fault, ends) for fault in faults for at_s, ends in ((fault.at_s, False), (fault.ends_s, True))),
        key=lambda edge: (edge[0], edge[2]),
    )
