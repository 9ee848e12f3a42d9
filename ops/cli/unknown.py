"""`assayline jobs --unknown`: calls of which nobody knows how they ended, and what they may have cost at most."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from gateway.analyses.registry import load_analyses
from gateway.catalog import load_catalog
from gateway.settings import Settings
from ops.cli import store, target
from ops.cli.exit_codes import OK
from ops.cli.screen import Screen
from ops.cli.view import cost_text, unknown_table
from tasks.unknown import LISTED, described, for_psycopg, wanted


def show_unknown(screen: Screen, directory: Path, *, jobs: int, **which: Unpack[store.Which]) -> int:
    """Write them, those of the newest `jobs` jobs that have any; with `--json` one line for each call."""
    env = target.environment(directory)
    catalog, registry = load_catalog(Settings.from_env(env).catalog_path, env), load_analyses()
    with store.connected(target.database_url(directory)) as connection:
        rows = connection.execute(for_psycopg(LISTED).encode(), wanted(jobs=jobs, **which)).fetchall()
    calls = [described(row, catalog, registry) for row in rows]
    for call in calls:
        screen.document(call)
    if not calls:
        screen.say("no call is unknown" + (" of this kind" if any(which.values()) else ""))
        return OK
    screen.show(unknown_table(calls))
    known = [call["worst_usd"] for call in calls if call["worst_usd"] is not None]
    nobody = len(calls) - len(known)
    screen.say(
        f"{len(calls)} {'call' if len(calls) == 1 else 'calls'}, {cost_text(sum(known))} at most"
        + (f", and {nobody} of which nobody knows the price" if nobody else "")
    )
    found = list(dict.fromkeys(call["job_id"] for call in calls))
    if len(found) == jobs:
        screen.say(f"more: --after {found[-1]}")
    return OK
