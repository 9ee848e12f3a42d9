"""Trying a write again while Postgres is away.

For writes whose content exists nowhere else (an answer that was paid for), for a claim, whose message is in hand, and
for a process that starts. The fence makes the repetition harmless: a write that went through before its connection
broke changes nothing the second time.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

T = TypeVar("T")

LONGEST_S = 120.0
"""How long a write is tried: two minutes carry it over a restart or a failover of Postgres."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0

log = logging.getLogger(__name__)


LOCKED = "55P03"
"""SQLSTATE of a lock that was not to be had in time: somebody's transaction is open."""
AWAY_STATES = ("08", "40", "53", "57P0", "25006", "25P03", LOCKED)
"""Beginnings of the SQLSTATEs that pass by themselves: connection, a deadlock, resources, shutdown, a read-only server
(failover), an idle transaction ended, a lock (PostgreSQL, Appendix A)."""


def away(error: Exception) -> bool:
    """Tell whether an error means that Postgres cannot take the write now, rather than that it refuses it."""
    if isinstance(error, (PoolTimeout, OSError)):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(AWAY_STATES)
    return error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))


def out_of_reach(error: Exception) -> bool:
    """Tell whether Postgres is away for everybody, rather than a row held by somebody's open transaction."""
    return away(error) and not str(getattr(getattr(error, "orig", None), "sqlstate", "")).startswith(LOCKED)


async def patiently(
    write: Callable[[], Awaitable[T]],
    *,
    passing: Callable[[Exception], bool] = away,
    longest_s: float = LONGEST_S,
    clock: Callable[[], float] | None = None,
) -> T:
    """Run `write`, again and again while Postgres is away, with growing, jittered pauses.

    `passing`: after which errors it is tried again.

    Raises:
        Exception: what the last try raised, once `longest_s` seconds are over; any other error at once.
    """
    now = clock or asyncio.get_running_loop().time
    give_up_at = now() + longest_s
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await write()
        except Exception as error:
            if not passing(error) or now() >= give_up_at:
                raise
            log.warning("Postgres is away (%s); trying the write again", type(error).__name__)
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
