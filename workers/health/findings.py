"""What was found: problems with their weight, and the figures they were read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `part`: of what. `deadly`: whether the process should be started anew for it."""

    part: str
    problem: str
    deadly: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """A judgement. `figures`: seconds, counts and states as they were, by name; JSON."""

    problems: Sequence[Problem] = ()
    figures: Figures = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether there is no reason to start the process anew."""
        return not any(problem.deadly for problem in self.problems)

    @property
    def ready(self) -> bool:
        """Whether it does its work now."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        problems = [asdict(problem) for problem in self.problems]
        return {"live": self.live, "ready": self.ready, "problems": problems, **self.figures}
