"""`assayline health`: whether the process beside it works, for a container's health check.

It looks for progress, not for a process id: a worker that lives and no longer speaks to Postgres is not well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from ops.cli import target
from ops.cli.exit_codes import FAILED, OK
from ops.cli.liveness import complaint, dispatchers, workers
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen
from ops.cli.troubles import BadInput
from ops.supervisor import ports
from tasks.dispatch_policy import Policy

BEAT_SILENCE_S = 600.0
"""Celery's beat writes down when it last ticked every three minutes; three times that is silence."""


class Process(StrEnum):
    """What can be asked after."""

    WORKER = "worker"
    DISPATCHER = "dispatcher"
    BEAT = "beat"
    API = "api"


def health(
    process: Annotated[Process, typer.Argument(help="Which process of this host.", show_default=False)],
    url: Annotated[str, typer.Option(help="Where the API listens.")] = "http://127.0.0.1:8000",
    state: Annotated[Path | None, typer.Option(help="Where beat keeps when it last ticked. DIR/beat.")] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_535,
            help="Ask the process itself, at the `--health-port` it was started with, whether it makes progress.",
            show_default=False,
        ),
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="With --port: whether it works now, not only whether to leave it alone.")
    ] = False,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """Say whether this host's worker, dispatcher, beat or API is well: exit code 0 or 1. For containers.

    With --port a store that is away is no reason to call a process unwell: it will go on by itself.

    Example: [bold]assayline health worker --port 9100[/bold]
    """
    if port is not None or ready:
        problem = _of_itself(process, port, ready=ready)
    else:
        problem = _seen(process, url, state, directory)
    screen = Screen(as_json=as_json)
    screen.document({"process": process.value, "ok": problem is None, "problem": problem})
    if problem:
        screen.say(problem)
    return FAILED if problem else OK


def _of_itself(process: Process, port: int | None, *, ready: bool) -> str | None:
    """What a process says of itself.

    Raises:
        BadInput: it is not one that is asked so.
    """
    if process is Process.API:
        raise BadInput("the API is asked by --url: it tells its health where it serves")
    if port is None:
        raise BadInput("--ready needs the --port at which the process tells its health")
    return complaint(f"http://127.0.0.1:{port}/health/{'ready' if ready else 'live'}")


def _seen(process: Process, url: str, state: Path | None, directory: Path) -> str | None:
    """What is seen of a process from outside."""
    match process:
        case Process.WORKER:
            return _counted(_workers_here, directory, "no worker of this host has been heard of for 20 s")
        case Process.DISPATCHER:
            unheard = "no dispatcher of this address listens to the database"
            return _counted(lambda link: dispatchers(link)["here"], directory, unheard)
        case Process.BEAT:
            return _ticked(state or directory / "beat")
        case Process.API:
            return _answers(f"{url}/health")


def _workers_here(link: psycopg.Connection[Any]) -> int:
    return sum(row["here"] for row in workers(link, Policy().dead_after_s).values())


def _counted(count: Callable[[psycopg.Connection[Any]], int], directory: Path, problem: str) -> str | None:
    try:
        with psycopg.connect(target.database_url(directory), connect_timeout=3) as connection:
            return None if count(connection) > 0 else problem
    except psycopg.Error as error:
        return f"Postgres cannot be asked: {type(error).__name__}"


def _ticked(state: Path) -> str | None:
    # Python's dbm adds a suffix of its own to the name, or none.
    written = [path.stat().st_mtime for path in state.glob("beat*")]
    silent_s = time.time() - max(written, default=0.0)
    return None if silent_s < BEAT_SILENCE_S else f"beat has written nothing below {state} for {BEAT_SILENCE_S:.0f} s"


def _answers(url: str) -> str | None:
    try:
        ports.opened(url).close()
    except OSError as error:
        return f"{url}: {error}"
    return None
