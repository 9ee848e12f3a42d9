"""How many calls one worker process keeps open at once, as the endpoint counts them, and in how much memory.

Twice as many jobs as slots wait, so that calls end and begin while all slots are full.
"""

from __future__ import annotations

from ops.bench.proc import peak_mb
from ops.bench.report import Check, Options, Report
from ops.bench.stack import Stack, job, opened

CALLS, ROUNDS = 1_000, 3
LATENCY_S, LEAST_LATENCY_S = 12.0, 0.5
MEMORY_MB = 300.0


def run(options: Options) -> Report:
    """Measure; `options.n` is the number of calls to be open at once, in each round."""
    calls, rounds = options.n or CALLS, options.rounds or ROUNDS
    with opened(options) as stack:
        latency_s = max(LEAST_LATENCY_S, LATENCY_S * calls / CALLS)
        stack.endpoint.ask(f"set?latency_s={latency_s}")
        stack.dispatcher()
        measured = [_round(stack, number, calls, options.without) for number in range(1, rounds + 1)]
    checks = [
        Check(
            "calls open at once, by the endpoint",
            min(float(r["open_at_once"] or 0) for r in measured),
            "calls",
            ">=",
            calls,
        ),
        Check(
            "memory of the worker, at its peak", max(float(r["peak_mb"] or 0) for r in measured), "MB", "<=", MEMORY_MB
        ),
        Check("jobs succeeded", sum(float(r["succeeded"] or 0) for r in measured), "jobs", "=", 2 * calls * rounds),
    ]
    note = f"a call takes {latency_s:g} s; the worst round counts"
    return Report("inflight", checks, measured, {}, options.without, (note,))


def _round(stack: Stack, number: int, calls: int, without: str | None) -> dict[str, float]:
    worker = stack.worker(calls, without=without)
    stack.endpoint.ask("reset")
    ended = stack.succeeded()
    stack.enqueue([job(f"{number}.{place}") for place in range(2 * calls)])
    stack.finish(120.0 + calls)
    figures: dict[str, float] = {
        "open_at_once": stack.endpoint.ask("state")["peak"],
        "peak_mb": peak_mb(worker.pid),
        "succeeded": stack.succeeded() - ended,
    }
    stack.dismiss(worker)
    stack.say(f"round {number}: {figures}")
    return figures
