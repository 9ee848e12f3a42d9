"""`assayline api`: the HTTP service, as a process of its own."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Annotated

import typer

from gateway.errors import ConfigurationError
from ops.cli.exit_codes import OK
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen

PACKAGES = ("fastapi", "uvicorn")
"""What the extra `api` brings."""


def api(
    host: Annotated[
        str, typer.Option(help="Where to listen. Beyond loopback only if you say so here: it speaks no TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 takes any that is free.")] = 8000,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """Serve the HTTP API until SIGTERM or Ctrl-C. Its log goes to stderr.

    Callers bring the key in ASSAYLINE_API_KEY (or the file that ASSAYLINE_API_KEY_FILE names): Authorization: Bearer.
    Example: [bold]ASSAYLINE_API_KEY="$(openssl rand -hex 24)" assayline api --port 8000[/bold]
    """
    if not installed():
        raise ConfigurationError("the HTTP API is not installed: pip install 'assayline[api]'")
    from ops.cli.processes import begin

    settings, catalog = begin(directory)
    from api.server import Address, serve
    from ops.cli.doctor.stores import head_revision

    screen = Screen(as_json=as_json)

    def tell(url: str) -> None:
        screen.document({"process": "api", "url": url})
        screen.say(f"the API is at {url}/v1, described at {url}/openapi.json")

    serve(settings, catalog, os.environ, Address(host, port), revision=head_revision(), on_bound=tell)
    return OK


def installed() -> bool:
    """Whether the packages of the extra `api` are here."""
    return all(find_spec(name) is not None for name in PACKAGES)
