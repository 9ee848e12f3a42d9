"""Peer: plain Celery on the same broker and the same threads pool, as its documentation sets it up.

Its own logical database on the server: kombu keeps unacknowledged messages under one key per database, and two apps
with different visibility timeouts would redeliver each other's.
"""

from __future__ import annotations

import http.client
import os
import sys
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from celery import Celery

from ops.supervisor.ports import LOOPBACK

DATABASE = 15
"""The last of a stock server's sixteen."""
QUEUE = "peer"
BROKER, VISIBILITY = "PEER_BROKER_URL", "PEER_VISIBILITY_S"
DEFAULT_VISIBILITY_S = 3600
"""kombu's, for Redis."""


def broker_url(redis_url: str) -> str:
    """The peer's database on a Redis server."""
    return urlunsplit(urlsplit(redis_url)._replace(path=f"/{DATABASE}"))


def make_app(url: str, visibility_s: int = DEFAULT_VISIBILITY_S) -> Celery:
    """Build the app. Connects to nothing."""
    made = Celery("peer", broker=url, set_as_current=False)
    made.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        task_default_queue=QUEUE,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": visibility_s},
    )
    return made


def worker_argv(slots: int, module: str = "ops.bench.celery_peer", queue: str = QUEUE) -> list[str]:
    """The command of a peer worker, events off. `module`: whose `app` it runs."""
    return [
        *(sys.executable, "-m", "celery", "-A", f"{module}:app", "worker", "-l", "WARNING", "-P", "threads"),
        *("-c", str(slots), "-Q", queue, "--without-gossip", "--without-mingle"),
    ]


def call_endpoint(port: int, marker: str) -> None:
    """One bare HTTP call: no SDK, no JSON to speak of."""
    connection = http.client.HTTPConnection(LOOPBACK, port)
    connection.request("POST", "/v1/chat/completions", body=f"marker-{marker} ")
    connection.getresponse().read()
    connection.close()


app: Any = make_app(os.environ.get(BROKER, ""), int(os.environ.get(VISIBILITY, DEFAULT_VISIBILITY_S)))


@app.task(name="peer.noop")  # type: ignore[untyped-decorator]
def noop() -> None:
    """Nothing: what is left is Celery."""


@app.task(name="peer.call")  # type: ignore[untyped-decorator]
def call(port: int, marker: str) -> None:
    """Call the provider."""
    call_endpoint(port, marker)


@app.task(name="peer.take")  # type: ignore[untyped-decorator]
def take(content: str) -> None:
    """Take a text of the size that the enqueue bench hands over."""
