"""The replays there are: one is written down, shown, listed, and told to pause, go on or stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from tasks.producer.errors import IdempotencyConflict
from tasks.replay.plan import Bearings, Plan, plan
from tasks.replay.request import ReplayRequest
from tasks.sql import statement


class ReplayState(StrEnum):
    """Where a replay stands."""

    RUNNING = "running"
    """New jobs are being made, as its rate allows."""
    PAUSED = "paused"
    """None is made until it is resumed; its jobs are in its hand all the same."""
    STOPPED = "stopped"
    """Nothing more is made, ever; what was made goes on. The rest can be replayed by another."""
    DONE = "done"
    """A new job was made for each that it means, but for those that cannot be."""


ENDED = frozenset({ReplayState.STOPPED, ReplayState.DONE})

ORDERS = {"pause": ReplayState.PAUSED, "resume": ReplayState.RUNNING, "stop": ReplayState.STOPPED}
"""What a replay may be told, and how it stands then."""


TURN_WITHIN_S = 60.0
"""How long a replay waits for another that is being made."""


class ReplayNotFound(LookupError):
    """There is no replay of this id, or it means others' jobs than this tenant's."""

    def __init__(self, replay_id: UUID) -> None:
        super().__init__(f"no replay {replay_id}")


class ReplayBeingMade(Exception):
    """Another replay is being made. One at a time is: which jobs it means must be known to the next."""

    def __init__(self) -> None:
        super().__init__("another replay is being made, and has the jobs in hand; it may look through all there are")


class ReplayEnded(Exception):
    """A replay that has ended takes no more orders."""

    def __init__(self, replay: Replay) -> None:
        left = ": another replay can take what it has left" if replay.left else ""
        super().__init__(f"replay {replay.id} is {replay.state}{left}")
        self.replay = replay


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay as it stands. `jobs` it means; `made` are its new jobs, `skipped` those of which none could be made.

    `filter` and `changes` as in `ReplayRequest`. `problem`: why it has paused by itself.
    """

    id: UUID
    state: ReplayState
    tenant: str | None
    filter: dict[str, Any]
    changes: dict[str, Any]
    rate_per_min: int | None
    made_by: str | None
    note: str | None
    idempotency_key: str | None
    jobs: int
    made: int
    skipped: int
    problem: str | None
    created_at: datetime
    finished_at: datetime | None

    @property
    def left(self) -> int:
        """Jobs it has not come to."""
        return self.jobs - self.made - self.skipped

    @classmethod
    def from_row(cls, row: RowMapping) -> Replay:
        """Read a row of `replays`."""
        kept = {name: row[name] for name in cls.__dataclass_fields__}
        return cls(**{**kept, "state": ReplayState(row["state"])})


@dataclass(frozen=True, slots=True)
class Standing:
    """How a replay fares. `outcomes`: its new jobs by state. `problems`: why old jobs were skipped, and how many."""

    replay: Replay
    outcomes: dict[str, int]
    problems: tuple[tuple[str, int], ...]


class Making(NamedTuple):
    """What became of a request. `replay` is None where none was made; `created`: it was made just now.

    Where the idempotency key had made it before, `plan` is what was said then.
    """

    plan: Plan
    replay: Replay | None
    created: bool


async def make(
    connection: AsyncConnection, wanted: ReplayRequest, bearings: Bearings, *, patient: bool = True
) -> Making:
    """Plan a replay and, unless it is a dry run or nothing is meant, write it down; in the caller's transaction.

    Args:
        connection: in a transaction, READ COMMITTED, which may make one replay.
        wanted: what is asked for.
        bearings: prices and prompts.
        patient: whether to wait for another that is being made, up to a minute; else it is said at once.

    Raises:
        ReplayBeingMade: another is being made.
        IdempotencyConflict: the key has made a replay for another request.
        InvalidJob: see `plan`.
    """
    if not wanted.dry_run:
        await _take_turn(connection, patient=patient)
    if (earlier := await _earlier(connection, wanted)) is not None:
        return earlier
    planned = await plan(connection, wanted, bearings)
    if wanted.dry_run or not planned.jobs:
        return Making(planned, None, created=False)
    row = await connection.execute(
        statement("replay_make"),
        {
            "tenant": wanted.filter.tenant,
            "filter": json.dumps(wanted.filter.said),
            "changes": json.dumps(wanted.changes.said),
            "rate_per_min": wanted.rate_per_min,
            "made_by": wanted.made_by,
            "note": wanted.note,
            "key": wanted.idempotency_key,
            "fingerprint": wanted.fingerprint,
            "plan": json.dumps(planned.fields, default=str),
        },
    )
    return Making(planned, Replay.from_row(row.mappings().one()), created=True)


