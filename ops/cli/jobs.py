"""`assayline jobs` and `job`: what stands in Postgres."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from ops.cli import target
from ops.cli.exit_codes import OK
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen
from ops.cli.troubles import BadInput
from tasks.states import State

Tenant = Annotated[str | None, typer.Option(help="Only this tenant's.")]


def jobs(
    state: Annotated[list[State] | None, typer.Option(help="Only in this state. May be repeated.")] = None,
    tenant: Tenant = None,
    analysis: Annotated[str | None, typer.Option(help="Only of this analysis.")] = None,
    provider: Annotated[
        str | None, typer.Option(help="Only those that stand at this provider; with --unknown, only calls to it.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    after: Annotated[UUID | None, typer.Option(help="The page after this job: the last id of the page before.")] = None,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="Instead their calls of which nobody knows how they ended.")
    ] = False,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """List jobs, newest first, straight from Postgres. With --json: one line per job.

    --unknown lists calls that were begun by workers which died, with what each may have cost at most: they may have
    been answered, and paid for. --limit counts their jobs.

    Example: [bold]assayline jobs --state failed --limit 50[/bold]
    """
    from ops.cli import store
    from ops.cli.store import Which
    from ops.cli.view import jobs_table

    screen = Screen(as_json=as_json)
    which = Which(tenant=tenant, analysis=analysis, provider=provider, before=after)
    if unknown:
        if state:
            raise BadInput("--unknown lists calls, of jobs in whichever state: leave --state out")
        from ops.cli.unknown import show_unknown

        return show_unknown(screen, directory, jobs=limit, **which)
    states = [one.value for one in state] if state else None
    with store.connected(target.database_url(directory)) as connection:
        rows = store.page(connection, states=states, **which, limit=limit)
    for row in rows:
        screen.document(row)
    if rows:
        screen.show(jobs_table(rows))
    else:
        screen.say("no jobs" + (" of this kind" if state or any(which.values()) else " yet"))
    if len(rows) == limit:
        screen.say(f"more: --after {rows[-1]['id']}")
    return OK


def job(
    job_id: Annotated[UUID, typer.Argument(metavar="ID")],
    content: Annotated[bool, typer.Option("--content", help="Also what it was given to judge.")] = False,
    tenant: Tenant = None,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """Show everything about one job: fields, state and why, each provider call, what went wrong, result.

    Example: [bold]assayline job 01939f6e-0000-7000-8000-000000000000[/bold]
    """
    from ops.cli import store
    from ops.cli.view import fields_table, job_view
    from tasks.producer import Client

    screen = Screen(as_json=as_json)
    url = target.database_url(directory)
    with Client(url) as client:
        stored = client.get(job_id, tenant=tenant)
    given = None
    if content:
        with store.connected(url) as connection:
            given = store.content(connection, job_id)
    screen.show(job_view(stored))
    if given is not None:
        screen.show("\ngiven")
        screen.show(fields_table(given))
    screen.document({**stored.fields, **({"given": given} if content else {})})
    return OK
