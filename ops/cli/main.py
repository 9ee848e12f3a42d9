"""The root of `assayline`: which commands there are, and what becomes of what they return or raise.

A command's module is imported when the command is asked for, so that `--help` is quick and a process imports only what
it needs. A command returns its exit code (None: 0).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ops.cli.exit_codes import INTERRUPTED, OK
from ops.cli.troubles import report

EPILOG = (
    "Exit codes: 0 ok, 1 a job failed, 2 the installation or its configuration, 3 bad input, "
    "70 a fault of Assayline itself."
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: its name, where its function is (`module:function`), its line in `--help` and the panel there."""

    name: str
    where: str
    line: str
    panel: str


RUN, JOBS, CARE = "Run it", "Jobs", "Care"
COMMANDS = (
    Entry("demo", "ops.cli.demo:demo", "Start everything, run real jobs, show their results, stop.", RUN),
    Entry("up", "ops.cli.up:up", "Run the whole system in the foreground until Ctrl-C.", RUN),
    Entry("dispatcher", "ops.cli.processes:dispatcher", "Release due jobs into the queues, rescue lost ones.", RUN),
    Entry("worker", "ops.cli.processes:worker", "Run the jobs of some providers.", RUN),
    Entry("beat", "ops.cli.processes:beat", "Tick the clock for housekeeping.", RUN),
    Entry("api", "ops.cli.api:api", "Serve the HTTP API.", RUN),
    Entry("submit", "ops.cli.submit:submit", "Enqueue one job for each file.", JOBS),
    Entry("wait", "ops.cli.wait:wait", "Wait for jobs and show their results.", JOBS),
    Entry("jobs", "ops.cli.jobs:jobs", "List jobs, newest first.", JOBS),
    Entry("job", "ops.cli.jobs:job", "Show everything about one job.", JOBS),
    Entry("exec", "ops.cli.exec:exec_task", "Run one task from stdin, without any service.", JOBS),
    Entry("pause", "ops.cli.pauses:pause", "Stop the release of some jobs, or list what is stopped.", JOBS),
    Entry("resume", "ops.cli.pauses:resume", "Let a pause end.", JOBS),
    Entry("cancel", "ops.cli.cancel:cancel", "Cancel jobs that have not ended, by id or by filter.", JOBS),
    Entry("replay", "ops.cli.replay:replay", "Ask again for what failed jobs asked for, by new jobs.", JOBS),
    Entry("replays", "ops.cli.replays:replays", "List replays; watch, pause, resume or stop one.", JOBS),
    Entry("providers", "ops.cli.catalog:providers", "List the providers, and what each still needs.", CARE),
    Entry("models", "ops.cli.catalog:models", "List the models: windows, prices, who uses them.", CARE),
    Entry("prompts", "ops.cli.prompts:prompts", "List the prompts, or show one.", CARE),
    Entry("migrate", "ops.cli.processes:migrate", "Bring the database to this version's schema.", CARE),
    Entry("health", "ops.cli.health:health", "Say whether this host's process works, for containers.", CARE),
    Entry("doctor", "ops.cli.doctor:doctor", "Say what is configured, reachable and wrong, and how to mend it.", CARE),
    Entry("bench", "ops.cli.bench:bench", "Measure, against the goals.", CARE),
)


class Commands(TyperGroup):
    """The group: commands by name, imported late, their outcomes turned into exit codes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._entries = {entry.name: entry for entry in COMMANDS}
        # For the list in `--help` and for guessing at typing errors.
        self.commands: MutableMapping[str, Any] = {entry.name: _placeholder(entry) for entry in COMMANDS}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the real command in place of its placeholder."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(self._entries[str(name)]), rest

    def main(self, args: Sequence[str] | None = None, *_: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command line and leave with its exit code (return it where `standalone_mode` is off)."""
        given = list(sys.argv[1:] if args is None else args) or ["--help"]
        extra["prog_name"] = "assayline"
        code = _outcome(
            lambda: super(Commands, self).main(args=given, standalone_mode=False, **extra), as_json="--json" in given
        )
        if standalone_mode:
            sys.exit(code)
        return code


def _outcome(run: Callable[[], Any], *, as_json: bool) -> int:
    try:
        returned = run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return report(error, as_json=as_json)
    return returned if isinstance(returned, int) else OK


def _placeholder(entry: Entry) -> TyperCommand:
    return TyperCommand(name=entry.name, help=entry.line, short_help=entry.line, rich_help_panel=entry.panel)


def load(entry: Entry) -> Any:
    """Import a command's function and make the command of it."""
    module, _, function = entry.where.partition(":")
    single = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    single.command(entry.name, no_args_is_help=False)(getattr(import_module(module), function))
    return typer.main.get_command(single)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def root() -> None:
    """Assayline runs LLM analysis jobs: once, at the provider's exact rate, with a validated result.

    To see it work: [bold]assayline demo[/bold]. What is wrong here: [bold]assayline doctor[/bold].
    """


def main() -> None:
    """The console script `assayline`."""
    app()


if __name__ == "__main__":
    main()
