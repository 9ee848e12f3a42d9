"""A great heap of bulk work on a small account, and people who come meanwhile: what does the waiting itself cost?

Three loads, one run each on servers of its own: 100,000 bulk jobs at 600 requests a minute; the same on an account of
20 calls at once, each of which takes 20 s; a million at 60 requests a minute (by name only: enqueueing takes minutes).
First interactive jobs come to the idle system, then all bulk jobs are enqueued, and interactive ones come on at the
same pace. The first fifth of the run settles; the rest is measured. Nobody waits for the end of the heap.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.limits.policy import BULK_SHARE
from ops.bench.endpoint import LABELS
from ops.bench.proc import Cores, cpu_s
from ops.bench.report import Check, Figures, Options, Report, most_quantile, quantile
from ops.bench.stack import ANALYSIS, Stack, content, job, opened
from ops.bench.strict.endpoint import MINUTE_S, SETTLING, Arrival
from ops.bench.strict.loads import LARGE, Load
from ops.bench.strict.ours import OurWorkers
from ops.bench.strict.visits import Visits, waits_ms
from tasks.producer import Job

SECONDS = 240
WORKERS = 4
CLAIMS_PER_CALL = 1.05
TIMES_IDLE = 2.0
WARM_UP = 20
"""Enough that each worker has opened its connections."""
IDLE_S, LAST_CALLS_S, LOOK_S = 900.0, 60.0, 0.5
BULK = "bulk."
BULK_BYTES = 256
"""Content of a bulk job: a million of them fit on a small disk."""

CLAIMS = """
    SELECT count(*) FILTER (WHERE call_no = 1), count(*) FILTER (WHERE outcome = 'not_called')
      FROM assayline.calls WHERE started_at >= to_timestamp(%s) AND started_at < to_timestamp(%s)
"""
"""Each claim opens call 1 of the ledger in the same write."""
UNWRITTEN = """
    SELECT coalesce((SELECT sum(claim_no) FROM assayline.jobs), 0)
           - (SELECT count(*) FROM assayline.calls WHERE call_no = 1)
"""
"""Claims of all jobs, ever, that the ledger does not have."""
WRITES = """
    SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables WHERE schemaname = 'assayline'
"""


@dataclass(frozen=True, slots=True)
class Heap:
    """What waits, and who comes meanwhile.

    bulk: jobs enqueued at once. every_s: mean gap between two interactive jobs; takes_s: how long a call of theirs
    takes, None for the load's own time. idle: how many of them come before the bulk, 0 where their wait is not judged.
    """

    load: Load
    bulk: int
    every_s: float
    idle: int
    takes_s: float | None = None

    @property
    def name(self) -> str:
        """As `--load` takes it."""
        return self.load.name


HEAPS: Mapping[str, Heap] = {
    heap.name: heap
    for heap in (
        Heap(
            Load("requests", "openai", {"requests": 600, "tokens": LARGE}, "requests", 20, 3, 5.0, 10.0, 0.98, 0.0),
            bulk=100_000, every_s=1.0, idle=150,
        ),
        Heap(
            Load("slots", "openai", {}, "requests", 60, 1, 20.0, 20.0, 0.98, 0.0, calls_at_once=20),
            bulk=100_000, every_s=1.0, idle=150, takes_s=1.0,
        ),
        Heap(
            Load("million", "openai", {"requests": 60, "tokens": LARGE}, "requests", 20, 3, 5.0, 10.0, 0.0, 0.0),
            bulk=1_000_000, every_s=10.0, idle=0,
        ),
    )
}  # fmt: skip
"""By name. Of `slots` interactive calls take a second: the four slots that bulk leaves free are enough for them."""
DEFAULT = ("requests", "slots")


@dataclass(frozen=True, slots=True)
class Counters:
    """What is counted at the beginning and at the end of the measured time. CPU in seconds."""

    at_ns: int
    writes: int
    dispatcher_s: float
    workers_s: float


def run(options: Options) -> Report:
    """Measure; `options.n` bulk jobs in place of each load's own figure."""
    return measure(options, [HEAPS[name] for name in options.loads or DEFAULT])


