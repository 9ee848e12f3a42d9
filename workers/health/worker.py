"""A worker's health: does it take what waits, does its loop turn, is its heartbeat written, do its slots move?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from workers.health.findings import Health, Problem
from workers.health.neighbours import Broker, Since
from workers.health.pulse import Pulse
from workers.health.thresholds import Thresholds

LOOKED_LATELY_S = 60.0
"""A look takes seconds at worst. Where none has ended for so long, what is told is old, and said to be."""


@dataclass(frozen=True, slots=True)
class WorkerSigns:
    """What is known of a worker at one instant. Seconds and counts.

    Attributes:
        loop_late_s: how late its loop is.
        heartbeat_s: since the last heartbeat was written.
        postgres_back_s: for how long Postgres has answered while heartbeats were missing; 0: it does not, or none is.
        waiting: messages in its queues; None: the broker does not answer, or has not been asked yet.
        idle_s: for how long messages have waited, slots been free and none been taken.
        busy: slots in use.
        slots: slots there are.
        still_s: since a slot was taken or freed.
        longest_s: longer than this no attempt takes.
        consuming: whether Celery's consumer is connected.
        stopping: whether it is to end.
        looked_s: since the neighbours were last looked at; None: not yet.
    """

    loop_late_s: float = 0.0
    heartbeat_s: float = 0.0
    postgres_back_s: float = 0.0
    waiting: int | None = 0
    idle_s: float = 0.0
    busy: int = 0
    slots: int = 1
    still_s: float = 0.0
    longest_s: float = 300.0
    consuming: bool = True
    stopping: bool = False
    looked_s: float | None = 0.0


def judge(signs: WorkerSigns, thresholds: Thresholds) -> Health:
    """Say what is wrong with a worker, and whether it should be started anew for it."""
    found = [*_of_loop(signs, thresholds), *_of_heartbeat(signs, thresholds), *_of_pool(signs)]
    found += [Problem("worker", "it is stopping")] if signs.stopping else _of_consumer(signs, thresholds)
    figures = {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(signs).items()}
    return Health(found, figures)


def _of_loop(signs: WorkerSigns, thresholds: Thresholds) -> list[Problem]:
    late_s = signs.loop_late_s
    if late_s < thresholds.late_s:
        return []
    return [loop_is_late(late_s, thresholds)]


def loop_is_late(late_s: float, thresholds: Thresholds) -> Problem:
    """The problem of a loop whose ticks come late."""
    said = f"the event loop is {late_s:.1f} s late: something on it blocks"
    return Problem("loop", said, deadly=late_s >= thresholds.stuck_s)


def _of_heartbeat(signs: WorkerSigns, thresholds: Thresholds) -> list[Problem]:
    if signs.heartbeat_s < thresholds.silent_s:
        return []
    said = f"no heartbeat has been written for {signs.heartbeat_s:.0f} s"
    if signs.postgres_back_s <= 0.0:
        return [Problem("postgres", f"{said}: Postgres does not answer")]
    deadly = signs.heartbeat_s >= thresholds.mute_s and signs.postgres_back_s >= thresholds.back_s
    return [Problem("heartbeat", f"{said}, though Postgres has answered for {signs.postgres_back_s:.0f} s", deadly)]


def _of_pool(signs: WorkerSigns) -> list[Problem]:
    if signs.busy < signs.slots or signs.still_s < signs.longest_s:
        return []
    said = (
        f"all {signs.slots} slots have been in use for {signs.still_s:.0f} s and none was freed; no attempt takes more "
        f"than {signs.longest_s:.0f} s"
    )
    return [Problem("pool", said, deadly=True)]


def _of_consumer(signs: WorkerSigns, thresholds: Thresholds) -> list[Problem]:
    found = []
    if signs.looked_s is None:
        found.append(Problem("broker", "it has not been asked yet"))
    elif signs.looked_s > LOOKED_LATELY_S:
        found.append(Problem("health", f"the broker's answer is awaited for {signs.looked_s:.0f} s"))
    elif signs.waiting is None:
        found.append(Problem("broker", "the broker does not answer"))
    if not signs.consuming:
        found.append(Problem("consumer", "it has no connection to the broker"))
    if signs.idle_s >= thresholds.idle_s:
        free = signs.slots - signs.busy
        said = f"{signs.waiting} messages wait, {free} slots are free, and none was taken for {signs.idle_s:.0f} s"
        found.append(Problem("consumer", said, deadly=True))
    return found


class WorkerHealth:
    """A worker's health, from its pulse and from looks at its neighbours.

    Args:
        pulse: what the process notes of itself.
        broker: asks for the messages in its queues.
        postgres_answers: asks Postgres; only where heartbeats are missing.
        slots: slots there are.
        longest_s: longer than this no attempt takes.
        thresholds: from where on it counts as not ready, and as not live.
    """

    def __init__(
        self,
        pulse: Pulse,
        broker: Broker,
        postgres_answers: Callable[[], bool],
        *,
        slots: int,
        longest_s: float,
        thresholds: Thresholds,
    ) -> None:
        self.thresholds = thresholds
        self._pulse, self._broker, self._postgres_answers = pulse, broker, postgres_answers
        self._slots, self._longest_s = slots, longest_s
        self._idle, self._postgres_back = Since(pulse.clock), Since(pulse.clock)
        self._waiting: int | None = None
        self._taken = 0
        self._looked_at: float | None = None

    def look(self) -> None:
        """Look at the neighbours, and whether messages wait that nobody here takes. May take seconds."""
        pulse = self._pulse
        self._waiting = self._broker.waiting()
        free = not pulse.stopping and pulse.busy < self._slots
        self._idle.note(so=bool(self._waiting) and free and pulse.taken == self._taken)
        self._taken = pulse.taken
        silent = pulse.clock() - pulse.heartbeat_at >= self.thresholds.silent_s
        self._postgres_back.note(so=silent and self._postgres_answers())
        self._looked_at = pulse.clock()

    def close(self) -> None:
        """Let the connection to the broker go. On the thread that looks."""
        self._broker.close()

    def health(self) -> Health:
        """The judgement now; asks nobody."""
        pulse = self._pulse
        now = pulse.clock()
        signs = WorkerSigns(
            loop_late_s=pulse.loop.late_s,
            heartbeat_s=now - pulse.heartbeat_at,
            postgres_back_s=self._postgres_back.for_s,
            waiting=self._waiting,
            idle_s=self._idle.for_s,
            busy=pulse.busy,
            slots=self._slots,
            still_s=now - pulse.moved_at,
            longest_s=self._longest_s,
            consuming=pulse.consuming,
            stopping=pulse.stopping,
            looked_s=None if self._looked_at is None else now - self._looked_at,
        )
        return judge(signs, self.thresholds)
