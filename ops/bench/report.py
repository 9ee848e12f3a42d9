"""What a bench is asked and what it answers: options, checks against goals, rounds, peers. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

Figures = Mapping[str, float | int | str | None]
"""One round, or one peer's summary: names with their units, and what was measured. None: not measured."""


def _unheard(_: str) -> None:
    """Progress that nobody wants to read."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Running servers to use in place of the bench's own, which empties them. For tests; figures then say little."""

    database_url: str
    redis_url: str


@dataclass(frozen=True, slots=True)
class Options:
    """What a bench is told. None: the bench's own figure, the one its goal is stated for.

    n: jobs (or calls) measured over all rounds.
    without: the mechanism to switch off; see `ops.bench.SWITCHES`.
    peers: whether the peers run too. with_litellm: also LiteLLM, in a virtual environment of its own.
    say: hears one line of progress at a time.
    seed: what a bench draws by chance, it draws from this.
    seconds, loads, plot: how long a run takes, which loads there are, and where a plot of use over time is written
        (SVG), for the benches of limits.
    """

    n: int | None = None
    rounds: int | None = None
    seed: int | None = None
    without: str | None = None
    peers: bool = True
    with_litellm: bool = False
    seconds: int | None = None
    loads: tuple[str, ...] = ()
    plot: Path | None = None
    servers: Servers | None = None
    say: Callable[[str], None] = _unheard

    def per_round(self, n: int, rounds: int) -> tuple[int, int]:
        """Return (jobs per round, rounds), with the bench's own figures where none were given."""
        rounds = self.rounds or rounds
        return max(1, math.ceil((self.n or n) / rounds)), rounds


@dataclass(frozen=True, slots=True)
class Check:
    """One figure against its goal. A figure that could not be measured has not reached it."""

    what: str
    value: float | None
    unit: str
    relation: Literal["<=", ">=", "="]
    goal: float

    @property
    def ok(self) -> bool:
        """Whether the goal is reached."""
        if self.value is None:
            return False
        return {"<=": self.value <= self.goal, ">=": self.value >= self.goal, "=": self.value == self.goal}[
            self.relation
        ]

    def as_json(self) -> dict[str, Any]:
        """The check with its verdict."""
        goal = f"{self.relation} {self.goal:g}"
        return {"what": self.what, "value": _rounded(self.value), "unit": self.unit, "goal": goal, "ok": self.ok}


@dataclass(frozen=True, slots=True)
class Report:
    """A bench's answer. `checks[0]` is its headline; it is ok only if all are. tables: what else is told, by title."""

    name: str
    checks: Sequence[Check]
    rounds: Sequence[Figures]
    peers: Mapping[str, Figures] = field(default_factory=dict)
    without: str | None = None
    notes: Sequence[str] = ()
    tables: Mapping[str, Sequence[Figures]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every goal is reached."""
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """The report as `assayline bench NAME --json` prints it."""
        head = self.checks[0].as_json()
        return {
            "name": self.name,
            "value": head["value"],
            "unit": head["unit"],
            "goal": head["goal"],
            "ok": self.ok,
            "without": self.without,
            "checks": [check.as_json() for check in self.checks],
            "peers": {name: _plain(figures) for name, figures in self.peers.items()},
            "rounds": [_plain(figures) for figures in self.rounds],
            "notes": list(self.notes),
            "tables": {title: [_plain(figures) for figures in rows] for title, rows in self.tables.items()},
        }

    def print(self, console: Console) -> None:
        """Print the report for people: its tables, every round, the peers beside it, then each goal."""
        for title, rows in self.tables.items():
            console.print(_table(title, {str(number): figures for number, figures in enumerate(rows, 1)}))
        console.print(_table("rounds", {str(number): figures for number, figures in enumerate(self.rounds, 1)}))
        if self.peers:
            console.print(_table("peers", self.peers))
        goals = {check.what: check.as_json() for check in self.checks}
        console.print(_table(self.name, {what: _without(figures, "what") for what, figures in goals.items()}))
        for note in self.notes:
            console.print(f"- {note}", markup=False)


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the value that `share` of the values do not exceed (nearest rank); None for no values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def most_quantile(values: Sequence[float], share: float, confidence: float = 0.95) -> float | None:
    """Return what the quantile of all such values hardly exceeds, whatever their distribution; None for no values.

    The lowest of the values that is at least the true quantile with that confidence: an order statistic (Wilks, 1941).
    Of the 95 % quantile it takes 59 values; of fewer the highest is returned, with less confidence.
    """
    ordered, below = sorted(values), 0.0
    for rank, value in enumerate(ordered):  # exactly so many of them lie below the quantile
        below += math.comb(len(ordered), rank) * share**rank * (1 - share) ** (len(ordered) - rank)
        if below >= confidence:
            return value
    return ordered[-1] if ordered else None


def median(values: Sequence[float | None]) -> float | None:
    """Return the median of what was measured; None where nothing was."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _table(title: str, rows: Mapping[str, Figures]) -> Table:
    columns = list(dict.fromkeys(name for figures in rows.values() for name in figures))
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for name, figures in rows.items():
        table.add_row(name, *(_cell(figures.get(column)) for column in columns))
    return table


def _cell(value: float | str | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return "-" if value is None else str(_rounded(value))


def _plain(figures: Figures) -> dict[str, Any]:
    return {name: _rounded(value) for name, value in figures.items()}


def _without(figures: Figures, name: str) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if key != name}


def _rounded(value: float | str | None) -> float | str | None:
    """Three decimals are more than any bench can tell apart."""
    return round(value, 3) if isinstance(value, float) else value
