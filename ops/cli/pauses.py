"""`assayline pause` and `resume`: stopping the release of some jobs, for as long as an operator wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli import target
from ops.cli.exit_codes import OK
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen
from ops.cli.troubles import BadInput
from tasks.pauses import MOST_NAME, MOST_WHY, PauseKind

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from gateway.catalog import Catalog
    from tasks.pauses import Pause, Paused

Name = Annotated[str, typer.Argument(help="openai, openai.bulk, code_quality, or a tenant's name.")]


def pause(
    kind: Annotated[PauseKind | None, typer.Argument(help="What is stopped. Without it: list the pauses.")] = None,
    name: Annotated[str | None, typer.Argument(help="openai, openai.bulk, code_quality, or a tenant's name.")] = None,
    why: Annotated[str, typer.Option(help="A remark for whoever finds the jobs waiting.")] = "",
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """Stop the release of a provider's, queue's, analysis's or tenant's jobs, at once, until `assayline resume`.

    Jobs go on to be enqueued, and wait. What runs is let run. Pauses outlive restarts.

    Example: [bold]assayline pause tenant acme --why "their bill is being checked"[/bold]
    """
    from ops.cli.visit import visit
    from tasks import pauses

    screen = Screen(as_json=as_json)
    if kind is None:
        _list(screen, visit(directory, pauses.pauses))
        return OK
    checked = _checked(kind, name)
    if len(why) > MOST_WHY:
        raise BadInput(f"--why: at most {MOST_WHY} characters, not {len(why)}")
    done = visit(directory, lambda connection: _pause(connection, kind, checked, why, directory))
    screen.show(f"{kind} {checked} is paused" + (f"; {done.jobs} queued jobs wait again" if done.jobs else ""))
    if done.held:
        screen.say(
            f"{done.held} queued jobs are locked by a transaction that was left open, and may still run:"
            " end it (pg_stat_activity names it), and pause again"
        )
    screen.document({"kind": kind, "name": checked, "paused": True, "waiting_again": done.jobs, "held": done.held})
    return OK


def resume(
    kind: Annotated[PauseKind, typer.Argument(help="What was stopped.")],
    name: Name,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """Let a pause end: jobs are released again within a second.

    Example: [bold]assayline resume tenant acme[/bold]
    """
    from ops.cli.visit import visit
    from tasks import pauses

    screen, checked = Screen(as_json=as_json), _checked(kind, name)
    ended = visit(directory, lambda connection: pauses.resume(connection, kind, checked))
    screen.show(f"{kind} {name} goes on" if ended else f"{kind} {name} was not paused")
    screen.document({"kind": kind, "name": name, "paused": False, "was_paused": ended})
    return OK


async def _pause(connection: AsyncConnection, kind: PauseKind, name: str, why: str, directory: Path) -> Paused:
    from tasks import pauses

    there_are = await pauses.unknown(connection, kind, name, lambda: _catalog(directory))
    if there_are is not None:
        raise BadInput(f"no {kind} {name!r}; there are {', '.join(there_are)}")
    return await pauses.pause(connection, kind, name, why)


def _catalog(directory: Path) -> Catalog:
    """The catalog of whoever asks, with what no dispatcher has mirrored: providers without a key."""
    from gateway.catalog import load_catalog
    from gateway.settings import Settings

    env = target.environment(directory)
    return load_catalog(Settings.from_env(env).catalog_path, env)


def _checked(kind: PauseKind, name: str | None) -> str:
    if not name:
        raise BadInput(f"which {kind}? `assayline pause {kind} NAME`")
    if len(name) > MOST_NAME:
        raise BadInput(f"a name has at most {MOST_NAME} characters, not {len(name)}")
    return name


def _list(screen: Screen, found: list[Pause]) -> None:
    for one in found:
        screen.show(
            f"{one.kind} {one.name}  since {one.since:%Y-%m-%d %H:%M:%S} UTC" + (f"  {one.why}" if one.why else "")
        )
        screen.document(one.fields)
    if not found:
        screen.say("nothing is paused")