LOCK_NOT_AVAILABLE = "55P03"


async def _take_turn(connection: AsyncConnection, *, patient: bool) -> None:
    """Be the one that makes a replay, to the transaction's end."""
    if not patient:
        if not (await connection.execute(statement("replay_try_lock"))).scalar_one():
            raise ReplayBeingMade
        return
    # Another that is being made looks through all jobs, maybe; the usual two seconds are for locks held by mistake.
    await connection.execute(text(f"SET LOCAL lock_timeout TO '{TURN_WITHIN_S:g}s'"))
    try:
        await connection.execute(statement("replay_lock"))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        raise ReplayBeingMade from error


async def _earlier(connection: AsyncConnection, wanted: ReplayRequest) -> Making | None:
    """What this very request has made before, under its idempotency key."""
    if wanted.idempotency_key is None:
        return None
    asked = {"tenant": wanted.filter.tenant, "key": wanted.idempotency_key}
    row = (await connection.execute(statement("replay_keyed"), asked)).mappings().first()
    if row is None:
        return None
    if bytes(row["fingerprint"]) != wanted.fingerprint:
        raise IdempotencyConflict(f"idempotency_key: was used for another request (replay {row['id']})", None)
    return Making(Plan.from_fields(row["plan"]), Replay.from_row(row), created=False)


async def look(connection: AsyncConnection, replay_id: UUID, tenant: str | None = None) -> Replay:
    """A replay as it stands.

    Raises:
        ReplayNotFound: there is none, or not of this tenant's jobs alone.
    """
    found = await connection.execute(statement("replay_get"), {"id": replay_id, "tenant": tenant})
    row = found.mappings().first()
    if row is None:
        raise ReplayNotFound(replay_id)
    return Replay.from_row(row)


async def standing(connection: AsyncConnection, replay_id: UUID, tenant: str | None = None) -> Standing:
    """A replay with how its new jobs fare: as dear as they are many. Raises as `look`."""
    replay = await look(connection, replay_id, tenant)
    asked = {"id": replay.id, "created_at": replay.created_at}
    outcomes = (await connection.execute(statement("replay_outcomes"), asked)).mappings().all() if replay.made else []
    problems: Sequence[RowMapping] = []
    if replay.skipped:
        problems = (await connection.execute(statement("replay_problems"), {"id": replay.id})).mappings().all()
    return Standing(
        replay,
        {row["state"]: row["jobs"] for row in outcomes},
        tuple((row["problem"], row["jobs"]) for row in problems),
    )


async def page(
    connection: AsyncConnection,
    *,
    states: Sequence[str] | None = None,
    tenant: str | None = None,
    before: UUID | None = None,
    limit: int,
) -> list[Replay]:
    """A page of replays, newest first; `before`: only older ones than this."""
    asked = {"states": list(states) if states else None, "tenant": tenant, "before": before, "limit": limit}
    rows = (await connection.execute(statement("replay_page"), asked)).mappings().all()
    return [Replay.from_row(row) for row in rows]


async def order(connection: AsyncConnection, replay_id: UUID, what: str, tenant: str | None = None) -> Replay:
    """Tell a replay to `pause`, `resume` or `stop`; at once, and as often as one likes.

    Raises:
        ReplayNotFound: there is none, or not of this tenant's jobs alone.
        ReplayEnded: it is done or was stopped (a stop of a stopped one is no order).
    """
    wanted = ORDERS[what]
    told = await connection.execute(
        statement("replay_order"), {"id": replay_id, "tenant": tenant, "state": wanted.value}
    )
    row = told.mappings().first()
    if row is not None:
        return Replay.from_row(row)
    ended = await look(connection, replay_id, tenant)
    if ended.state is not wanted:
        raise ReplayEnded(ended)
    return ended
