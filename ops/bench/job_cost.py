"""What a job costs a worker in CPU, all included: message, claim, prompt, call, validation, ledger, result, ack.

Peers: a Celery no-op task (what the message alone costs), the SDK's bare call with the very body that our worker sent,
and, on request, LiteLLM's Router with limits in Redis (the call alone, without a job around it).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ops.bench.celery_runs import CeleryPeer
from ops.bench.litellm_venv import SETTINGS, python, redis_arguments
from ops.bench.proc import cpu_s
from ops.bench.processes import run_json
from ops.bench.report import Check, Figures, Options, Report, median
from ops.bench.stack import Stack, job, opened

N, ROUNDS = 2_400, 3
IN_FLIGHT = 200
LATENCY_S = 2.0
EVENTS_OFF_MS, AS_UP_MS, RATIO, EVENTS_RATIO = 6.0, 8.0, 2.2, 1.15
PEER_S = 300.0
NO_EVENTS = "--no-events"
LATEST = "SELECT started_at, finished_at FROM assayline.jobs ORDER BY id DESC LIMIT %s"


def run(options: Options) -> Report:
    """Measure; see the module."""
    n, rounds = options.per_round(N, ROUNDS)
    in_flight = min(IN_FLIGHT, n)
    with opened(options) as stack:
        # A short run gets a quick endpoint: its figures say little anyway.
        stack.endpoint.ask(f"set?latency_s={LATENCY_S * in_flight / IN_FLIGHT}")
        stack.dispatcher()
        bench = _JobCost(stack, n, in_flight, options.without)
        peers = bench.peers(with_litellm=options.with_litellm) if options.peers else {}
        measured = [bench.round(number, peers) for number in range(1, rounds + 1)]
    return _report(options, measured, list(peers), n * rounds, in_flight)


class _JobCost:
    def __init__(self, stack: Stack, n: int, in_flight: int, without: str | None) -> None:
        self._stack = stack
        self._n = n
        self._in_flight = in_flight
        self._without = without

    def round(self, number: int, peers: dict[str, Callable[[], float]]) -> Figures:
        """One worker without task events, one as `up` runs it, then each peer."""
        figures: dict[str, Any] = self._worker(f"{number}.off", NO_EVENTS)
        as_up = self._worker(f"{number}.on")
        figures["as_up_ms"] = as_up["events_off_ms"]
        figures["succeeded"] += as_up["succeeded"]
        for name, measure in peers.items():
            figures[name] = measure()
        self._stack.say(f"round {number}: {figures}")
        return figures

    def _worker(self, name: str, *flags: str) -> dict[str, Any]:
        stack = self._stack
        worker = stack.worker(self._in_flight, *flags, without=self._without)
        self._jobs(f"{name}.warm", self._in_flight)
        stack.endpoint.ask("reset")
        before, ended = cpu_s(worker.pid), stack.succeeded()
        elapsed_s = self._jobs(name, self._n)
        used_s, seen = cpu_s(worker.pid) - before, stack.endpoint.ask("state")
        stack.dismiss(worker)
        return {
            "events_off_ms": used_s * 1_000 / self._n,
            "in_flight_peak": seen["peak"],
            "in_flight_mean": seen["busy_s"] / elapsed_s,
            "jobs_per_s": self._n / elapsed_s,
            "succeeded": stack.succeeded() - ended,
        }

    def _jobs(self, name: str, n: int) -> float:
        """Run `n` jobs to their end; the seconds from the first claim to the last end."""
        self._stack.enqueue([job(f"{name}.{number}") for number in range(n)])
        self._stack.finish(60.0 + n)
        elapsed = f"SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8 FROM ({LATEST}) j"
        return float(self._stack.rows(elapsed, [n])[0][0])

    def peers(self, *, with_litellm: bool) -> dict[str, Callable[[], float]]:
        """The peers by the names of their columns."""
        celery = CeleryPeer(self._stack)
        worker = celery.worker(self._in_flight)
        found: dict[str, Callable[[], float]] = {
            "celery_noop_ms": lambda: celery.noop_ms(worker, self._n),
            "sdk_call_ms": lambda: self._program(sys.executable, "sdk_peer", {}),
        }
        if with_litellm:
            found["litellm_call_ms"] = lambda: self._program(
                python(), "litellm_peer", {"redis": redis_arguments(self._stack.servers.redis_url)}
            )
        return found

    def _program(self, interpreter: str, name: str, more: dict[str, Any]) -> float:
        question = {
            "base_url": self._stack.endpoint.base_url,
            "body": self._stack.endpoint.ask("last"),
            "calls": self._n,
            "in_flight": self._in_flight,
            **more,
        }
        file = f"{__file__.rpartition('/')[0]}/{name}.py"
        answer = run_json([interpreter, file], question, self._stack.env | SETTINGS, PEER_S)
        return float(answer["cpu_ms_per_call"])


def _report(options: Options, rounds: list[Figures], peers: list[str], n: int, in_flight: int) -> Report:
    figures = {name: _mean(rounds, name) for name in ("events_off_ms", "as_up_ms", *peers)}
    events = _ratio(figures["as_up_ms"], figures["events_off_ms"])
    checks = [
        Check("CPU per job, task events off", figures["events_off_ms"], "ms", "<=", EVENTS_OFF_MS),
        Check("CPU per job, as `up` runs", figures["as_up_ms"], "ms", "<=", AS_UP_MS),
        Check("as `up` runs / events off", events, "x", "<=", EVENTS_RATIO),
        Check(
            "calls open at once, by the endpoint",
            median([_number(r, "in_flight_peak") for r in rounds]),
            "",
            ">=",
            in_flight,
        ),
        Check("jobs succeeded", sum(_number(r, "succeeded") or 0 for r in rounds), "", "=", 2 * n),
    ]
    noop, sdk = figures.get("celery_noop_ms"), figures.get("sdk_call_ms")
    if noop and sdk:
        ratio = _ratio(figures["events_off_ms"], noop + sdk)
        checks.insert(3, Check("events off / (Celery no-op + bare SDK call)", ratio, "x", "<=", RATIO))
    absent = (
        {}
        if "litellm_call_ms" in peers
        else {"LiteLLM Router, Redis limits": {"cpu_ms": None, "note": "absent: --with-litellm"}}
    )
    beside: dict[str, Figures] = {name.removesuffix("_ms"): {"cpu_ms": figures[name]} for name in peers}
    return Report(
        "job-cost", checks, rounds, beside | absent, options.without, (f"{n} jobs measured for each of the two",)
    )


def _ratio(figure: float | None, base: float | None) -> float | None:
    return figure / base if figure is not None and base else None


def _mean(rounds: list[Figures], name: str) -> float | None:
    known = [value for value in (_number(figures, name) for figures in rounds) if value is not None]
    return sum(known) / len(known) if known else None


def _number(figures: Figures, name: str) -> float | None:
    value = figures.get(name)
    return float(value) if isinstance(value, (int, float)) else None
