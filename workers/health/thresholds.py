"""From where on a process counts as not ready, and as not live: data, each figure with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thresholds:
    """All in seconds.

    Attributes:
        late_s: how late the event loop's ticks may be in a process that is ready. A loop of a thousand calls is late by
            milliseconds; two seconds are felt by whoever waits.
        stuck_s: how late they may be in one that is live. Half the time after which the fleet takes a worker without
            heartbeats for dead and runs its jobs elsewhere: it shall be gone before it comes back as a zombie.
        silent_s: how old the last heartbeat (of a dispatcher: the last pass) may be in a process that is ready. Three
            heartbeats.
        mute_s: how old in one that is live, though Postgres (and the broker) have answered for `back_s`. Well above the
            longest pause of everything that waits for them.
        back_s: for how long a neighbour must have answered before silence towards it is the process's own fault. A lost
            broker is looked for every 2 s, a pool's connection is given up after 10 s, a statement after 30 s.
        idle_s: how long messages may wait while slots are free and nothing is taken. Messages are taken within
            milliseconds, and after an outage within seconds; twice the longest statement, whose end they may wait for.
        look_every_s: pause between two looks at the neighbours. A look costs a few commands.
        beat_silent_s: how old beat's last turn may be. It turns once a minute, stock Celery every 300 s.
    """

    late_s: float = 2.0
    stuck_s: float = 10.0
    silent_s: float = 15.0
    mute_s: float = 60.0
    back_s: float = 30.0
    idle_s: float = 60.0
    look_every_s: float = 5.0
    beat_silent_s: float = 600.0
