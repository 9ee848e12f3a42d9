"""Peer: Celery's `rate_limit` on the task that calls the provider, as its documentation describes it.

Celery counts tasks, by worker process ("this is a per worker instance rate limit, and not a global rate limit"). A
refused call goes back by `self.retry`, after what the provider says and jitter under an exponential ceiling.
"""

from __future__ import annotations

import http.client
import json
import os
from http import HTTPStatus
from random import uniform
from typing import Any

from kombu.asynchronous.hub import Hub

from ops.bench.celery_peer import BROKER, make_app
from ops.bench.stack import content
from ops.supervisor.ports import LOOPBACK

RATE, MENDED = "PEER_RATE_PER_MIN", "PEER_MENDED"
ALL_TIMERS = 1_000_000
CALL = "limited.call"
TIMEOUT_S = 120.0
MOST_JITTER_S = 60.0


def mend() -> None:
    """Let kombu's loop fire every timer that is due.

    Celery 5.7 adds a timer for each task that it holds back, and sets it again while any is held; kombu 5.7 fires ten
    timers a turn and then may sleep for a second, so a worker with a backlog starts a task or two a second.
    """
    stock: Any = Hub.fire_timers

    def fire_timers(hub: Any, **options: Any) -> float:
        return float(stock(hub, **options | {"max_timers": ALL_TIMERS}))

    setattr(Hub, "fire_timers", fire_timers)  # noqa: B010  its type says that it cannot be


if os.environ.get(MENDED):
    mend()

app: Any = make_app(os.environ.get(BROKER, ""))


@app.task(  # type: ignore[untyped-decorator]
    name=CALL, bind=True, max_retries=None, rate_limit=f"{float(os.environ.get(RATE, 1)):.3f}/m"
)
def call(self: Any, port: int, marker: str, max_tokens: int) -> None:
    """Call the provider; come again where it refuses."""
    status, retry_after_s = post(port, marker, max_tokens)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise self.retry(countdown=retry_after_s + uniform(0, min(MOST_JITTER_S, 2.0**self.request.retries)))


def post(port: int, marker: str, max_tokens: int) -> tuple[int, float]:
    """One bare HTTP call; its status, and the seconds after which to come again (0: not told)."""
    body = {
        "model": "strict",
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": content(marker)}],
    }
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", "/v1/chat/completions", body=json.dumps(body))
        response = connection.getresponse()
        response.read()
        return response.status, float(response.headers.get("retry-after", 0))
    finally:
        connection.close()
