"""`assayline replays`: the replays there are; watch one, pause it, resume it, stop it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

import typer

from ops.cli.exit_codes import FAILED, OK
from ops.cli.jobs import Tenant
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen
from ops.cli.troubles import BadInput
from ops.cli.visit import visit, visit_often

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from tasks.replay.book import Standing

T = TypeVar("T")

POLL_S = 0.5
"""Between two looks at a replay, at least; and ten times as long as a look took, for it counts all the new jobs."""

SILENT_S = 15.0
"""A replay that may go on and makes nothing for so long has no dispatcher."""


class Order(StrEnum):
    """What can be done with a replay."""

    WATCH = "watch"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"


def replays(
    order: Annotated[
        Order | None,
        typer.Argument(metavar="[watch|pause|resume|stop]", show_default=False, help="What to do with one."),
    ] = None,
    replay_id: Annotated[UUID | None, typer.Argument(metavar="ID", show_default=False, help="With which.")] = None,
    tenant: Tenant = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to list.")] = 20,
    timeout: Annotated[
        float | None, typer.Option(min=0, show_default=False, help="Stop watching after so many seconds.")
    ] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """List replays, newest first; or watch, pause, resume or stop one.

    A paused replay makes no new jobs, and keeps its hand on those it means; a stopped one never makes more, and what it
    has left can be replayed by another. New jobs that are made go on in any case.

    Examples: [bold]assayline replays[/bold], [bold]assayline replays watch ID[/bold],
    [bold]assayline replays pause ID[/bold]
    """
    screen = Screen(as_json=as_json)
    if order is None:
        return _list(screen, directory, tenant, limit)
    if replay_id is None:
        raise BadInput(f"`assayline replays {order}` wants the id of a replay; `assayline replays` lists them")
    if order is Order.WATCH:
        return watched(replay_id, screen, directory, timeout, tenant)
    return _tell(order, replay_id, screen, directory, tenant)


def watched(
    replay_id: UUID, screen: Screen, directory: Path, timeout_s: float | None, tenant: str | None = None
) -> int:
    """Show a replay until it and its new jobs have ended, it is paused, or the time is up; returns the exit code.

    Postgres may be away meanwhile.

    Raises:
        BadInput: there is none.
        KeyboardInterrupt: Ctrl-C; the replay goes on, and the screen says so.
    """
    from ops.cli.replay_view import how_to, outcome_text, standing_row

    try:
        with _refused():
            last = visit_often(directory, lambda engine: _watch(engine, replay_id, screen, timeout_s, tenant))
    except KeyboardInterrupt:
        screen.say(f"\nnot watched any more; it goes on:  assayline replays watch {replay_id}")
        raise
    screen.document(standing_row(last))
    screen.show(outcome_text(last))
    if not _over(last):
        screen.say(how_to(last.replay))
    return OK if _over(last) and set(last.outcomes) <= {"succeeded"} and not last.replay.skipped else FAILED


async def _watch(
    engine: AsyncEngine, replay_id: UUID, screen: Screen, timeout_s: float | None, tenant: str | None
) -> Standing:
    from ops.cli.replay_view import progress
    from tasks.replay.book import ReplayState

    began = time.monotonic()
    told = False
    look = _Look(engine, replay_id, tenant, screen)
    with progress(screen) as show:
        while True:
            looked_at = time.monotonic()
            last = await look()
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError  # `wait_for`, below the look, may swallow one before Python 3.12
            show(last)
            now = time.monotonic()
            left_s = math.inf if timeout_s is None else began + timeout_s - now
            still = _over(last) or last.replay.state is ReplayState.PAUSED
            if not (still or told) and now - began > SILENT_S and not last.replay.made + last.replay.skipped:
                screen.say("nothing has been made yet: is a dispatcher running? `assayline doctor` says")
                told = True
            if still or left_s <= 0:
                return last
            await asyncio.sleep(min(max(POLL_S, 10 * (now - looked_at)), left_s))


@dataclass(slots=True)
class _Look:
    """Looks at a replay. Once it has been seen, a look that Postgres does not answer finds it as it stood before."""

    engine: AsyncEngine
    replay_id: UUID
    tenant: str | None
    screen: Screen
    last: Standing | None = None
    away: bool = False

    async def __call__(self) -> Standing:
        """See how it stands."""
        from tasks.patience import away
        from tasks.replay.book import standing

        try:
            async with self.engine.connect() as connection:
                self.last = await standing(connection, self.replay_id, self.tenant)
        except Exception as error:
            if self.last is None or not away(error):
                raise
            if not self.away:
                self.screen.say("Postgres does not answer; the replay goes on when it is back, and so does this")
            self.away = True
        else:
            self.away = False
        return self.last


def _over(last: Standing) -> bool:
    """Whether nothing more comes: the replay has ended, and so have its new jobs."""
    from tasks.replay.book import ENDED
    from tasks.states import TERMINAL

    return last.replay.state in ENDED and set(last.outcomes) <= TERMINAL


def _list(screen: Screen, directory: Path, tenant: str | None, limit: int) -> int:
    from ops.cli.replay_view import replay_row, replays_table
    from tasks.replay.book import page

    found = _visit(directory, lambda connection: page(connection, tenant=tenant, limit=limit))
    for one in found:
        screen.document(replay_row(one))
    if found:
        screen.show(replays_table(found))
    else:
        screen.say("no replays" + (" of this tenant's jobs alone" if tenant else " yet"))
    return OK


def _tell(order: Order, replay_id: UUID, screen: Screen, directory: Path, tenant: str | None) -> int:
    from ops.cli.replay_view import how_to, replay_row, replay_text
    from tasks.replay.book import order as tell

    replay = _visit(directory, lambda connection: tell(connection, replay_id, order.value, tenant))
    screen.document(replay_row(replay))
    screen.show(replay_text(replay))
    screen.say(how_to(replay))
    return OK


def _visit(directory: Path, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Do something over a connection of its own; raises as `_refused`."""
    with _refused():
        return visit(directory, work)


@contextmanager
def _refused() -> Iterator[None]:
    """Raise what cannot be asked for as bad input.

    Raises:
        BadInput: there is no such replay, or it takes no more orders.
    """
    from tasks.replay.book import ReplayEnded, ReplayNotFound

    try:
        yield
    except (ReplayNotFound, ReplayEnded) as error:
        raise BadInput(str(error)) from error
