"""Peer: plain Celery with `autoretry_for`, whose retries ask the next provider.

Set up as its documentation shows (exponential backoff from one second, jitter, three retries); that a retry asks the
next provider is the one line that an expert would add.
"""

from __future__ import annotations

import http.client
import os
from http import HTTPStatus
from typing import Any

from ops.bench.celery_peer import BROKER, make_app
from ops.supervisor.ports import LOOPBACK

CALL = "failing_over.call"
BODY = '{{"messages": [{{"role": "user", "content": "marker-{} "}}]}}'

app: Any = make_app(os.environ.get(BROKER, ""))


class Unanswered(Exception):
    """The provider answered with an error."""


@app.task(  # type: ignore[untyped-decorator]
    name=CALL, bind=True, autoretry_for=(OSError, http.client.HTTPException, Unanswered), retry_backoff=True
)
def call(self: Any, ports: list[int], marker: str, timeout_s: float) -> None:
    """Call the first provider, and the next one in a retry."""
    port = ports[min(self.request.retries, len(ports) - 1)]
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    try:
        connection.request("POST", "/v1/chat/completions", body=BODY.format(marker))
        response = connection.getresponse()
        response.read()
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise Unanswered(response.status)
