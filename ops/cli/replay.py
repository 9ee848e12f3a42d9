"""`assayline replay`: ask again for what jobs that have ended asked for, and watch the new ones."""

from __future__ import annotations

import asyncio
import getpass
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from ops.cli import replay_options as its
from ops.cli import target
from ops.cli.exit_codes import OK
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen
from tasks.producer.errors import IdempotencyConflict, InvalidJob

if TYPE_CHECKING:
    from tasks.replay.book import Making
    from tasks.replay.request import ReplayRequest


# Long, because each field of a request is one parameter; there is nothing else in it.
def replay(
    ctx: typer.Context,
    job_ids: Annotated[
        list[UUID] | None, typer.Argument(metavar="[ID]...", help="These jobs.", show_default=False)
    ] = None,
    state: its.State = None,
    error: its.Error = None,
    analysis: its.Analysis = None,
    provider: its.Provider = None,
    model: its.Model = None,
    tenant: its.Tenant = None,
    source: its.Source = None,
    tag: its.Tag = None,
    created_after: its.CreatedAfter = None,
    created_before: its.CreatedBefore = None,
    ended_after: its.EndedAfter = None,
    ended_before: its.EndedBefore = None,
    everything: its.Everything = False,
    again: its.Again = False,
    limit: its.Limit = None,
    with_model: its.WithModel = None,
    with_provider: its.WithProvider = None,
    with_chain: its.WithChain = None,
    with_current_chain: its.WithCurrentChain = False,
    with_prompt_version: its.WithPromptVersion = None,
    with_lane: its.WithLane = None,
    with_priority: its.WithPriority = None,
    with_max_tokens: its.WithMaxTokens = None,
    with_max_cost_usd: its.WithMaxCostUsd = None,
    with_max_attempts: its.WithMaxAttempts = None,
    with_use_cache: its.WithUseCache = None,
    with_use_fallback: its.WithUseFallback = None,
    dry_run: its.DryRun = False,
    rate: its.Rate = None,
    note: its.Note = None,
    idempotency_key: its.IdempotencyKey = None,
    watch: its.Watch = True,
    timeout: its.Timeout = None,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """Replay jobs that have ended: each is asked for again by a new job, and stays as it is. Needs a filter, or --all.

    The dispatchers make the new jobs; this command only says which, and watches. Ctrl-C leaves the replay running:
    `assayline replays` lists, watches, pauses, resumes and stops them. The same command again finds nothing left; with
    --limit it takes the next, with --again all once more, unless --idempotency-key says that it is the same. Exit code
    1: not every new job has succeeded, or another replay is being made.

    Examples: [bold]assayline replay --error timeout --ended-after 2h --dry-run[/bold]
    [bold]assayline replay --provider openai --with-model claude/claude-haiku-5-5 --rate 600[/bold]
    [bold]assayline replay 01939f6e-0000-7000-8000-000000000000[/bold]
    """
    screen = Screen(as_json=as_json)
    wanted = its.request_of(ctx.params, made_by=_who())
    made = asyncio.run(_make(wanted, directory))
    _tell(made, wanted, screen)
    if made.replay is None or not watch or wanted.dry_run:
        return OK
    from ops.cli.replays import watched

    return watched(made.replay.id, screen, directory, timeout)


async def _make(wanted: ReplayRequest, directory: Path) -> Making:
    from gateway.analyses.registry import load_analyses
    from gateway.catalog import load_catalog
    from gateway.settings import Settings
    from tasks.engine import create_engine
    from tasks.replay.book import make
    from tasks.replay.costs import priced_by
    from tasks.replay.plan import Bearings

    env = target.environment(directory)
    catalog = load_catalog(Settings.from_env(env).catalog_path, env)
    engine = create_engine(target.database_url(directory), pool_size=1)
    try:
        async with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            return await make(connection, wanted, Bearings(priced_by(catalog), load_analyses()))
    except InvalidJob as refused:
        raise its.refusal(refused) from refused
    except IdempotencyConflict as conflict:
        raise its.conflict(conflict) from conflict
    finally:
        await engine.dispose()


def _tell(made: Making, wanted: ReplayRequest, screen: Screen) -> None:
    from ops.cli.replay_view import how_to, plan_view, replay_row

    replay = None if made.replay is None else replay_row(made.replay)
    screen.document({**made.plan.fields, "dry_run": wanted.dry_run, "created": made.created, "replay": replay})
    screen.show(plan_view(made, wanted))
    if made.replay is not None:
        screen.say(how_to(made.replay))


def _who() -> str | None:
    """Who asks, for those who find the replay in the list: the login and the host."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"[:200]
    except (OSError, KeyError):
        return None  # a container's user without a name
