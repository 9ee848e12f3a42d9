"""The states of a job and the legal moves between them. Drawn in `docs/state-machine.md`.

Each SQL statement that writes `jobs.state` names its move here, and a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a job stands."""

    SCHEDULED = "scheduled"
    """Waits in Postgres: for its time, its window, its budget, its limit, or its turn. No message exists for it."""
    QUEUED = "queued"
    """Released: a message with its number is in a queue, or was and will be published again."""
    RUNNING = "running"
    """Claimed by one worker incarnation, under one `claim_no`."""
    SUBMITTED = "submitted"
    """Part of a provider's native batch."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The dead letter: kept with all its causes, replayable."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Its `expires_at` or `deadline_at` passed while it waited; earlier attempts, if any, are in the ledger."""


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})


@dataclass(frozen=True, slots=True)
class Move:
    """One legal move. `by` is the room that makes it, `why` one clause a reader understands."""

    name: str
    source: State
    target: State
    by: str
    why: str


MOVES: tuple[Move, ...] = (
    Move("release", State.SCHEDULED, State.QUEUED, "dispatch", "due, and its queue has room"),
    Move(
        "republish",
        State.QUEUED,
        State.QUEUED,
        "dispatch",
        "no claim in 15 s, later 2 min: a new number, a new message",
    ),
    Move("claim", State.QUEUED, State.RUNNING, "run", "the message's number is the row's"),
    Move("succeed", State.RUNNING, State.SUCCEEDED, "run", "a validated result"),
    Move("fail", State.RUNNING, State.FAILED, "run", "nothing left to try"),
    Move("retry", State.RUNNING, State.SCHEDULED, "run", "a passing fault; later"),
    Move(
        "next_account", State.RUNNING, State.SCHEDULED, "run", "its account is out, another of its provider may be well"
    ),
    Move("fallback", State.RUNNING, State.SCHEDULED, "run", "the next model of the chain"),
    Move("snooze", State.RUNNING, State.SCHEDULED, "run", "no call was made; costs no attempt"),
    Move("hand_back", State.RUNNING, State.SCHEDULED, "workers", "the worker is stopping"),
    Move("rescue", State.RUNNING, State.SCHEDULED, "rescue", "its worker is dead, or its attempt is overdue"),
    Move("bury", State.RUNNING, State.FAILED, "rescue", "its worker died, its attempts are used up, no answer came"),
    Move("poison", State.RUNNING, State.FAILED, "rescue", "worker after worker died while it ran"),
    Move("defer", State.SCHEDULED, State.SCHEDULED, "clock", "its window has closed; the next opening"),
    Move("divert", State.SCHEDULED, State.SCHEDULED, "dispatch", "its provider is out of order, the next one has room"),
    Move("pause", State.QUEUED, State.SCHEDULED, "pauses", "an operator has stopped its like; its message is stale"),
    Move("cancel_scheduled", State.SCHEDULED, State.CANCELLED, "store", "the caller asked"),
    Move("cancel_queued", State.QUEUED, State.CANCELLED, "store", "the caller asked"),
    Move("cancel_running", State.RUNNING, State.CANCELLED, "store", "the caller asked; its call is cut off"),
    Move("expire_scheduled", State.SCHEDULED, State.EXPIRED, "dispatch", "expires_at or deadline_at passed"),
    Move("expire_queued", State.QUEUED, State.EXPIRED, "dispatch", "expires_at or deadline_at passed"),
)
"""All moves that exist. Native batches add theirs when they come; a replay moves no job, it enqueues new ones."""

LEGAL: frozenset[tuple[State, State]] = frozenset((m.source, m.target) for m in MOVES)
