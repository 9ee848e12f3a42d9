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
    from tasks.pauses import Pause

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
    from ops.cli import store
    from tasks import pauses

    screen = Screen(as_json=as_json)
    with store.connected(target.database_url(directory)) as link:
        if kind is None:
            _list(screen, pauses.pauses(link))
            return OK
        checked = _checked(kind, name)
        if len(why) > MOST_WHY:
            raise BadInput(f"--why: at most {MOST_WHY} characters, not {len(why)}")
        there_are = pauses.unknown(link, kind, checked)
        if there_are is not None:
            raise BadInput(
                f"no {kind} {checked!r}; there are {', '.join(there_are) or 'none: start a dispatcher first'}"
            )
        jobs = pauses.pause(link, kind, checked, why)
    screen.show(f"{kind} {checked} is paused" + (f"; {jobs} queued jobs wait again" if jobs else ""))
    screen.document({"kind": kind, "name": checked, "paused": True, "waiting_again": jobs})
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
    from ops.cli import store
    from tasks import pauses

    screen = Screen(as_json=as_json)
    with store.connected(target.database_url(directory)) as link:
        ended = pauses.resume(link, kind, _checked(kind, name))
    screen.show(f"{kind} {name} goes on" if ended else f"{kind} {name} was not paused")
    screen.document({"kind": kind, "name": name, "paused": False, "was_paused": ended})
    return OK


def _checked(kind: PauseKind, name: str | None) -> str:
    if not name:
        raise BadInput(f"which {kind}? `assayline pause {kind} NAME`")
    if len(name) > MOST_NAME:
        raise BadInput(f"a name has at most {MOST_NAME} characters, not {len(name)}")
    return name


def _list(screen: Screen, found: list[Pause]) -> None:
    for one in found:
        screen.show(
            f"{one.kind} {one.name}  since {one.since:%Y-%m-%d %H:%M:%S %Z}" + (f"  {one.why}" if one.why else "")
        )
        screen.document({"kind": one.kind, "name": one.name, "why": one.why, "since": one.since})
    if not found:
        screen.say("nothing is paused")
