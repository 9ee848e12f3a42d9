"""`assayline wait`: watch jobs until they have ended, then show their results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ops.cli import target
from ops.cli.exit_codes import FAILED, OK
from ops.cli.jobs import Tenant
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen
from ops.cli.troubles import BadInput
from tasks.states import TERMINAL, State

if TYPE_CHECKING:
    from rich.table import Table

    from tasks.producer import StoredJob

POLL_S = 0.3
"""Between two looks at where all the jobs stand: one statement, however many they are."""

Standing = Mapping[UUID, Mapping[str, Any]]
Look = Callable[[], Standing]


def wait(
    job_ids: Annotated[list[UUID], typer.Argument(metavar="ID...")],
    timeout: Annotated[float, typer.Option(min=0, help="Give up after so many seconds; the jobs go on.")] = 600.0,
    tenant: Tenant = None,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """Wait until jobs have ended, showing where they stand, then show their results. Exit code 1: one did not succeed.

    Example: [bold]assayline wait 01939f6e-0000-7000-8000-000000000000 --timeout 60[/bold]
    """
    return wait_for(job_ids, Screen(as_json=as_json), directory, timeout, tenant)


def wait_for(ids: Sequence[UUID], screen: Screen, directory: Any, timeout_s: float, tenant: str | None = None) -> int:
    """Wait for jobs and show them; returns the exit code.

    Raises:
        BadInput: one of them does not exist.
    """
    from ops.cli import store
    from tasks.producer import Client

    url = target.database_url(directory)
    with store.connected(url) as connection:
        last = watch(ids, lambda: store.standing(connection, ids, tenant), screen, timeout_s)
    late = [job_id for job_id in ids if last[job_id]["state"] not in TERMINAL]
    with Client(url) as client:
        ended = [client.get(job_id, tenant=tenant) for job_id in ids if job_id not in late]
    for job in ended:
        show(job, screen)
    for job_id in late:
        screen.say(f"{job_id} is still {last[job_id]['state']} after {timeout_s:g} s; it goes on")
        screen.document({"id": job_id, "state": last[job_id]["state"], "timed_out": True})
    return OK if not late and all(job.state == State.SUCCEEDED for job in ended) else FAILED


def watch(
    ids: Sequence[UUID], look: Look, screen: Screen, timeout_s: float, names: Mapping[UUID, str] | None = None
) -> Standing:
    """Show where jobs stand until all have ended or `timeout_s` seconds are over; returns where they stood last.

    Raises:
        BadInput: one of them does not exist.
    """
    until = time.monotonic() + timeout_s
    with progress(ids, screen, names) as show_standing:
        while True:
            seen = look()
            if missing := [str(job_id) for job_id in ids if job_id not in seen]:
                raise BadInput(f"no such job: {', '.join(missing)}")
            show_standing(seen)
            left_s = until - time.monotonic()
            if left_s <= 0 or all(row["state"] in TERMINAL for row in seen.values()):
                return seen
            time.sleep(min(POLL_S, left_s))


@contextmanager
def progress(
    ids: Sequence[UUID], screen: Screen, names: Mapping[UUID, str] | None = None
) -> Iterator[Callable[[Standing], None]]:
    """Show standings as they are handed in: a live table on a terminal, else a line for each change. All on stderr.

    Args:
        ids: in the order to show.
        screen: where to.
        names: what to call the jobs; None: their ids.
    """
    called = names or {job_id: str(job_id) for job_id in ids}
    if not screen.err.is_terminal:
        yield _Lines(ids, called, screen).show
        return
    from rich.live import Live

    with Live(console=screen.err, refresh_per_second=8, transient=False) as live:
        yield lambda seen: live.update(standing_table(ids, called, seen))


class _Lines:
    """A line whenever a job's state changes."""

    def __init__(self, ids: Sequence[UUID], called: Mapping[UUID, str], screen: Screen) -> None:
        self._ids, self._called, self._screen = ids, called, screen
        self._known: dict[UUID, str] = {}
        self._began = time.monotonic()

    def show(self, seen: Standing) -> None:
        for job_id in self._ids:
            row = seen[job_id]
            if self._known.get(job_id) != row["state"]:
                self._known[job_id] = row["state"]
                after_s = time.monotonic() - self._began
                self._screen.say(f"{after_s:6.1f} s  {self._called[job_id]}  {row['state']}  {_where(row)}".rstrip())


def standing_table(ids: Sequence[UUID], called: Mapping[UUID, str], seen: Standing) -> Table:
    """Where jobs stand."""
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    from ops.cli.view import STATE_STYLES, state_text

    table = Table.grid(padding=(0, 2))
    for job_id in ids:
        row = seen[job_id]
        running = row["state"] == State.RUNNING
        state = Spinner("dots", "running", style=STATE_STYLES["running"]) if running else state_text(row["state"])
        table.add_row(Text(called[job_id]), state, Text(_where(row), "dim"))
    return table


def _where(row: Mapping[str, Any]) -> str:
    model = f"{row['provider']}/{row['model']}"
    if row["state"] == State.RUNNING:
        return f"call {row['attempts_used']} of at most {row['max_attempts']} at {model}"
    return model if row["state"] == State.SUCCEEDED else f"{row['reason']}, {model}"


def show(job: StoredJob, screen: Screen) -> None:
    """Show an ended job: its result, or what went wrong."""
    from rich.text import Text

    from ops.cli.view import causes_table, result_view, state_text

    screen.show("")
    screen.show(Text.assemble((str(job.id), "bold"), "  ", job.analysis, "  ", state_text(job.state)))
    if job.causes:
        screen.show(causes_table(job.causes))
    if job.result is not None:
        screen.show(result_view(job.result))
    screen.document(job.fields)
