"""Everything that can break is broken on purpose while 10,000 jobs run: is any lost, doubled, or paid for unseen?

A plan of faults is drawn from a seed (`faults.plan`): workers, dispatchers, Valkey and Postgres killed with -9,
connections reset, refused and stalled, everything in Redis flushed, messages delivered again, clocks set, workers
stopped until they are taken for dead. The provider fails by itself at times. Jobs are handed over steadily by a
producer that does not give up. At the end the provider's record is held against Postgres's rows, and each move that a
job made against those that there are (`faults.judge`). Peer: plain Celery with late acknowledgement, which has at the
same times what is done to servers, connections and killed workers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from gateway.errors import ConfigurationError
from ops.bench.faults.acts import Acts
from ops.bench.faults.judge import Move, judge, paid_again
from ops.bench.faults.judge import Records as Judged
from ops.bench.faults.links import Links
from ops.bench.faults.ours import NIGHT, NIGHT_JOBS, OURS_POSTGRES, OURS_REDIS, OurProducer, OurSystem, Size, marker
from ops.bench.faults.outcome import Outcome, report, waits, worst
from ops.bench.faults.peer import PEER_POSTGRES, PEER_REDIS, CelerySystem
from ops.bench.faults.plan import DRAWN, GAP_S, Drawn, Fault, Kind, edges, plan
from ops.bench.faults.producer import Producer
from ops.bench.faults.provider import Provider
from ops.bench.faults.records import LAST_MOVE, OVERDUE, WORKERS, Records
from ops.bench.faults.recoveries import Life
from ops.bench.faults.stores import OwnStores, Stores
from ops.bench.proc import Cores
from ops.bench.processes import until
from ops.bench.report import Options, Report
from ops.bench.stack import START_S, Stack, opened
from tasks.states import State

JOBS = 10_000
SEED = 1
PER_S = 45.0
"""Jobs handed over in a second: about half of what the workers could do if nobody killed them."""
LEAST_S = 75.0
"""Of fewer jobs fewer come a second, so that there is time for every kind of fault."""
LOOK_S = 0.05
DRAIN_LOOK_S = 0.25
NIGHT_BY_S = 150.0
"""By then a tick has come for certain: there is one each minute, and a minute's may fall into an outage."""
OWN_SERVERS_ONLY = frozenset({Kind.KILL_VALKEY, Kind.KILL_POSTGRES})


@dataclass(frozen=True, slots=True)
class Course:
    """How a run goes. Seconds unless the name says otherwise.

    jobs, per_s: how many, and how many are handed over in a second. drawn, gap_s: see `plan`; it begins with the first
    call. takes_s: a call, from and to. calm_s: the last fault is undone so long before the last job is handed over.
    still_s: where no job has moved for so long, and all workers are there, the rest has been left to lie; drain_s: it
    is not waited for longer in any case. passed_s: see `Acts`.
    """

    jobs: int = JOBS
    per_s: float = PER_S
    size: Size = field(default_factory=Size)
    drawn: Mapping[Kind, Drawn] = field(default_factory=lambda: DRAWN)
    gap_s: tuple[float, float] = GAP_S
    takes_s: tuple[float, float] = (0.5, 1.5)
    calm_s: float = 15.0
    still_s: float = 100.0
    drain_s: float = 240.0
    passed_s: float = 0.0

    @property
    def faults_s(self) -> float:
        """By when all faults are undone."""
        return self.jobs / self.per_s - self.calm_s

    def plan(self, seed: int) -> tuple[Fault, ...]:
        """The faults of a seed."""
        return plan(seed, self.faults_s, self.size.fleet, self.drawn, self.gap_s)


def course_of(jobs: int) -> Course:
    """Return the course of a run of so many jobs."""
    return Course(jobs=jobs, per_s=min(PER_S, jobs / LEAST_S))


def run(options: Options) -> Report:
    """Measure; `options.n` jobs in each round, `options.seed` is the first round's, each further one's is one more."""
    return measure(options, course_of(options.n or JOBS))


