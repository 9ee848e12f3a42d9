"""A worker is killed with -9 in mid-call: how long until its jobs' next calls reach the endpoint?

Two workers run; the one that is killed is replaced at once, as the supervisor of `assayline up` does. The lost calls
must stay `unknown` in the ledger, and the jobs end well. Peer: Celery on Redis with late acknowledgement, whose only
recovery is the visibility timeout (one hour by default). It runs with 30 s here, to show what its sweep adds, and is
not waited for longer than the sweep's own bound.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from redis import Redis

from gateway.cache.shared import ALIVE
from ops.bench.celery_runs import CeleryPeer
from ops.bench.processes import BenchFailure, Running
from ops.bench.report import Check, Figures, Options, Report
from ops.bench.stack import START_S, Stack, job, opened

ROUNDS = 3
JOBS = 8
"""In each round, over both workers."""
GOAL_S = 30.0
BOUND_S = 60.0
"""How long a round waits for calls that may never come."""
HELD_S = 600.0
"""How long the endpoint holds a first call: longer than any round."""
PEER_VISIBILITY_S = 30
PEER_SWEEP_S = 100
"""kombu looks for expired messages in every tenth of its ten-second turns (unacked_restore_interval, its throttle)."""

OWNED = """
    SELECT j.id, substring(c.content FROM 'marker-([^ ]+)')
      FROM assayline.jobs j
      JOIN assayline.workers w ON w.incarnation = j.incarnation
      JOIN assayline.job_contents c ON c.job_id = j.id
     WHERE j.state = 'running' AND w.pid = %s
"""
UNKNOWN = "SELECT count(*) FROM assayline.calls WHERE job_id = ANY(%s) AND claim_no = 1 AND outcome = 'unknown'"
AGE = """
    UPDATE assayline.workers SET heartbeat_at = heartbeat_at - make_interval(secs => %s) WHERE pid = %s RETURNING pid
