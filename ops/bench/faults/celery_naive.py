"""Peer: the same calls as a plain Celery task, written as people write it after reading Celery's documentation.

Late acknowledgement, retries of whatever goes wrong with exponential backoff, and the answer inserted into a table when
it is there. The connection to Postgres is kept for each thread, as Django does.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
from http import HTTPStatus
from typing import Any

import psycopg

from ops.bench.celery_peer import BROKER, DEFAULT_VISIBILITY_S, VISIBILITY, make_app
from ops.supervisor.ports import LOOPBACK

CALL = "naive.call"
DATABASE = "PEER_DATABASE_URL"
TIMEOUT_S = 5.0
LONGEST_BACKOFF_S = 30
MOST_RETRIES = 20
KEEP = "INSERT INTO peer.results (marker, data) VALUES (%s, %s)"

app: Any = make_app(os.environ.get(BROKER, ""), int(os.environ.get(VISIBILITY, DEFAULT_VISIBILITY_S)))
_kept = threading.local()


class Unusable(Exception):
    """The provider refused, or its answer is not what was asked for."""


@app.task(  # type: ignore[untyped-decorator]
    name=CALL,
    autoretry_for=(Exception,),
    retry_backoff=True,
    retry_backoff_max=LONGEST_BACKOFF_S,
    max_retries=MOST_RETRIES,
)
def call(port: int, marker: str) -> None:
    """Call the provider and keep its answer."""
    keep(marker, ask(port, marker))


def ask(port: int, marker: str) -> str:
    """One call; the answer's JSON.

    Raises:
        Unusable: it was refused, or is not what was asked for.
        OSError, http.client.HTTPException: nobody answered, or not to the end.
    """
    body = {"model": "bench", "messages": [{"role": "user", "content": f"marker-{marker} "}]}
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", "/v1/chat/completions", body=json.dumps(body))
        response = connection.getresponse()
        read = response.read()
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise Unusable(f"HTTP {response.status}")
    answer: str = json.loads(read)["choices"][0]["message"]["content"]
    if "label" not in json.loads(answer):
        raise Unusable("no label")
    return answer


def keep(marker: str, answer: str) -> None:
    """Insert an answer; a connection that was lost is opened anew by the next task."""
    link = getattr(_kept, "link", None)
    if link is None or link.closed:
        link = _kept.link = psycopg.connect(os.environ[DATABASE], autocommit=True, connect_timeout=5)
    link.execute(KEEP, [marker, answer])
