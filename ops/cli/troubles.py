"""What a command's exceptions mean to the person at the terminal: one line, an exit code, how to mend it.

A table, because the classes come from packages that most commands never import: a package that is not loaded has raised
nothing.
"""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass

from rich.markup import escape
from typer import Abort
from typer.exceptions import TyperException

from ops.cli.exit_codes import BAD_INPUT, CONFIGURATION, FAILED, FAULT, INTERRUPTED
from ops.cli.screen import console, write_json

MIGRATE = "bring the database up to date: assayline migrate"
EMBEDDED = "embedded service"
HELD = "others hold what it needs, in a transaction that is still open; try again in a moment"
START = "is the server running? `assayline up` starts one, `assayline doctor` says more"


class BadInput(Exception):
    """What was asked for cannot be. The message names the file, field or option, and what would be right."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What exceptions of `module`.`name` mean. `holding`: only those whose message holds this."""

    module: str
    name: str
    code: int
    word: str
    mend: str = ""
    holding: str = ""


# The first that fits counts: subclasses stand before their bases.
KINDS = (
    Kind("ops.cli.troubles", "BadInput", BAD_INPUT, "bad input"),
    Kind("gateway.errors", "ConfigurationError", CONFIGURATION, "configuration"),
    Kind("gateway.errors", "RequestError", BAD_INPUT, "bad input"),
    Kind("ops.embedded.service", "EmbeddedServiceError", CONFIGURATION, EMBEDDED),
    Kind("ops.supervisor.lock", "AlreadyOwned", CONFIGURATION, "in use"),
    Kind("ops.migrate", "UnsupportedServer", CONFIGURATION, "configuration"),
    Kind("alembic.util.exc", "CommandError", BAD_INPUT, "migration"),
    Kind("tasks.producer.errors", "UnknownAnalysis", BAD_INPUT, "bad input", "`assayline doctor` lists the analyses"),
    Kind("tasks.producer.errors", "UnknownModel", BAD_INPUT, "bad input", "`assayline doctor` lists the providers"),
    Kind("tasks.producer.errors", "InvalidJob", BAD_INPUT, "bad input"),
    Kind("tasks.producer.errors", "IdempotencyConflict", BAD_INPUT, "bad input"),
    Kind("tasks.producer.errors", "JobNotFound", BAD_INPUT, "bad input"),
    Kind("tasks.producer.errors", "WaitTimeout", FAILED, "not ended"),
    Kind("tasks.producer.errors", "NotMigrated", CONFIGURATION, "database"),
    Kind("tasks.producer.errors", "DriverMissing", CONFIGURATION, "configuration"),
    Kind("psycopg.errors", "UndefinedTable", CONFIGURATION, "database", MIGRATE, "assayline"),
    Kind("psycopg.errors", "UndefinedFunction", CONFIGURATION, "database", MIGRATE, "assayline"),
    Kind("psycopg.errors", "InvalidSchemaName", CONFIGURATION, "database", MIGRATE, "assayline"),
    Kind("tasks.replay.book", "ReplayBeingMade", FAILED, "not made", "nothing was made; try again in a minute"),
    # The server is well: it gave up waiting, after the session's `lock_timeout`.
    Kind("psycopg.errors", "LockNotAvailable", FAILED, "Postgres", HELD),
    Kind("sqlalchemy.exc", "OperationalError", FAILED, "Postgres", HELD, "psycopg.errors.LockNotAvailable"),
    Kind("psycopg", "OperationalError", CONFIGURATION, "Postgres", START),
    Kind("sqlalchemy.exc", "OperationalError", CONFIGURATION, "Postgres", START),
    Kind("redis.exceptions", "ConnectionError", CONFIGURATION, "Redis", START),
    Kind("redis.exceptions", "TimeoutError", CONFIGURATION, "Redis", START),
    Kind("kombu.exceptions", "OperationalError", CONFIGURATION, "broker", START),
    Kind("amqp.exceptions", "AMQPError", CONFIGURATION, "broker", START),
)


def report(error: Exception, *, as_json: bool) -> int:
    """Say on stderr what went wrong (and on stdout as JSON, if asked for JSON); return the exit code."""
    if isinstance(error, Abort):
        return INTERRUPTED
    if isinstance(error, TyperException):
        kind = Kind("typer.exceptions", "TyperException", BAD_INPUT, "usage", _help_hint(error))
    else:
        kind = kind_of(error) or Kind("builtins", "Exception", FAULT, "a fault of Assayline's own")
    if kind.code == FAULT:
        traceback.print_exception(error)
    # A service's last log lines are worth their room.
    message = str(error) if kind.word == EMBEDDED else one_line(error)
    _write(kind, message)
    if as_json:
        write_json({"error": {"kind": kind.word, "code": kind.code, "message": message, "mend": kind.mend or None}})
    return kind.code


def kind_of(error: BaseException) -> Kind | None:
    """The kind that an exception is of; None: nobody expected it."""
    message = str(error)
    for kind in KINDS:
        known = getattr(sys.modules.get(kind.module), kind.name, None)
        if known is not None and isinstance(error, known) and kind.holding in message:
            return kind
    return None


def one_line(error: BaseException) -> str:
    """An exception's message in one line; of a database's, the first: the others quote the statement and guess."""
    if isinstance(error, TyperException):
        return error.format_message()
    told = getattr(error, "orig", None) or error
    text = str(told).partition("\n")[0] if hasattr(told, "diag") else str(told)
    return " ".join(text.split()) or type(error).__name__


def _help_hint(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else "assayline --help"


def _write(kind: Kind, message: str) -> None:
    err = console(stderr=True)
    err.print(f"[bold red]{escape(kind.word)}:[/] {escape(message)}", highlight=False, soft_wrap=True)
    if kind.mend:
        err.print(f"  [dim]→[/] {escape(kind.mend)}", highlight=False, soft_wrap=True)
