"""A dispatcher's health: when each piece of its work went well for the last time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from workers.health.findings import Health, Problem
from workers.health.neighbours import Broker, Since
from workers.health.pulse import LoopTicker
from workers.health.thresholds import Thresholds
from workers.health.worker import loop_is_late


class DispatcherHealth:
    """A dispatcher's health, from its passes.

    Args:
        every_s: see `Policy.periods_s`.
        broker: asked whether it answers.
        postgres_answers: asks Postgres. Both only where a pass is missing.
        thresholds: from where on it counts as not ready, and as not live; to each the pass's own period is added.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        every_s: Mapping[str, float],
        broker: Broker,
        postgres_answers: Callable[[], bool],
        *,
        thresholds: Thresholds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.thresholds = thresholds
        self.loop = LoopTicker(clock)
        self._every_s, self._clock = dict(every_s), clock
        self._passed_at = dict.fromkeys(every_s, clock())
        self._broker, self._postgres_answers = broker, postgres_answers
        self._back = Since(clock)

    def passed(self, work: str) -> None:
        """Note that a piece of work went well."""
        if work in self._passed_at:
            self._passed_at[work] = self._clock()

    def look(self) -> None:
        """Where a pass is missing, ask whether the neighbours answer. May take seconds."""
        missing = any(age_s >= self.thresholds.silent_s for age_s in self._overdue_s().values())
        self._back.note(so=missing and self._postgres_answers() and self._broker.waiting() is not None)

    def close(self) -> None:
        """Let the connection to the broker go. On the thread that looks."""
        self._broker.close()

    def health(self) -> Health:
        """The judgement now; asks nobody."""
        thresholds, late_s, back_s = self.thresholds, self.loop.late_s, self._back.for_s
        found = [loop_is_late(late_s, thresholds)] if late_s >= thresholds.late_s else []
        for work, age_s in self._overdue_s().items():
            if age_s < thresholds.silent_s:
                continue
            why = f"though its stores have answered for {back_s:.0f} s" if back_s else "one of its stores is away"
            deadly = age_s >= thresholds.mute_s and back_s >= thresholds.back_s
            found.append(Problem("dispatcher", f"{work}: overdue for {age_s:.0f} s, {why}", deadly))
        ages_s = {work: round(self._clock() - at, 3) for work, at in self._passed_at.items()}
        figures = {"loop_late_s": round(late_s, 3), "neighbours_back_s": round(back_s, 3), "passed_s": ages_s}
        return Health(found, figures)

    def _overdue_s(self) -> dict[str, float]:
        """Seconds beyond its turn, by piece of work."""
        now = self._clock()
        return {work: now - at - self._every_s[work] for work, at in self._passed_at.items()}
