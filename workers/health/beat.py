"""Beat's health: when its scheduler turned for the last time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from celery.beat import PersistentScheduler

from workers.health.findings import Health, Problem
from workers.health.thresholds import Thresholds


class BeatHealth:
    """Beat's health. `clock`: seconds, monotonic."""

    def __init__(self, thresholds: Thresholds, clock: Callable[[], float] = time.monotonic) -> None:
        self.thresholds = thresholds
        self._clock = clock
        self._turned_at = clock()

    def turned(self) -> None:
        """Note a turn."""
        self._turned_at = self._clock()

    def look(self) -> None:
        """There is nobody to look at: a broker that is away costs beat its ticks, and others make them good."""

    def close(self) -> None:
        """Nothing is held."""

    def health(self) -> Health:
        """The judgement now."""
        silent_s = self._clock() - self._turned_at
        found = []
        if silent_s >= self.thresholds.beat_silent_s:
            found.append(Problem("beat", f"its scheduler has not turned for {silent_s:.0f} s", deadly=True))
        return Health(found, {"turned_s": round(silent_s, 3)})


class TurningScheduler(PersistentScheduler):  # type: ignore[misc]
    """Celery's scheduler, which notes each of its turns."""

    def __init__(self, *args: Any, health: BeatHealth, **options: Any) -> None:
        self._health = health
        super().__init__(*args, **options)

    def tick(self, *args: Any, **options: Any) -> Any:
        """See `Scheduler.tick`."""
        self._health.turned()
        return super().tick(*args, **options)
