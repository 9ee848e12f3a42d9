"""The commands that are processes of the system, and `migrate`, which comes before them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli import target
from ops.cli.exit_codes import OK
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen
from ops.cli.troubles import BadInput

if TYPE_CHECKING:
    from gateway.catalog import Catalog
    from gateway.settings import Settings
    from workers.health.server import Address

FOR_BENCHES = "For benches"

HealthPort = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65_535,
        help="Tell its health over HTTP at this port: /health/live and /health/ready, 200 or 503, and why as JSON.",
        show_default="not at all",
    ),
]
HealthHost = Annotated[
    str, typer.Option(help="The address it tells its health at; 0.0.0.0 where a Kubernetes node asks.")
]
LOOPBACK = "127.0.0.1"


def worker(
    provider: Annotated[
        list[str] | None,
        typer.Option("--provider", help="Serve this provider's queues; may be repeated. All configured."),
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Jobs at once. The catalog's figure for the provider.")
    ] = None,
    grace: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds that open calls get after SIGTERM, before they are handed back. It is gone within 9 s more.",
            show_default="20",
        ),
    ] = None,
    events: Annotated[bool, typer.Option("--events/--no-events", help="Send task events, which Flower shows.")] = True,
    health_port: HealthPort = None,
    health_host: HealthHost = LOOPBACK,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """Run the jobs of some providers until SIGTERM or Ctrl-C. Its log goes to stderr.

    Example: [bold]assayline worker --provider openai --slots 100[/bold]
    """
    settings, catalog = begin(directory)
    from workers.departure import Departure
    from workers.logs import keep_from_celery
    from workers.worker import WorkerOptions, chosen, run_worker

    keep_from_celery()
    health = _address(health_host, health_port)
    options = WorkerOptions(
        providers=chosen(catalog, provider or ()),
        slots=slots,
        events=events,
        departure=Departure() if grace is None else Departure(grace),
        health=health,
    )
    Screen(as_json=as_json).document(
        {"process": "worker", "providers": options.providers, "slots": slots, "health": health and health.url}
    )
    return run_worker(settings, catalog, options)


def dispatcher(
    listen: Annotated[
        bool,
        typer.Option(
            "--listen/--no-listen", help="Wake by NOTIFY, not by the poll alone.", rich_help_panel=FOR_BENCHES
        ),
    ] = True,
    rescue: Annotated[
        bool, typer.Option("--rescue/--no-rescue", help="Rescue the jobs of dead workers.", rich_help_panel=FOR_BENCHES)
    ] = True,
    health_port: HealthPort = None,
    health_host: HealthHost = LOOPBACK,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """Release due jobs into the queues, publish again what nobody claimed, rescue the jobs of dead workers.

    Any number may run; one is enough. Its log goes to stderr. Example: [bold]assayline dispatcher[/bold]
    """
    settings, catalog = begin(directory)
    from tasks.dispatch_policy import Policy
    from workers.build import configured
    from workers.dispatcher import run_dispatcher

    health = _address(health_host, health_port)
    Screen(as_json=as_json).document(
        {"process": "dispatcher", "listen": listen, "rescue": rescue, "health": health and health.url}
    )
    logging.getLogger("workers.dispatcher").info("releasing the jobs of %s", ", ".join(configured(catalog)) or "nobody")
    run_dispatcher(settings, catalog, Policy(listen=listen, rescue=rescue), health=health)
    return OK


def beat(
    state: Annotated[Path | None, typer.Option(help="Where it keeps when it last ticked. DIR/beat.")] = None,
    health_port: HealthPort = None,
    health_host: HealthHost = LOOPBACK,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """Tick the clock of `beat_schedule.py`: housekeeping, and batches by night. Several are harmless.

    Example: [bold]assayline beat[/bold]
    """
    begin(directory)
    from workers.beat import run_beat
    from workers.logs import keep_from_celery

    keep_from_celery()
    health = _address(health_host, health_port)
    Screen(as_json=as_json).document({"process": "beat", "health": health and health.url})
    run_beat(state or directory / "beat", health=health)
    return OK


def migrate(
    to: Annotated[str, typer.Option(help="The revision to go up to.")] = "head",
    down: Annotated[
        str | None, typer.Option(help="Go DOWN to this revision instead (`base`: remove everything). Destroys data.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before going down.")] = False,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """Bring the database to this version's schema. Safe to run from several processes at once, and again.

    Example: [bold]assayline migrate[/bold]
    """
    url = target.database_url(directory)
    if down is not None and not yes:
        _ask_before_going_down(down)
    from ops.cli.store import schema_revision
    from ops.migrate import downgrade, upgrade

    upgrade(url, to) if down is None else downgrade(url, down)
    revision = schema_revision(url)
    screen = Screen(as_json=as_json)
    screen.show(f"the schema is at {revision or 'base: nothing is left'}")
    screen.document({"revision": revision})
    return OK


def _address(host: str, port: int | None) -> Address | None:
    """Where a process is to tell its health; None: nowhere."""
    from workers.health.server import Address

    return None if port is None else Address(port, host)


def _ask_before_going_down(revision: str) -> None:
    """Ask at a terminal; refuse where nobody can answer.

    Raises:
        BadInput: there is no terminal.
        typer.Abort: the answer is no.
    """
    import sys

    if not sys.stdin.isatty():
        raise BadInput("--down destroys data and nobody is here to ask: add --yes")
    typer.confirm(f"Go down to {revision}? Jobs, results and ledger above it are lost", abort=True, err=True)


def begin(directory: Path) -> tuple[Settings, Catalog]:
    """Make this process one of the installation: environment, log, settings, catalog.

    Raises:
        ConfigurationError: one of them is wrong, or the stores are not named.
    """
    target.adopt(directory)
    from workers.build import load
    from workers.logs import configure_logging

    settings, catalog = load()
    configure_logging(settings.log_level)
    target.checked(settings.database_url, target.DATABASE, directory)
    target.checked(settings.redis_url, target.REDIS, directory)
    return settings, catalog
