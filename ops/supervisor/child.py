"""What a supervised process is, as data; in which order processes start and stop; when a dead one comes back. Pure."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ops.supervisor import tether


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep alive.

    `command[0]` is an absolute path. `after` names the children that must be ready first. `ready` is asked in a thread
    until it says True (None: ready once it runs). `once`: it runs to its end, and exit code 0 is its readiness.
    `grace_s` is the time between `stop_signal` and SIGKILL; `death_signal` is what it gets when the supervisor itself
    is killed. `live` is asked in a thread, every `live_every_s` seconds once the child is ready, for what is wrong with
    it (None: nothing); after `live_failures` complaints in a row it is stopped and started again. Three at ten seconds
    are what Kubernetes takes by default.
    """

    name: str
    command: Sequence[str]
    after: tuple[str, ...] = ()
    ready: Callable[[], bool] | None = None
    live: Callable[[], str | None] | None = None
    once: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL
    identity: str = tether.SELF
    grace_s: float = 10.0
    ready_timeout_s: float = 60.0
    live_every_s: float = 10.0
    live_failures: int = 3


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """A dead child comes back after `first_s` x 2^(deaths - 1), at most `longest_s`; `deaths` in `window_s` end it."""

    first_s: float = 0.5
    longest_s: float = 10.0
    deaths: int = 5
    window_s: float = 60.0

    def delay(self, died_at: Sequence[float], now: float) -> float | None:
        """Seconds until the next start; None: give up.

        Args:
            died_at: when the child died so far, this time included; the clock of `now`.
            now: seconds.
        """
        recent = sum(1 for at in died_at if now - at <= self.window_s)
        if recent >= self.deaths:
            return None
        return float(min(self.first_s * 2 ** (max(recent, 1) - 1), self.longest_s))


def levels(children: Sequence[Child]) -> list[list[Child]]:
    """Group children so that each one's `after` lies in earlier groups: the start order; reversed, the stop order.

    Raises:
        ValueError: two share a name, one waits for a name that is not there, or they wait for each other.
    """
    waiting = {child.name: child for child in children}
    if len(waiting) != len(children):
        raise ValueError(f"two children share a name: {sorted(child.name for child in children)}")
    placed: set[str] = set()
    found: list[list[Child]] = []
    while waiting:
        level = [child for child in waiting.values() if placed.issuperset(child.after)]
        if not level:
            raise ValueError(f"these wait for each other, or for one that is not there: {sorted(waiting)}")
        found.append(level)
        placed.update(child.name for child in level)
        for child in level:
            del waiting[child.name]
    return found
