"""One log format for all processes: time, level, logger, message, facts; on stderr, from LOG_LEVEL on.

`assayline up` writes each process's name before its lines, so no process names itself.
"""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"
TIME = "%H:%M:%S"

QUIET = {
    # A line for each HTTP request or connection.
    "httpx2": logging.WARNING,
    "httpcore2": logging.WARNING,
    "openai": logging.WARNING,
    "asyncio": logging.WARNING,
    # A line for each of its parts, whenever it is imported.
    "alembic.runtime.plugins": logging.WARNING,
    "kombu": logging.INFO,
    "amqp": logging.INFO,
}
"""Loggers that start at a level of their own, unless everything is asked for with DEBUG."""


STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; anything else is a fact that its caller handed over in `extra`."""


class FactsFormatter(logging.Formatter):
    """Writes a record's facts behind its message, as `name=value`."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """See `logging.Formatter.formatMessage`."""
        line = super().formatMessage(record)
        facts = " ".join(f"{name}={value}" for name, value in vars(record).items() if name not in STANDARD)
        return f"{line} {facts}" if facts else line


def configure_logging(level: str) -> None:
    """Make the root logger write to stderr in our format, from `level` on; a second call replaces the first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FactsFormatter(FORMAT, TIME))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    wanted = logging.getLevelNamesMapping()[level]
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(logging.NOTSET if wanted <= logging.DEBUG else max(wanted, least))
    logging.captureWarnings(True)


def keep_from_celery() -> None:
    """Stop Celery from configuring logging its own way: with a receiver on its signal it leaves everything as it is."""
    from celery.signals import setup_logging

    setup_logging.connect(_as_it_is, weak=False)


def _as_it_is(**_: object) -> None:
    """Our own configuration stands."""
