"""The primary provider goes dark: how soon are jobs done elsewhere, and how soon is it used again when it is well?

Two providers, a worker at each, and a dispatcher; interactive jobs arrive steadily beside a bulk backlog. The primary
fails in each of four ways (`outage.failures`) for half a minute. Who was asked is judged by the endpoints' own records
(the ledger's where nobody listened), who was answered by Postgres's. Peers, at the same time, each between two
endpoints of its own: Celery, whose retries ask the next provider, and LiteLLM's Router with a fallback and cooldowns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from ops.bench.outage.arrivals import Arrivals
from ops.bench.outage.endpoint import OutageEndpoint
from ops.bench.outage.failures import FAILURES, Failure
from ops.bench.outage.judge import SECONDARY, Asked, Call, Outage, last_done_s, most_at_once
from ops.bench.outage.ours import SLOTS, OurSystem
from ops.bench.outage.peers import Peer, jobs_of, peers_of
from ops.bench.processes import BenchFailure
from ops.bench.report import Check, Figures, Options, Report
from ops.bench.stack import Stack, opened

ROUNDS = 1
ELSEWHERE_GOAL_S = 5.0
BACK_GOAL_S = 60.0
MOST_PROBES = 1
MOST_WASTED = SLOTS + 10
"""Calls at the primary while it is dark: its slots once over, since what hangs cannot be told from what is slow, and
the probes."""
LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Course:
    """How a run goes. Seconds unless the name says otherwise.

    per_s: interactive jobs a second. warm_s: before the failure. dark_s: how long it lasts. hold_s, settled_s: see
    `Outage`. back_s: how long to wait, after the recovery, until the primary is used again.
    drain_s: how long, after the last job has come, until those that have not ended count as lost.
    """

    per_s: float = 10.0
    warm_s: float = 8.0
    dark_s: float = 30.0
    hold_s: float = 5.0
    settled_s: float = ELSEWHERE_GOAL_S
    back_s: float = 75.0
    drain_s: float = 90.0


def run(options: Options) -> Report:
    """Measure; `options.loads` are the failures, `options.seconds` how long each lasts."""
    course = Course(dark_s=float(options.seconds)) if options.seconds else Course()
    return measure(options, [FAILURES[name] for name in options.loads or FAILURES], course)


def measure(options: Options, failures: Sequence[Failure], course: Course) -> Report:
    """Measure.

    Args:
        options: as for every bench.
        failures: what is done to the primary, one after the other, each on servers of its own.
        course: how long everything takes.
    """
    rounds: list[Figures] = []
    beside: dict[str, Figures] = {}
    for number in range(1, (options.rounds or ROUNDS) + 1):
        for failure in failures:
            with opened(options) as stack:
                ours, theirs = _Run(stack, options, failure, course).run()
            rounds.append({"failure": failure.name, "round": number, **ours})
            options.say(f"round {number}, {failure.name}: {ours}")
            for title, figures in theirs.items():
                named = f"{failure.name}: {title}" + (f", round {number}" if number > 1 else "")
                beside[named] = figures
                options.say(f"{named}: {figures}")
    return _report(options, course, rounds, beside)


@dataclass(slots=True)
class _Run:
    """One failure, of ours and of every peer's primary at the same time."""

    _stack: Stack
    _options: Options
    _failure: Failure
    _course: Course
    _outages: dict[str, Outage] = field(default_factory=dict)

    def run(self) -> tuple[Figures, Mapping[str, Figures]]:
        """Our figures, and the peers' by title."""
        options, course = self._options, self._course
        peers = peers_of(self._stack, course.per_s, with_litellm=options.with_litellm) if options.peers else {}
        ours = OurSystem(self._stack, without=options.without)
        asks = [ours.ask, *(peer.ask for peer in peers.values())]
        with closing(ours):
            with Arrivals(course.per_s, asks) as arrivals:
                for peer in peers.values():
                    peer.begin()
                self._work(ours, arrivals, course.warm_s)
                outage, theirs = self._outage(ours, peers, arrivals)
                self._await_return(ours, outage, arrivals)
                left_elsewhere = ours.left_elsewhere()
            figures = self._ours(ours, outage) | {"left_elsewhere": left_elsewhere}
        return figures, {title: self._theirs(peer, theirs[title]) for title, peer in peers.items()}

    def _outage(
        self, ours: OurSystem, peers: Mapping[str, Peer], arrivals: Arrivals
    ) -> tuple[Outage, Mapping[str, Outage]]:
        """Let all primaries fail, and recover; when ours did, and when the peers' did."""
        if not any(call.answered for call in ours.primary.calls()):
            raise BenchFailure("the primary had answered no call before it was to fail")
        primaries: list[OutageEndpoint] = [ours.primary, *(peer.primary for peer in peers.values())]
        failed = [primary.fail(self._failure) for primary in primaries]
        self._work(ours, arrivals, self._course.dark_s)
        recovered = [primary.recover() for primary in primaries]
        course = self._course
        mine, *others = [
            Outage(since_s, until_s, course.per_s, course.hold_s, course.settled_s)
            for since_s, until_s in zip(failed, recovered, strict=True)
        ]
        return mine, dict(zip(peers, others, strict=True))

    def _work(self, ours: OurSystem, arrivals: Arrivals, seconds: float) -> None:
        """Let so much time pass while there is work."""
        ends = time.monotonic() + seconds
        while (left_s := ends - time.monotonic()) > 0:
            ours.top_up()
            time.sleep(min(LOOK_S, left_s))
            self._stack.check()
            arrivals.check()

    def _await_return(self, ours: OurSystem, outage: Outage, arrivals: Arrivals) -> None:
        """Wait until the primary answers new jobs again, and holds it, but not for ever."""
        ends = time.monotonic() + self._course.back_s
        while outage.back(ours.jobs("interactive", outage.recovered_s)) is None and time.monotonic() < ends:
            self._work(ours, arrivals, LOOK_S)

    def _ours(self, ours: OurSystem, outage: Outage) -> dict[str, Any]:
        ends = time.monotonic() + self._course.drain_s
        while ours.not_ended() and time.monotonic() < ends:
            time.sleep(LOOK_S)
        gone = self._failure.gone
        calls = ours.ledger() if gone else ours.primary.calls()
        return {
            **self._judged(ours.jobs("interactive"), calls, outage, seen=not gone),
            "last_done_s": last_done_s(ours.jobs("interactive") + ours.jobs("bulk"), outage),
            "failed": ours.failed(),
            "not_ended": ours.not_ended(),
            "bulk_elsewhere": sum(job.at == SECONDARY for job in ours.jobs("bulk")),
        }

    def _theirs(self, peer: Peer, outage: Outage) -> Figures:
        jobs, gone = jobs_of(peer), self._failure.gone
        before = [job for job in jobs if job.asked_s < outage.recovered_s]
        judged = self._judged(jobs, [] if gone else peer.primary.calls(), outage, seen=not gone)
        if gone:
            judged["wasted"] = judged["wasted_late"] = None  # nobody was there to write them down
        lost = sum(job.ended_s is None for job in before)
        return judged | {"last_done_s": last_done_s(jobs, outage), "not_ended": lost}

    def _judged(self, jobs: Sequence[Asked], calls: Sequence[Call], outage: Outage, *, seen: bool) -> dict[str, Any]:
        first_s, rate_back_s = outage.elsewhere(jobs)
        late = outage.late(calls)
        return {
            "first_elsewhere_s": first_s,
            "rate_back_s": rate_back_s,
            **outage.waits(jobs),
            "wasted": outage.wasted(calls),
            "wasted_late": len(late),
            "probes_at_once": most_at_once(late) if seen else None,
            "back_s": outage.back(jobs),
        }


