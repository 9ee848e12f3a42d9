"""Four worker processes on one account whose endpoint is strict: how much of the limit is used, and how much refused?

Three loads (`strict.loads`): bound by requests, by tokens with short calls, by tokens with long ones. Each is run as it
is, with one worker killed -9 each twenty seconds, and with the workers' clocks half a minute off, either way. Use is
what the endpoint counted in minutes two to five; refusals count from the first second on. Peers: Celery's `rate_limit`,
shared out by hand as an expert would and as one writes it without thinking, and LiteLLM's Router with limits in Redis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.bench.report import Check, Figures, Options, Report
from ops.bench.stack import opened
from ops.bench.strict.endpoint import SETTLING, Record
from ops.bench.strict.loads import LOADS, Load
from ops.bench.strict.ours import OurWorkers
from ops.bench.strict.peers import run_peers
from ops.bench.strict.plot import plot

SECONDS = 300
ROUNDS = 1
WORKERS = 4
SKEWS_S = (30.0, -30.0)
OURS = "Assayline"
STARVED_PERCENT = 85.0
"""Where the machine's cores were busier than this, a process may have waited for one: its figure is marked."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is done to our workers during a run. `skews_s`: by how much their clocks are wrong."""

    name: str
    kills: bool = False
    skews_s: Sequence[float] = ()


KILLS = Trouble("kill -9", kills=True)
TROUBLES = (Trouble("as it is"), KILLS, Trouble("clocks off", skews_s=SKEWS_S))


def run(options: Options) -> Report:
    """Measure; see the module."""
    return measure(options, [LOADS[name] for name in options.loads or LOADS])


def measure(
    options: Options, loads: Sequence[Load], *, workers: int = WORKERS, troubles: Sequence[Trouble] = TROUBLES
) -> Report:
    """Measure.

    Args:
        options: as for every bench.
        loads: what the endpoint's accounts allow, and what calls are like.
        workers: how many worker processes, ours and each peer's.
        troubles: what is done to ours, one after the other. A mechanism is switched off without any.
    """
    bench = _Limits(options, workers, options.seconds or SECONDS)
    for number in range(1, (options.rounds or ROUNDS) + 1):
        for load in loads:
            for trouble in troubles[:1] if options.without else troubles:
                bench.ours(number, load, trouble)
            if options.peers:
                bench.peers(number, load)
    if options.plot is not None:
        options.plot.write_text(plot(bench.panels))
    return bench.report()


@dataclass(slots=True)
class _Limits:
    """What has been measured so far. `rounds` by load and trouble; `panels` of the last round, as it is."""

    _options: Options
    _workers: int
    _seconds: int
    rounds: list[Figures] = field(default_factory=list)
    measured: dict[tuple[str, str], list[Record]] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    beside: dict[str, Figures] = field(default_factory=dict)
    panels: dict[str, dict[str, Record]] = field(default_factory=dict)

    def ours(self, number: int, load: Load, trouble: Trouble) -> None:
        """One run of ours, on servers of its own."""
        options = self._options
        with opened(options) as stack:
            ours = OurWorkers(stack, load, self._workers, without=options.without, skews_s=trouble.skews_s)
            record, seen = ours.run(self._seconds, kills=trouble.kills)
        self.measured.setdefault((load.name, trouble.name), []).append(record)
        self.waiting.append(seen["least_waiting"])
        if trouble == TROUBLES[0]:
            self.panels.setdefault(_title(load), {})[OURS] = record
        self._told(number, load, {"trouble": trouble.name, **record.figures(), **seen})

    def peers(self, number: int, load: Load) -> None:
        """One run of all peers side by side, on servers of their own."""
        options = self._options
        with opened(options) as stack:
            found = run_peers(stack, load, self._workers, self._seconds, with_litellm=options.with_litellm)
        busy = {"cores_busy_%": found["cores_busy_%"]}
        records: Mapping[str, Record] = found["records"]
        self.panels.setdefault(_title(load), {}).update(records)
        for title, record in records.items():
            named = f"{load.name}: {title}" + (f", round {number}" if number > 1 else "")
            self.beside[named] = {**record.figures(), **busy}
            options.say(f"{named}: {self.beside[named]}")

    def report(self) -> Report:
        """All of it, judged."""
        checks = [
            check for (load, trouble), found in self.measured.items() for check in self._checks(load, trouble, found)
        ]
        checks.append(Check("jobs that waited, at the least", min(self.waiting), "jobs", ">=", 1))
        beside = self.beside
        if self._options.peers and not self._options.with_litellm:
            beside = beside | {"LiteLLM Router, Redis": {"use_%": None, "note": "absent: --with-litellm"}}
        notes = (
            f"runs of {self._seconds} s; use from second {round(self._seconds * SETTLING)} on, refusals of all of them",
            *self._starved(),
        )
        return Report("limits", checks, self.rounds, beside, self._options.without, notes)

    def _checks(self, load_name: str, trouble: str, found: Sequence[Record]) -> list[Check]:
        """The worst round decides."""
        load, what = found[0].load, f"{load_name}, {trouble}"
        uses = [record.use for record in found]
        least = min((use for use in uses if use is not None), default=None) if None not in uses else None
        refused = max(record.refusals / max(1, record.calls) for record in found)
        goal = load.least_use_killed if trouble == KILLS.name else load.least_use
        return [
            Check(f"{what}: calls refused", 100 * refused, "%", "<=", 100 * load.most_refused),
            Check(f"{what}: use of the limit", None if least is None else 100 * least, "%", ">=", 100 * goal),
        ]

    def _starved(self) -> Iterator[str]:
        """A note for each run that the machine may have been too small for."""
        runs = {f"{one['load']}, {one['trouble']}, round {one['round']}: {OURS}": one for one in self.rounds}
        for name, figures in {**runs, **self.beside}.items():
            busy = figures["cores_busy_%"]
            if isinstance(busy, float) and busy > STARVED_PERCENT:
                yield f"{name}: cores were {busy:.0f} % busy, so it may have waited for one, and not for its limit"

    def _told(self, number: int, load: Load, figures: dict[str, Any]) -> None:
        self.rounds.append({"load": load.name, "round": number, **figures})
        self._options.say(f"round {number}, {load.name}: {figures}")


def _title(load: Load) -> str:
    kind = load.bound_by.replace("_", " ")
    return f"{load.name}: {load.limit:,} {kind}/min, calls of {load.shortest_s:g} to {load.longest_s:g} s"
