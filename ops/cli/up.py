"""`assayline up`: the whole system in the foreground, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from gateway.catalog import load_catalog
from gateway.settings import Settings
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, write_json
from ops.cli.stack import Stack, replaced, services, write_env_file
from ops.supervisor.lock import DirectoryLock
from ops.supervisor.log import MergedLog
from ops.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ENV_FILE = "env"


def up(directory: Directory = DEFAULT_DIRECTORY, as_json: AsJson = False) -> int:
    """Run everything: stores, migrations, dispatcher, workers, beat, API, Flower. Ctrl-C stops it, a second one faster.

    With `--json` the URLs are one line on stdout at readiness, and the log goes to stderr.
    """
    return run_up(os.environ, directory.resolve(), as_json=as_json)


def run_up(env: Mapping[str, str], directory: Path, *, as_json: bool = False) -> int:
    """Run the stack that `env` describes until it is told to stop; returns the exit code.

    Raises:
        AlreadyOwned: another `up` runs in this directory.
        EmbeddedServiceError: an embedded service cannot run here.
        ConfigurationError: the environment or the catalog is wrong.
    """
    settings = Settings.from_env(env)
    catalog = load_catalog(settings.catalog_path, env)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = DirectoryLock(directory / "up.lock")
    lock.acquire()
    try:
        stack = services(settings, catalog, directory, env)
        try:
            write_env_file(stack, directory / ENV_FILE)
            return _supervise(stack, env, directory, as_json=as_json)
        finally:
            stack.release()
    finally:
        lock.release()


def _supervise(stack: Stack, env: Mapping[str, str], directory: Path, *, as_json: bool) -> int:
    log = MergedLog([child.name for child in stack.children], sys.stderr if as_json else sys.stdout)
    announce = _json_links if as_json else _table
    return asyncio.run(Supervisor(stack.children, log, on_ready=lambda: announce(stack, env, directory, log)).run())


def _table(stack: Stack, env: Mapping[str, str], directory: Path, log: MergedLog) -> None:
    log.say("ready")
    for link in (*stack.links, *replaced(env)):
        log.say(f"  {link.name:<10} {link.url}  {link.note}".rstrip())
    if stack.env:
        log.say(f"  for other terminals, with the passwords:  . {directory / ENV_FILE}")


def _json_links(stack: Stack, env: Mapping[str, str], directory: Path, log: MergedLog) -> None:
    log.say("ready")
    links = {link.name: link.url for link in (*stack.links, *replaced(env))}
    write_json({"ready": True, "urls": links, "env_file": directory / ENV_FILE})
