"""How a client waits: what an event says, and how long to pause between two looks at Postgres.

An event on the Redis channel of a job only shortens a pause; whether the job has ended is read from Postgres.
"""

from __future__ import annotations

import json
import logging
from typing import Any
from uuid import UUID

from .errors import DriverMissing, WaitTimeout
from .records import ENDED

log = logging.getLogger(__name__)

POLL_S = (0.05, 2.0)
"""First and longest pause, in seconds, where nothing but Postgres can tell."""

HEARING_S = (1.0, 10.0)
"""The same while subscribed: a look now and then, lest an event was lost."""

GROWTH = 1.5
"""Each pause is this much longer than the last."""

REDIS_TIMEOUT_S = 2.0
"""Longest that the client's own Redis connection may hang before Postgres is asked instead."""


def channel(job_id: UUID) -> str:
    """The Redis channel on which a job's moves are announced, as JSON {"id", "state"}."""
    return f"assayline:events:{job_id}"


def says_ended(message: dict[str, Any] | None) -> bool:
    """Whether a pub/sub message announces that its job has ended. What cannot be read says nothing."""
    if message is None or message.get("type") != "message":
        return False
    try:
        said = json.loads(message["data"])
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("state") in ENDED


class Watch:
    """The patience of one `wait`: pauses that grow, until `timeout_s` seconds after `now` are over."""

    def __init__(self, job_id: UUID, timeout_s: float, now: float) -> None:
        self._job_id = job_id
        self._timeout_s = timeout_s
        self._until = now + timeout_s
        self._hearing = False
        self._next_s = 0.0

    def pause_s(self, now: float, state: str, *, hearing: bool) -> float:
        """How long to pause now, in seconds, the job being in `state`.

        Raises:
            WaitTimeout: not at all; the time is up.
        """
        left = self._until - now
        if left <= 0:
            raise WaitTimeout(self._job_id, self._timeout_s, state)
        first, longest = HEARING_S if hearing else POLL_S
        if hearing != self._hearing:
            self._next_s, self._hearing = 0.0, hearing  # Redis has come or gone: start again from the shortest
        self._next_s = min(max(first, self._next_s * GROWTH), longest)
        return min(self._next_s, left)


def redis_settings(retry: Any) -> dict[str, Any]:
    """Keywords for the client's own Redis connection: give up at once, Postgres is there too."""
    return {"socket_connect_timeout": REDIS_TIMEOUT_S, "socket_timeout": REDIS_TIMEOUT_S, "retry": retry}


def no_sentinels(url: str) -> str:
    """Return a Redis URL as it is.

    Raises:
        ValueError: it names Sentinels, which redis-py has no URL for.
    """
    if "sentinel" in url.partition("://")[0]:
        raise ValueError(
            'redis_url names Sentinels: give `redis=Sentinel(…).master_for("NAME")` in its place; without, `wait` polls'
        )
    return url


def redis_module() -> Any:
    """redis-py.

    Raises:
        DriverMissing: it is not installed.
    """
    try:
        import redis
    except ImportError as error:
        raise DriverMissing("redis") from error
    return redis


def note_deaf(job_id: UUID, error: Exception) -> None:
    """Tell the log, once for a wait, that it goes on without Redis."""
    log.warning("job %s: no events from Redis (%s: %s); asking Postgres instead", job_id, type(error).__name__, error)
