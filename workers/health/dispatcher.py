"""A dispatcher's health: when each piece of its work went well for the last time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.dispatch import Dispatcher
from tasks.dispatch_policy import Policy
from tasks.release import LANES
from workers.health.findings import Health, Problem
from workers.health.neighbours import Broker, Since
from workers.health.pulse import LoopTicker
from workers.health.thresholds import Thresholds
from workers.health.worker import loop_is_late


def periods(providers: Sequence[str], policy: Policy) -> dict[str, float]:
    """Every how many seconds each piece of work is done, by name."""
    chores = {
        "promote": policy.poll_s,
        "republish": policy.republish_every_s,
        "expire": policy.expire_every_s,
        "replay": policy.replay_every_s,
    }
    if policy.rescue:
        chores["rescue"] = policy.rescue_every_s
    return {**{f"release {provider}": policy.poll_s for provider in providers}, **chores}


class DispatcherHealth:
    """A dispatcher's health, from its passes.

    Args:
        every_s: see `periods`.
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


class WatchedDispatcher(Dispatcher):
    """A dispatcher that notes each piece of its work that went well."""

    def __init__(self, *args: Any, health: DispatcherHealth, **options: Any) -> None:
        super().__init__(*args, **options)
        self._health = health

    async def release(self, provider: str, lanes: Sequence[str] = LANES) -> int:
        """See `Dispatcher.release`. That another has the lock is well, too."""
        released = await super().release(provider, lanes)
        self._health.passed(f"release {provider}")
        return released

    async def promote(self) -> float:
        """See `Dispatcher.promote`."""
        next_in_s = await super().promote()
        self._health.passed("promote")
        return next_in_s

    async def republish(self) -> int:
        """See `Dispatcher.republish`."""
        done = await super().republish()
        self._health.passed("republish")
        return done

    async def rescue(self) -> int:
        """See `Dispatcher.rescue`."""
        done = await super().rescue()
        self._health.passed("rescue")
        return done

    async def replay(self) -> int:
        """See `Dispatcher.replay`."""
        done = await super().replay()
        self._health.passed("replay")
        return done

    async def expire(self) -> int:
        """See `Dispatcher.expire`."""
        done = await super().expire()
        self._health.passed("expire")
        return done
