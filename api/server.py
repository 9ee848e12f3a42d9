"""Serving the API with uvicorn: which address may be bound, and how it ends. The composition root of the process."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from api.app import guarded
from api.ends import Ends
from api.guard import Guard
from api.key import api_key
from api.limits import MAX_HEAD_BYTES, STOP_WITHIN_S
from api.protocol import Protocol
from api.services import build_services
from gateway.analyses.registry import load_analyses
from gateway.catalog import Catalog
from gateway.errors import ConfigurationError
from gateway.settings import Settings

BACKLOG = 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. `port` 0: any that is free."""

    host: str = "127.0.0.1"
    port: int = 8000


class Server(uvicorn.Server):
    """uvicorn's, but for its end: who waits for a job is answered first, and the signal is not raised once more."""

    def __init__(self, config: uvicorn.Config, ends: Ends) -> None:
        super().__init__(config)
        self._ends = ends

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT, a second SIGINT at once; the process then ends with an exit code of ours."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._ends.stop()
        await super().shutdown(sockets)


def serve(
    settings: Settings,
    catalog: Catalog,
    env: Mapping[str, str],
    address: Address,
    *,
    revision: str | None,
    on_bound: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT. `on_bound` is told the service's URL.

    Raises:
        ConfigurationError: the key, the address or a store's URL is unusable.
    """
    key = api_key(env)
    services = build_services(
        _required(settings.database_url, "ASSAYLINE_DATABASE_URL"),
        _required(settings.redis_url, "ASSAYLINE_REDIS_URL"),
        catalog,
        load_analyses(),
        env,
        revision,
    )
    listener = bound(address)
    try:
        on_bound(url_of(listener))
        Server(config_of(guarded(services, key)), services.ends).run([listener])
    finally:
        listener.close()


def bound(address: Address) -> socket.socket:
    """Bind the address.

    Raises:
        ConfigurationError: it is none of this machine's, or is taken.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(place[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:  # the latter for names that are none
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"cannot listen at {address.host} port {address.port}: {why}") from error
    if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        log.warning("listening beyond loopback, without TLS: put a proxy with TLS in front")
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def config_of(app: Guard) -> uvicorn.Config:
    """How uvicorn serves it: one process, plain HTTP/1.1, our own log."""
    return uvicorn.Config(
        app,
        log_config=None,  # ours stands
        access_log=False,  # the guard writes it
        server_header=False,
        ws="none",
        http=Protocol,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        lifespan="on",
        timeout_graceful_shutdown=int(STOP_WITHIN_S),
    )


def _required(value: str | None, variable: str) -> str:
    if not value:
        raise ConfigurationError(f"{variable} is not set; `assayline up` sets it for the processes it starts")
    return value
