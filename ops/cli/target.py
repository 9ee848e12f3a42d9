"""Which installation a command speaks to: the one the environment names, else the `assayline up` of a directory."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from gateway.errors import ConfigurationError
from gateway.redis_url import SCHEMES as REDIS_SCHEMES
from gateway.settings import Settings

UP_LOCK = "up.lock"
UP_ENV = "env"
DATABASE, REDIS, BROKER = "ASSAYLINE_DATABASE_URL", "ASSAYLINE_REDIS_URL", "ASSAYLINE_BROKER_URL"
SCHEMES = {DATABASE: ("postgresql", "postgres"), REDIS: REDIS_SCHEMES}


def environment(directory: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return `env` (None: the process's own), completed by the URLs of the `assayline up` that runs in `directory`."""
    own = dict(os.environ if env is None else env)
    found = running(directory)
    return {**{name: value for name, value in found.items() if not own.get(f"{name}_FILE")}, **_set(own)}


def adopt(directory: Path) -> None:
    """Complete this process's own environment: what runs inside it (Celery, the providers) reads that one."""
    os.environ.update(environment(directory))


def running(directory: Path) -> dict[str, str]:
    """The variables of the `assayline up` that runs in `directory`; none where none runs."""
    try:
        pid = int((directory / UP_LOCK).read_text())
        written = (directory / UP_ENV).read_text()
        os.kill(pid, 0)
    except (OSError, ValueError):
        return {}
    pairs = (shlex.split(line)[1].partition("=") for line in written.splitlines() if line.startswith("export "))
    return {name: value for name, _, value in pairs}


def database_url(directory: Path) -> str:
    """The database to use.

    Raises:
        ConfigurationError: none is named and none runs, or its URL is of another kind.
    """
    return checked(Settings.from_env(environment(directory)).database_url, DATABASE, directory)


def checked(url: str | None, variable: str, directory: Path) -> str:
    """Return a URL that is there and of the right kind; it holds a password and is never part of a message.

    Raises:
        ConfigurationError: it is neither.
    """
    if not url:
        raise ConfigurationError(
            f"{variable} is not set and no `assayline up` runs in {directory}: set it, or start one with `assayline up`"
        )
    if url.partition("://")[0] not in SCHEMES[variable]:
        raise ConfigurationError(f"{variable} must begin with {SCHEMES[variable][0]}://")
    return url


def _set(env: Mapping[str, str]) -> dict[str, str]:
    """What is set: an empty variable counts as not set (`gateway.settings`)."""
    return {name: value for name, value in env.items() if value.strip() or name not in SCHEMES}