def measure(options: Options, heaps: Sequence[Heap], *, workers: int = WORKERS, warm_up: int = WARM_UP) -> Report:
    """Measure. `workers`: how many worker processes; `warm_up`: interactive jobs before anything is timed."""
    seconds = options.seconds or SECONDS
    checks: list[Check] = []
    rounds: list[Figures] = []
    for number in range(1, (options.rounds or 1) + 1):
        for heap in heaps:
            with opened(options) as stack:
                run = _Run(stack, heap, workers, options)
                run.warm_up(warm_up)
                figures = run.figures(seconds)
            rounds.append({"load": heap.name, "round": number, **figures})
            options.say(f"round {number}, {heap.name}: {figures}")
            checks += _checks(heap, figures)
    notes = (
        f"runs of {seconds} s from the last bulk job's enqueueing on, measured from second {round(seconds * SETTLING)}",
        "claims of the ledger, calls let in at the endpoint, both in the measured time: one second's worth may be off",
    )
    return Report("steady", checks, rounds, without=options.without, notes=notes)


class _Run:
    """One heap on one stack."""

    def __init__(self, stack: Stack, heap: Heap, workers: int, options: Options) -> None:
        self._stack = stack
        self._heap = heap
        self._bulk = options.n or heap.bulk
        self._ours = OurWorkers(stack, heap.load, workers, without=options.without, skews_s=())

    def warm_up(self, jobs: int) -> None:
        """So many interactive ones, until their calls have come."""
        markers = {f"warm.{number}": 0 for number in range(jobs)}
        self._stack.enqueue([job(f"{marker} takes-0.1-s", max_tokens=self._heap.load.max_tokens) for marker in markers])
        self._await(markers)

    def figures(self, seconds: float) -> dict[str, Any]:
        """Idle, then the heap; `seconds`: with the heap there, settling included."""
        stack, heap, endpoint = self._stack, self._heap, self._ours.endpoint
        endpoint.start()
        idle_ms = self._idle() if heap.idle else []
        visits = self._visits("visit")
        begun = time.monotonic()
        self._enqueue_bulk()
        enqueue_s = time.monotonic() - begun
        stack.say(f"{self._bulk} bulk jobs enqueued in {enqueue_s:.1f} s")
        self._pass(seconds * SETTLING, visits)
        before, cores = self._counters(), Cores()
        self._pass(seconds * (1 - SETTLING), visits)
        after, busy = self._counters(), cores.busy_percent()
        visits.end()
        timed = {marker: at for marker, at in visits.sent_ns.items() if before.at_ns <= at < after.at_ns}
        self._await(timed)
        arrivals = endpoint.arrivals()
        self._ours.kill()
        waits = waits_ms(timed, arrivals, time.time_ns())
        return {
            **self._of_calls(before, after, arrivals),
            **_spread("idle", idle_ms),
            "idle_p95_most_ms": most_quantile(idle_ms, 0.95),
            **_spread("loaded", waits),
            "enqueue_s": enqueue_s,
            "waiting": stack.number("SELECT count(*) FROM assayline.waiting"),
            "cores_busy_%": busy,
        }

    def _of_calls(self, before: Counters, after: Counters, arrivals: Sequence[Arrival]) -> dict[str, Any]:
        """All that is counted by the call."""
        stack, load = self._stack, self._heap.load
        seconds = (after.at_ns - before.at_ns) / 1e9
        made = [arrival for arrival in arrivals if arrival.let_in and before.at_ns <= arrival.at_ns < after.at_ns]
        claims, snoozed = stack.rows(CLAIMS, [before.at_ns / 1e9, after.at_ns / 1e9])[0]
        calls = len(made)

        def per_call(amount: float) -> float | None:
            return amount / calls if calls else None

        bulk_ns = [arrival.at_ns for arrival in arrivals if arrival.let_in and arrival.marker.startswith(BULK)]
        use = _rate_used(load, calls, seconds) if load.per_min else _slots_used(load, bulk_ns, before, after)
        return {
            "calls": calls,
            "claims": claims,
            "claims_per_call": per_call(claims),
            "snoozed": snoozed,
            "unwritten": stack.number(UNWRITTEN),
            "use_%": 100 * use,
            "refused": sum(not arrival.let_in for arrival in arrivals),
            "most_open": self._ours.endpoint.most_open(),
            "writes_per_call": per_call(after.writes - before.writes),
            "dispatcher_%": 100 * (after.dispatcher_s - before.dispatcher_s) / seconds,
            "worker_ms_per_call": per_call(1e3 * (after.workers_s - before.workers_s)),
        }

    def _enqueue_bulk(self) -> None:
        allowed = self._heap.load.max_tokens
        # Made as they are taken: a million would not fit beside what is measured.
        texts = (content(f"{BULK}{number}", BULK_BYTES) for number in range(self._bulk))
        fields: Any = {"context": {"labels": list(LABELS)}, "lane": "bulk", "max_tokens": allowed}
        for _ in self._stack.client.enqueue_many(Job(ANALYSIS, text, **fields) for text in texts):
            pass

    def _visits(self, name: str) -> Visits:
        heap = self._heap
        return Visits(self._stack, heap.load, name, heap.every_s, takes_s=heap.takes_s)

    def _idle(self) -> list[float]:
        """The wait of each interactive job while nothing else is there."""
        visits = self._visits("idle")
        self._stack.until(lambda: self._has_come(visits), IDLE_S, "the interactive jobs of the idle system")
        visits.end()
        self._await(visits.sent_ns)
        return waits_ms(visits.sent_ns, self._ours.endpoint.arrivals(), time.time_ns())

    def _has_come(self, visits: Visits) -> bool:
        visits.check()
        return len(visits.sent_ns) >= self._heap.idle

    def _await(self, markers: Mapping[str, int]) -> None:
        """Wait until their calls have come, or for so long that all the same it is known how they fared."""
        deadline = time.monotonic() + LAST_CALLS_S
        while time.monotonic() < deadline:
            if markers.keys() <= {arrival.marker for arrival in self._ours.endpoint.arrivals() if arrival.let_in}:
                return
            time.sleep(LOOK_S)

    def _pass(self, seconds: float, visits: Visits) -> None:
        """Let time pass, while all is well."""
        end = time.monotonic() + seconds

        def over() -> bool:
            visits.check()
            return time.monotonic() >= end

        self._stack.until(over, seconds + LAST_CALLS_S, "the end of the run")

    def _counters(self) -> Counters:
        workers_s = sum(map(cpu_s, self._ours.worker_pids))
        return Counters(time.time_ns(), self._stack.number(WRITES), cpu_s(self._ours.dispatcher.pid), workers_s)