def measure(options: Options, course: Course) -> Report:
    """Measure.

    Args:
        options: as for every bench.
        course: how it goes.

    Raises:
        ConfigurationError: it kills servers, and `options.servers` are somebody else's.
    """
    if options.servers is not None and OWN_SERVERS_ONLY & course.drawn.keys():
        raise ConfigurationError("servers that somebody else keeps are not killed")
    outcomes: list[Outcome] = []
    first = SEED if options.seed is None else options.seed
    for seed in range(first, first + (options.rounds or 1)):
        with _stores(options) as stores, opened(replace(options, servers=stores.servers)) as stack:
            outcome = _Run(stack, stores, options, course, seed).outcome()
        options.say(f"seed {seed}: {outcome.figures}")
        outcomes.append(outcome)
    remark = (
        f"{course.per_s:g} jobs a second; all faults were over by second {course.faults_s:.0f}; the goals leave out"
        " of a recovery what servers were away meanwhile, begin anew when Postgres did, and pass over jobs that another"
        " fault hit again (republished); the rounds' columns do none of that"
    )
    return report(options, outcomes, [remark])


@contextmanager
def _stores(options: Options) -> Iterator[Stores]:
    if options.servers is not None:
        yield Stores(options.servers)
        return
    with tempfile.TemporaryDirectory(prefix="assayline-chaos-") as directory:
        own = OwnStores(Path(directory))
        try:
            yield own
        finally:
            own.stop()


