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


def _lazy(name: str) -> Callable[[Options], Report]:
    """A bench imports what it needs only when it runs: the command line lists them all."""

    def run(options: Options) -> Report:
        """Run the bench.

        Raises:
            ConfigurationError: `options.without` names no mechanism of this bench.
        """
        if options.without is not None and options.without not in SWITCHES[name]:
            raise ConfigurationError(
                f"bench {name} runs without {' or '.join(SWITCHES[name])}, not {options.without!r}"
            )
        module = import_module(f"ops.bench.{name.replace('-', '_')}")
        report: Report = module.run(options)
        return report

    return run


BENCHES: dict[str, Callable[[Options], Report]] = {name: _lazy(name) for name in SWITCHES}