def _rate_used(load: Load, calls: int, seconds: float) -> float:
    """Of what a minute allows, the share that was used."""
    return calls * MINUTE_S / (load.limit * seconds)


def _slots_used(load: Load, arrived_ns: Sequence[int], before: Counters, after: Counters) -> float:
    """Of bulk's slots, the share of the measured time in which they had calls, each as long as the load's are."""
    lasts_ns = round(load.longest_s * 1e9)
    open_ns = sum(max(0, min(at + lasts_ns, after.at_ns) - max(at, before.at_ns)) for at in arrived_ns)
    return open_ns / ((after.at_ns - before.at_ns) * int((load.calls_at_once or 1) * BULK_SHARE))


def _spread(name: str, waits_ms: Sequence[float]) -> dict[str, float | int | None]:
    shares = {"p50": 0.50, "p95": 0.95, "max": 1.0}
    return {f"{name}_n": len(waits_ms)} | {f"{name}_{label}_ms": quantile(waits_ms, at) for label, at in shares.items()}


def _checks(heap: Heap, figures: Mapping[str, Any]) -> list[Check]:
    """What a run must reach. Slots are filled to the same share as a rate: else interactive calls met no load."""
    load, name = heap.load, heap.name
    checks = [
        Check(f"{name}: claims per call", figures["claims_per_call"], "claims", "<=", CLAIMS_PER_CALL),
        Check(f"{name}: claims that the ledger does not have", figures["unwritten"], "claims", "=", 0),
        Check(f"{name}: calls refused", figures["refused"], "calls", "=", 0),
        Check(f"{name}: bulk jobs left waiting", figures["waiting"], "jobs", ">=", 1),
    ]
    if load.least_use:
        what = "use of the limit" if load.per_min else "use of bulk's slots"
        checks.append(Check(f"{name}: {what}", figures["use_%"], "%", ">=", 100 * load.least_use))
    if load.calls_at_once:
        checks.append(Check(f"{name}: calls open at most", figures["most_open"], "calls", "<=", load.calls_at_once))
    if heap.idle:
        # Of so few jobs the p95 is a matter of seven: it is held to the most that the idle one may well be.
        goals = {"p50": TIMES_IDLE * figures["idle_p50_ms"], "p95": TIMES_IDLE * figures["idle_p95_most_ms"]}
        checks += [
            Check(f"{name}: interactive wait, {share}", figures[f"loaded_{share}_ms"], "ms", "<=", goal_ms)
            for share, goal_ms in goals.items()
        ]
    return checks