class _Run:
    """One seed on one stack."""

    def __init__(
        self,
        stack: Stack,
        stores: Stores,
        options: Options,
        course: Course,
        seed: int,
    ) -> None:
        self._stack = stack
        self._course = course
        self._seed = seed
        servers = stores.servers
        self._records = Records(servers.database_url, servers.redis_url)
        mine = {OURS_REDIS: servers.redis_url, OURS_POSTGRES: servers.database_url}
        theirs = {PEER_REDIS: servers.redis_url, PEER_POSTGRES: servers.database_url} if options.peers else {}
        self._links = Links(stack, mine | theirs)
        self._provider = Provider(stack, "provider", seed, course.takes_s)
        self._ours = OurSystem(stack, self._links, self._provider.port, course.size, options.without)
        self._peer: CelerySystem | None = None
        if options.peers:
            provider = Provider(stack, "celery-provider", seed, course.takes_s)
            self._peer = CelerySystem(stack, self._links, provider, self._records, course.size)
        self._acts = Acts(self._ours, self._peer, stores, self._links, self._records, course.passed_s)
        self._producers = self._begun()

    def outcome(self) -> Outcome:
        """Let it run to its end, and judge it."""
        cores, begun = Cores(), time.monotonic()
        with closing(self._records):
            try:
                until(lambda: self._provider.count() > 0, START_S, "the first call")
                self._do(self._course.plan(self._seed))
                self._drain()
                lives = list(self._lives())
                beside = None if self._peer is None else self._peer.figures(self._taken(1))
            finally:
                self._end()
            took_s, busy = time.monotonic() - begun, cores.busy_percent()
            moves = self._records.moves()
            found = self._judged(moves, took_s)
            counted = self._figures(found, moves)
        recoveries = waits(moves, lives, self._acts.deeds, self._course.drawn)
        figures = {
            "seed": self._seed,
            **counted,
            **{f"{name}_s": worst(own, whole=True) for name, own in recoveries.items()},
            "took_s": took_s,
            "cores_busy_%": busy,
        }
        return Outcome(self._seed, figures, judge(found), recoveries, self._acts.deeds, beside)

    def _begun(self) -> list[Producer]:
        """Ours, and the peer's where it is there."""
        course, url = self._course, self._stack.servers.database_url
        producers = [Producer("ours", OurProducer(url), course.jobs, course.per_s)]
        if self._peer is not None:
            producers.append(Producer("celery", self._peer.producer(), course.jobs, course.per_s))
        return producers

    def _taken(self, place: int) -> list[str]:
        """The markers of what a producer has handed over for certain."""
        return [marker(number) for number in range(self._producers[place].taken)]

    def _do(self, faults: Sequence[Fault]) -> None:
        """Do the faults at their times."""
        begun = time.monotonic()
        for at_s, fault, ends in edges(faults):
            while (left_s := begun + at_s - time.monotonic()) > 0:
                self._tend()
                time.sleep(min(LOOK_S, left_s))
            if ends:
                self._acts.end(fault)
            else:
                self._stack.say(f"{at_s:6.1f} s: {fault.kind} {fault.which} {fault.amount_told}".rstrip())
                self._acts.begin(fault)

    def _drain(self) -> None:
        """Wait until all is handed over and has ended, or is left to lie."""
        while not all(producer.done for producer in self._producers):
            self._tend()
            time.sleep(LOOK_S)
        ends, moved, moved_at = time.monotonic() + self._course.drain_s, -1, time.monotonic()
        over, peer_over = False, self._peer is None
        while not (over and peer_over) and time.monotonic() < ends:
            self._tend()
            time.sleep(DRAIN_LOOK_S)
            # While a worker is on its way nobody can say that the rest is left to lie.
            if (last := self._records.number(LAST_MOVE)) != moved or not self._ours.all_work(self._records):
                moved, moved_at = last, time.monotonic()
            over = over or not self._records.not_ended() or time.monotonic() - moved_at > self._course.still_s
            peer_over = peer_over or self._peer is None or self._peer.is_over(self._producers[1].taken)

    def _tend(self) -> None:
        for producer in self._producers:
            producer.check()
        for place in (*self._ours.places, *(self._peer.workers if self._peer else ())):
            place.tend()

    def _end(self) -> None:
        for producer in self._producers:
            producer.end()
        self._ours.end()
        if self._peer is not None:
            self._peer.end()
        self._links.close()

    def _lives(self) -> Iterator[Life]:
        ended = dict(chain.from_iterable(place.ended_s.items() for place in self._ours.workers))
        stopped = dict(chain.from_iterable(place.stopped_s.items() for place in self._ours.workers))
        never_s = float("inf")
        for incarnation, pid, began_s, provider in self._records.rows(WORKERS):
            yield Life(str(incarnation), began_s, ended.get(pid, never_s), stopped.get(pid, never_s), provider)

    def _judged(self, moves: Mapping[str, Sequence[Move]], took_s: float) -> Judged:
        asked, jobs = self._taken(0), self._records.jobs(moves)
        night_came = any(job.marker.startswith(NIGHT) for job in jobs)
        if night_came or (self._course.size.beats and took_s > NIGHT_BY_S):
            asked += [f"{NIGHT}{number}" for number in range(NIGHT_JOBS)]
        return Judged(asked, jobs, self._provider.calls())

    def _figures(self, found: Judged, moves: Mapping[str, Sequence[Move]]) -> dict[str, Any]:
        again = paid_again(found)
        reasons = [move.reason for own in moves.values() for move in own]
        outcomes = [line.outcome for job in found.jobs for line in job.ledger]
        return {
            "jobs": len(found.jobs),
            "succeeded": sum(job.state == State.SUCCEEDED for job in found.jobs),
            "faults": len(self._acts.deeds),
            "rescued": reasons.count("rescue"),
            "of_them_overdue": self._records.number(OVERDUE),
            "republished": reasons.count("republish"),
            "calls": len(found.calls),
            "paid": sum(call.paid for call in found.calls),
            "paid_again": again["calls"],
            "reasked": again["reasked"],
            "unknown_rows": outcomes.count("unknown"),
            "handed_over_again": self._producers[0].tries_failed,
            "ended_unasked": sum(place.ended_unasked for place in self._ours.places),
        }
