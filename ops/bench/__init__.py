"""Benches: what Assayline must reach, measured on the configuration that `assayline up` runs.

Each bench is judged by the endpoint's and Postgres's own records, runs its peers in the same rounds, keeps every round,
and knows a mechanism that can be switched off (`without`), for which it must fail. Linux only: they read /proc.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from ops.bench.report import Options, Report

SWITCHES: dict[str, tuple[str, ...]] = {
    "job-cost": ("loop", "aiohttp", "batches"),
    "inflight": ("threads",),
    "latency": ("listen",),
    "enqueue": ("copy",),
    "dispatch": ("portions",),
    "recovery": ("rescue",),
    "limits": ("limiter",),
    "steady": ("headroom",),
    "failover": ("breaker",),
    "chaos": ("fence", "rescue", "republish"),
}
"""The mechanisms that each bench can do without, to show what they are worth."""

LOADS: dict[str, tuple[str, ...]] = {
    "dispatch": ("1 tenant", "1,000 tenants"),
    "limits": ("requests", "short", "long"),
    "steady": ("requests", "slots", "million"),
    "failover": ("refuses", "hangs", "errors", "quota"),
}
"""The loads, or the failures, of the benches that have several; their modules say what each is."""


def _lazy(name: str) -> Callable[[Options], Report]:
    """A bench imports what it needs only when it runs: the command line lists them all."""

    def run(options: Options) -> Report:
        """Run the bench.

        Raises:
            ConfigurationError: `options.without` names no mechanism of this bench, or `options.loads` no load.
        """
        if options.without is not None and options.without not in SWITCHES[name]:
            raise ConfigurationError(
                f"bench {name} runs without {' or '.join(SWITCHES[name])}, not {options.without!r}"
            )
        for load in options.loads:
            if load not in LOADS.get(name, ()):
                known = ", ".join(map(repr, LOADS.get(name, ()))) or "none"
                raise ConfigurationError(f"bench {name} has no load {load!r}; there are {known}")
        module = import_module(f"ops.bench.{name.replace('-', '_')}")
        report: Report = module.run(options)
        return report

    return run


BENCHES: dict[str, Callable[[Options], Report]] = {name: _lazy(name) for name in SWITCHES}
