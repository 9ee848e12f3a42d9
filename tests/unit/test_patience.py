"""How long a write is tried while Postgres is away: over a minute, no longer than two, and not where it is refused."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tasks import patience
from tasks.patience import FIRST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_S, away, patiently

A_MINUTE_S = 60.0


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.slept_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    # In that module alone: a server that an earlier test left on a thread sleeps, too.
    monkeypatch.setattr(patience, "asyncio", SimpleNamespace(sleep=clock.sleep))
    return clock


class Postgres:
    """Away for a while, on the same clock; each try takes `takes_s` seconds."""

    def __init__(self, clock: Clock, away_s: float, takes_s: float = 0.0) -> None:
        self._clock, self._back_at, self._takes_s = clock, clock.now_s + away_s, takes_s
        self.tries = 0

    async def write(self) -> str:
        self.tries += 1
        self._clock.now_s += self._takes_s
        if self._clock.now_s < self._back_at:
            raise ConnectionRefusedError
        return "written"


async def test_a_write_outlasts_a_minute_without_postgres(clock: Clock) -> None:
    began = clock.now_s
    assert await patiently(Postgres(clock, A_MINUTE_S).write, clock=clock) == "written"
    assert clock.now_s - began < A_MINUTE_S + LONGEST_PAUSE_S


async def test_a_write_is_given_up_after_two_minutes(clock: Clock) -> None:
    began, postgres = clock.now_s, Postgres(clock, away_s=float("inf"))
    with pytest.raises(ConnectionRefusedError):
        await patiently(postgres.write, clock=clock)
    assert LONGEST_S <= clock.now_s - began < LONGEST_S + LONGEST_PAUSE_S
    assert LONGEST_S >= 2 * A_MINUTE_S
    assert LONGEST_S / LONGEST_PAUSE_S < postgres.tries < 2 * LONGEST_S / LONGEST_PAUSE_S + 10


async def test_a_try_that_began_in_time_is_not_cut_short(clock: Clock) -> None:
    """A Postgres that hangs keeps each try for half a minute; the one in which it comes back counts."""
    assert await patiently(Postgres(clock, LONGEST_S, takes_s=35.0).write, clock=clock) == "written"


async def test_the_pauses_grow_and_are_jittered(clock: Clock) -> None:
    """A fleet that lost its Postgres together does not come back at one instant."""
    for _ in range(20):
        await patiently(Postgres(clock, 10.0).write, clock=clock)
        first, *_, last = clock.slept_s
        assert FIRST_PAUSE_S / 2 <= first <= FIRST_PAUSE_S
        assert LONGEST_PAUSE_S / 2 <= last <= LONGEST_PAUSE_S
        clock.slept_s.clear()


async def test_what_postgres_refuses_is_not_tried_again(clock: Clock) -> None:
    tries = 0

    async def refused() -> None:
        nonlocal tries
        tries += 1
        raise IntegrityError("INSERT", {}, ValueError("no"))

    with pytest.raises(IntegrityError):
        await patiently(refused, clock=clock)
    assert (tries, clock.slept_s) == (1, [])


async def test_a_cancellation_ends_the_trying(clock: Clock) -> None:
    """A worker that ends cuts its last writes off."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await patiently(cancelled, clock=clock)
    assert clock.slept_s == []


class Told(Exception):
    """What psycopg raises, with the server's own word for it."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "is_away"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (PoolTimeout(), True),
        (OperationalError("SELECT 1", {}, ValueError("no connection")), True),
        *((DBAPIError("SELECT 1", {}, Told(state)), True) for state in ("08006", "53300", "57P01", "25006", "55P03")),
        *((DBAPIError("SELECT 1", {}, Told(state)), False) for state in ("23505", "22P02", "42601", "57014")),
        (ValueError(), False),
    ],
)
def test_what_counts_as_away(error: Exception, is_away: bool) -> None:
    assert away(error) is is_away
