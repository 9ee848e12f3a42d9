"""Workers that die, in virtual time: what becomes of the jobs they take with them, the guilty and the innocent.

`judge` says in Python what `tasks/sql/rescue.sql` says; tests/integration/test_poison.py holds the two together.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from tasks.poison import Suspicion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEAD_AFTER_S = 20.0
RESCUE_EVERY_S = 2.0
HEARTBEAT_S = 5.0
MAX_ATTEMPTS = 4


@dataclass(slots=True, eq=False)
class Job:
    """One job. `deaths`: when each of the workers in a row that died with it did, and which."""

    number: int
    guilty: bool = False
    attempts: int = 0
    deaths: list[tuple[float, int]] = field(default_factory=list)
    started_at: float = 0.0
    state: str = "scheduled"
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who works and who kills. Seconds; `None`: nobody kills."""

    jobs: int = 10_000
    guilty: int = 0
    workers: int = 4
    slots: int = 100
    call_s: tuple[float, float] = (1.0, 2.0)
    crash_after_s: float = 1.0
    """From a guilty job's claim to its worker's death."""
    kill_every_s: float | None = None
    restart_s: float = 3.0
    max_attempts: int = MAX_ATTEMPTS


def judge(
    lost: Sequence[Job],
    worker: int,
    dead: Sequence[tuple[float, int]],
    max_attempts: int,
    suspicion: Suspicion,
    *,
    dead_after_s: float = DEAD_AFTER_S,
    gone: int = -1,
) -> list[tuple[Job, str, bool]]:
    """What becomes of the jobs that died with a worker: each with its move, and whether it is kept apart.

    `dead`: when each worker died so far, this one included, and which. Deaths in `Job.deaths` are the earlier ones.
    `gone`: the most deaths of a job that an earlier pass has moved already; -1: there was none.
    """
    found = []
    most = max((len(job.deaths) for job in lost), default=0)
    as_many = Counter(len(job.deaths) for job in lost)
    for job in lost:
        deaths = len(job.deaths)
        own = {number for _, number in job.deaths} | {worker}
        first_at = job.deaths[0][0] if job.deaths else math.inf
        others = sum(number not in own and at >= first_at - dead_after_s for at, number in dead)
        calm = deaths > 0 and others <= deaths + 1
        alone = deaths == most and as_many[deaths] == 1 and deaths > gone
        move = "bury" if job.attempts >= max_attempts else "rescue"
        if deaths >= suspicion.rescues and ((calm and alone) or deaths + 1 >= suspicion.certain):
            move = "poison"
        found.append((job, move, deaths > 0 and move == "rescue"))
    return found


class Deaths:
    """A run of a fleet, from its first job to its last."""

    def __init__(self, fleet: Fleet, seed: int, suspicion: Suspicion | None = None) -> None:
        self.fleet, self.rng, self.suspicion = fleet, Random(seed), suspicion or Suspicion()
        guilty = set(self.rng.sample(range(fleet.jobs), fleet.guilty))
        self.jobs = [Job(number, number in guilty) for number in range(fleet.jobs)]
        self.waiting = deque(self.jobs)
        self.running: dict[int, dict[Job, int]] = {}
        self.dead: list[tuple[float, int]] = []
        self.killed_by_jobs = 0
        self.now = 0.0
        self._names = count()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._open = fleet.jobs

    def run(self) -> Deaths:
        """Run until every job has ended."""
        for _ in range(self.fleet.workers):
            self._start_worker()
        if self.fleet.kill_every_s is not None:
            self._at(self._pause_s(), self._kill_any)
        while self._open:
            self.now, _, happen, what = heapq.heappop(self._events)
            happen(*what)
        return self

    def ended(self, *states: str, guilty: bool) -> list[Job]:
        """The jobs that ended so."""
        return [job for job in self.jobs if job.state in states and job.guilty is guilty]

    def _at(self, in_s: float, happen: Callable[..., None], *what: Any) -> None:
        heapq.heappush(self._events, (self.now + in_s, next(self._order), happen, what))

    def _pause_s(self) -> float:
        assert self.fleet.kill_every_s is not None
        return self.fleet.kill_every_s * self.rng.uniform(0.5, 1.5)

    def _start_worker(self) -> None:
        self.running[next(self._names)] = {}
        self._fill()

    def _fill(self) -> None:
        """Give what waits to whoever has most room."""
        while self.waiting and self.running:
            worker = min(self.running, key=lambda name: len(self.running[name]))
            if len(self.running[worker]) >= self.fleet.slots:
                return
            job = self.waiting.popleft()
            job.attempts += 1
            job.started_at = self.now
            self.running[worker][job] = job.attempts
            if job.guilty:
                self._at(self.fleet.crash_after_s, self._crash, worker, job, job.attempts)
            else:
                self._at(self.rng.uniform(*self.fleet.call_s), self._succeed, worker, job, job.attempts)

    def _succeed(self, worker: int, job: Job, attempt: int) -> None:
        if self.running.get(worker, {}).get(job) == attempt:
            del self.running[worker][job]
            self._end(job, "succeeded")
            self._fill()

    def _crash(self, worker: int, job: Job, attempt: int) -> None:
        if self.running.get(worker, {}).get(job) == attempt:
            self.killed_by_jobs += 1
            self._die(worker)

    def _kill_any(self) -> None:
        if self.running:
            self._die(self.rng.choice(list(self.running)))
        self._at(self._pause_s(), self._kill_any)

    def _die(self, worker: int) -> None:
        lost = list(self.running.pop(worker))
        self.dead.append((self.now, worker))
        self._at(self.fleet.restart_s, self._start_worker)
        heard_at = self.now - self.rng.uniform(0.0, HEARTBEAT_S)
        ran_s = {job: max(0.0, heard_at - job.started_at) for job in lost}
        in_s = DEAD_AFTER_S + self.rng.uniform(0.0, RESCUE_EVERY_S)
        self._at(in_s, self._rescue, worker, self.now, ran_s)

    def _rescue(self, worker: int, died_at: float, ran_s: dict[Job, float]) -> None:
        dead = [(at, name) for at, name in self.dead if at <= self.now - DEAD_AFTER_S]
        apart = []
        for job, move, is_apart in judge(list(ran_s), worker, dead, self.fleet.max_attempts, self.suspicion):
            job.deaths.append((died_at, worker))
            if move != "rescue":
                self._end(job, move)
            elif is_apart:
                apart.append(job)
            else:
                self.waiting.append(job)
        self.rng.shuffle(apart)
        for place, job in enumerate(apart):
            self._at(place * self._gap_s([ran_s[one] for one in apart]), self._put_back, job)
        self._fill()

    def _gap_s(self, ran_s: Sequence[float]) -> float:
        """Seconds between two of those that come back apart, which had run so long."""
        usual_s = max(self.suspicion.apart_s, 2 * sum(ran_s) / len(ran_s))
        return min(usual_s, self.suspicion.longest_apart_s / len(ran_s))

    def _put_back(self, job: Job) -> None:
        self.waiting.appendleft(job)
        self._fill()

    def _end(self, job: Job, state: str) -> None:
        job.state, job.ended_at = state, self.now
        self._open -= 1