def _report(options: Options, course: Course, rounds: Sequence[Figures], beside: Mapping[str, Figures]) -> Report:
    def worst(name: str, *, unseen: bool = False) -> float | None:
        found = [figures[name] for figures in rounds]
        known = [float(value) for value in found if isinstance(value, (int, float))]
        return max(known, default=None) if unseen or len(known) == len(found) else None

    checks = [
        Check(
            "it fails to jobs done elsewhere as fast as they come", worst("rate_back_s"), "s", "<=", ELSEWHERE_GOAL_S
        ),
        Check("it is well again to jobs done there", worst("back_s"), "s", "<=", BACK_GOAL_S),
        Check("calls at it while it was dark", worst("wasted"), "calls", "<=", MOST_WASTED),
        Check("jobs that failed", worst("failed"), "jobs", "=", 0),
        Check("jobs that have not ended", worst("not_ended"), "jobs", "=", 0),
    ]
    seen = any(figures["probes_at_once"] is not None for figures in rounds)
    if seen:
        probes = worst("probes_at_once", unseen=True)
        checks.append(Check("of them at once, when it was known", probes, "calls", "<=", MOST_PROBES))
    notes = [
        f"dark for {course.dark_s:g} s each; {course.per_s:g} interactive jobs a second; the primary's timeout is 3 s",
        f"known: {course.settled_s:g} s after the failure; where nobody listens, calls are counted by the ledger",
    ]
    unseen = dict.fromkeys(str(figures["failure"]) for figures in rounds if figures["probes_at_once"] is None)
    if unseen:
        judged = "judged by the others" if seen else "not judged"
        notes.append(f"probes at once: nobody was there to see them in {', '.join(unseen)}; {judged}")
    if options.peers and not options.with_litellm:
        beside = {**beside, "LiteLLM Router": {"rate_back_s": None, "note": "absent: --with-litellm"}}
    return Report("failover", checks, rounds, beside, options.without, notes)
