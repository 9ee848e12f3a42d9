"""`assayline cancel`: jobs by their ids, or all that fit a filter, in portions and with progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ops.cli import target
from ops.cli.exit_codes import OK
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen
from ops.cli.troubles import BadInput
from tasks.states import State

if TYPE_CHECKING:
    from tasks.producer import Cancelled

FILTER = "Which jobs (instead of ids)"


class Live(StrEnum):
    """The states that a job can be cancelled in."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"


class Lane(StrEnum):
    """The lanes."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


def _filter(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel=FILTER)


# Long, because each part of a filter is one parameter; there is nothing else in it.
def cancel(
    ctx: typer.Context,
    job_ids: Annotated[list[UUID] | None, typer.Argument(metavar="ID")] = None,
    tenant: Annotated[str | None, _filter("Only this tenant's; with ids too.")] = None,
    analysis: Annotated[str | None, _filter("Only of this analysis.")] = None,
    provider: Annotated[str | None, _filter("Only those that wait for, or run at, this provider.")] = None,
    state: Annotated[list[Live] | None, _filter("Only in this state. May be repeated.")] = None,
    source: Annotated[str | None, _filter("Only what this service has enqueued.")] = None,
    subject: Annotated[str | None, _filter("Only about this subject.")] = None,
    tag: Annotated[str | None, _filter("Only with this tag.")] = None,
    lane: Annotated[Lane | None, _filter("Only of this lane.")] = None,
    created_after: Annotated[
        str | None, _filter("Only those enqueued from this time on, 2026-11-05T08:00:00Z.")
    ] = None,
    created_before: Annotated[str | None, _filter("Only those enqueued before this time.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every job that has not ended.", rich_help_panel=FILTER)
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many it would be, and cancel none.")] = False,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """Cancel jobs that have not ended: by id, or all that fit every option given. Calls that run are cut off.

    Examples: [bold]assayline cancel 01939f6e-0000-7000-8000-000000000000[/bold]
    [bold]assayline cancel --tenant acme --analysis code_quality --dry-run[/bold]
    """
    which = _which(ctx.params)
    screen = Screen(as_json=as_json)
    if job_ids:
        if others := sorted(set(which) - {"tenant"}) + ["dry_run"] * dry_run:
            raise BadInput(f"ids name the jobs: leave out {', '.join(_option(name) for name in others)}")
        return _by_id(job_ids, tenant, screen, directory)
    if not which:
        raise BadInput(
            "which jobs? Give ids, or say it: --tenant, --analysis, --provider … (--help); every job is --all"
        )
    return _by_filter(which, screen, directory, dry_run=dry_run)


NAMES = (
    "tenant", "analysis", "provider", "state", "source", "subject", "tag", "lane", "created_after", "created_before",
)  # fmt: skip
"""What a filter may name besides `all`; the options are called the same."""


def _which(given: Mapping[str, Any]) -> dict[str, Any]:
    """The filter that the options make."""
    which = {name: given[name] for name in NAMES if given[name] not in (None, [], ())}
    for name in ("state", "lane"):
        if name in which:
            value = which[name]
            which[name] = [Live(one).value for one in value] if name == "state" else Lane(value).value
    return {**which, **({"all": True} if given["everything"] else {})}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _by_id(job_ids: list[UUID], tenant: str | None, screen: Screen, directory: Any) -> int:
    from tasks.producer import Client, JobNotFound

    unknown: list[UUID] = []
    with Client(target.database_url(directory)) as client:
        for job_id in job_ids:
            try:
                state = client.cancel(job_id, tenant=tenant)
            except JobNotFound:
                unknown.append(job_id)
                continue
            cancelled = state == State.CANCELLED
            screen.show(f"{job_id}  {state}" + ("" if cancelled else "  (had ended already)"))
            screen.document({"id": job_id, "state": state, "cancelled": cancelled})
    if unknown:
        raise BadInput(f"no such job: {', '.join(map(str, unknown))}")
    return OK


def _by_filter(which: dict[str, Any], screen: Screen, directory: Any, *, dry_run: bool) -> int:
    from tasks.producer import Client

    with Client(target.database_url(directory)) as client:
        matching = client.cancellable(**which)
        if dry_run:
            screen.show(f"{_told(matching)} would be cancelled")
            screen.document({"dry_run": True, "matching": matching})
            return OK
        with _progress(sum(matching.values()), screen) as show:
            done = client.cancel_many(**which, on_portion=show)
    screen.show(f"{done.jobs} cancelled" + (f", {done.running} of them while they ran" if done.running else ""))
    if done.held:
        screen.say(f"{done.held} are held by somebody's open transaction, and are as they were: once more finds them")
    screen.document({"cancelled": done.jobs, "running": done.running, "held": done.held})
    return OK


def _told(matching: Mapping[str, int]) -> str:
    parts = [f"{jobs} {state}" for state, jobs in matching.items() if jobs]
    total = sum(matching.values())
    return f"{total} job{'' if total == 1 else 's'}" + (f" ({', '.join(parts)})" if len(parts) > 1 else "")


@contextmanager
def _progress(total: int, screen: Screen) -> Iterator[Callable[[Cancelled], object]]:
    """Show how far it has come: a bar on a terminal, else nothing until the end. All on stderr.

    Who interrupts it is told what is done: it stays done.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("cancelling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    so_far = 0
    with Progress(*columns, console=screen.err, disable=not screen.err.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def show(done: Cancelled) -> None:
            nonlocal so_far
            so_far = done.jobs
            bar.update(task, completed=done.jobs, total=max(total, done.jobs))

        try:
            yield show
        except BaseException:
            screen.say(
                f"{so_far} of {total} were cancelled before it stopped; the same command goes on with the others"
            )
            raise