"""


def run(options: Options) -> Report:
    """Measure; `options.n` is the number of jobs in each round."""
    return measure(options)


def measure(options: Options, *, bound_s: float = BOUND_S, passed_s: float = 0.0) -> Report:
    """Measure.

    Args:
        options: as for every bench.
        bound_s: how long a round waits.
        passed_s: seconds by which the dead worker's last signs of life are put back, as if they had passed. For tests.
    """
    with opened(options) as stack:
        stack.endpoint.ask(f"set?latency_s={HELD_S}&again_s=0")
        stack.dispatcher(*(["--no-rescue"] if options.without == "rescue" else []))
        bench = _Recovery(stack, options.n or JOBS, bound_s, passed_s)
        peer = CeleryPeer(stack, PEER_VISIBILITY_S) if options.peers else None
        measured = [bench.round(number, peer) for number in range(1, (options.rounds or ROUNDS) + 1)]
    return _report(options, measured)


class _Recovery:
    def __init__(self, stack: Stack, jobs: int, bound_s: float, passed_s: float) -> None:
        self._stack = stack
        self._jobs = jobs
        self._bound_s = bound_s
        self._passed_s = passed_s
        self._slots = max(1, jobs // 2)
        self._workers = [stack.begin_worker(self._slots) for _ in range(2)]
        stack.await_workers(self._workers)

    def round(self, number: int, peer: CeleryPeer | None) -> dict[str, Any]:
        """Kill one of the two workers, wait for its jobs, then let everything end."""
        stack = self._stack
        stack.endpoint.ask("reset")
        begun = self._begin_peer(peer, number) if peer else ()
        stack.enqueue([job(f"ours.{number}.{place}") for place in range(self._jobs)])
        stack.until(lambda: self._first_calls("ours") == self._jobs, START_S, "all first calls")
        killed, killed_at, lost = self._kill_one()
        came_s = self._second_calls(lost, killed_at)
        figures: dict[str, Any] = {
            "lost_in_mid_call": len(lost),
            "called_again": len(came_s),
            "recovered_s": max(came_s.values()) if len(came_s) == len(lost) else None,
            "unknown_in_ledger": self._unknown(lost),
        }
        stack.endpoint.ask("release")
        if figures["recovered_s"] is not None:
            stack.finish(60.0)
        figures["succeeded"] = stack.number(
            "SELECT count(*) FROM assayline.jobs WHERE state = 'succeeded' AND id = ANY(%s)", [list(lost)]
        )
        if peer:
            figures["celery_30_s"] = self._await_peer(*begun)
        stack.say(f"round {number}: {killed} killed: {figures}")
        return figures

    def _kill_one(self) -> tuple[str, int, dict[Any, str]]:
        """Kill the first worker and start its replacement; its name, the time (wall clock, ns), its jobs' markers."""
        victim = self._workers.pop(0)
        lost = dict(self._stack.rows(OWNED, [victim.pid]))
        killed_at = time.time_ns()
        self._stack.kill(victim)
        if not lost:
            raise BenchFailure("the worker to be killed had no job")
        if self._passed_s:
            self._let_time_pass(victim)
        self._workers.append(self._stack.worker(self._slots))
        return victim.name, killed_at, lost

    def _let_time_pass(self, victim: Running) -> None:
        """Put back the last signs of life: the worker's heartbeat, and those of leases in the cache."""
        self._stack.rows(AGE, [self._passed_s, victim.pid])
        with Redis.from_url(self._stack.servers.redis_url) as redis:
            for key in redis.scan_iter(f"{ALIVE}*"):
                redis.delete(key)

    def _second_calls(self, lost: dict[Any, str], killed_at: int) -> dict[str, float]:
        """Seconds from the kill to each lost job's second call; those that came within the bound."""
        deadline = time.monotonic() + self._bound_s
        came: dict[str, float] = {}
        while len(came) < len(lost) and time.monotonic() < deadline:
            time.sleep(0.1)
            arrivals = self._stack.endpoint.arrivals()
            came = {m: (arrivals[m][1] - killed_at) / 1e9 for m in lost.values() if len(arrivals[m]) > 1}
        return came

    def _first_calls(self, prefix: str) -> int:
        return sum(marker.startswith(prefix) for marker in self._stack.endpoint.arrivals())

    def _unknown(self, lost: dict[Any, str]) -> int:
        return self._stack.number(UNKNOWN, [list(lost)])

    def _begin_peer(self, peer: CeleryPeer, number: int) -> tuple[str, int, Running]:
        """One task in mid-call on a worker of its own, which is killed; a second one is there to take over."""
        victim = peer.worker(1)
        marker = f"peer.{number}"
        peer.send("peer.call", self._stack.endpoint.port, marker)
        self._stack.until(lambda: marker in self._stack.endpoint.arrivals(), START_S, "the peer's call")
        killed_at = time.time_ns()
        self._stack.kill(victim)
        return marker, killed_at, peer.worker(1)

    def _await_peer(self, marker: str, killed_at: int, heir: Running) -> float | None:
        deadline = time.monotonic() + PEER_VISIBILITY_S + PEER_SWEEP_S + 20.0
        while len(calls := self._stack.endpoint.arrivals()[marker]) < 2 and time.monotonic() < deadline:
            time.sleep(0.5)
        self._stack.stop(heir)
        return (calls[1] - killed_at) / 1e9 if len(calls) > 1 else None


def _report(options: Options, rounds: Sequence[Figures]) -> Report:
    def total(name: str) -> float:
        return float(sum(value for figures in rounds if isinstance(value := figures[name], int)))

    times = [figures["recovered_s"] for figures in rounds]
    worst = max((float(t) for t in times if t is not None), default=None) if None not in times else None
    lost = total("lost_in_mid_call")
    checks = [
        Check("kill -9 to the last lost job's next call, worst round", worst, "s", "<=", GOAL_S),
        Check("lost calls `unknown` in the ledger", total("unknown_in_ledger"), "calls", "=", lost),
        Check("lost jobs that ended well", total("succeeded"), "jobs", "=", lost),
    ]
    peers: dict[str, Figures] = {}
    if options.peers:
        seen = [float(s) for figures in rounds if isinstance(s := figures["celery_30_s"], (int, float))]
        peers["Celery on Redis, acks_late, visibility timeout set to 30 s"] = {"worst_s": max(seen, default=None)}
        peers["Celery on Redis, acks_late, as shipped"] = {
            "worst_s": None,
            "note": "not waited for: 3600 s and its sweep",
        }
    return Report("recovery", checks, rounds, peers, options.without)
