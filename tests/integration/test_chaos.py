"""The chaos bench in a small size: it finds nothing, and without a mechanism it finds what that mechanism is for.

Nobody has time to be taken for dead: what a silence of twenty seconds does is had by putting back its beginning.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import psycopg
import pytest
from redis import Redis
from redis.exceptions import RedisError

from gateway.errors import ConfigurationError
from ops.bench import BENCHES, chaos
from ops.bench.faults import outcome
from ops.bench.faults.judge import VIOLATIONS
from ops.bench.faults.ours import Size, marker, numbered, zone_of_night
from ops.bench.faults.plan import DRAWN, Kind
from ops.bench.faults.producer import Producer
from ops.bench.faults.stores import OwnStores
from ops.bench.processes import until
from ops.bench.report import Options, Report, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Measure = Callable[..., Report]

PASSED_S = 21.0
"""A message is sent again after fifteen seconds, and a worker counts as dead after twenty."""
LOOKS = {"rescue_every_s": 0.5, "republish_every_s": 0.5}
STILL_S = 2.5
"""Five looks of a dispatcher's: what it has not done by then it does not do."""
SERVER_IS_OLD_ENOUGH = "SELECT pg_sleep(greatest(0, 21 - extract(epoch FROM now() - pg_postmaster_start_time())))"

ON_SHARED_SERVERS = {
    kind: DRAWN[kind]
    for kind in (Kind.KILL_WORKER, Kind.KILL_DISPATCHER, Kind.RESET_REDIS, Kind.FLUSH, Kind.COPIES, Kind.CLOCK)
}
"""But for a worker that is stopped: it takes too long to be taken for dead. `tests/fault/test_messages.py` has it."""
SMALL = chaos.Course(
    jobs=54,
    per_s=12.0,
    size=Size(workers=1, slots=8, beats=0, figures=LOOKS),
    drawn=ON_SHARED_SERVERS,
    gap_s=(0.6, 0.7),
    takes_s=(0.1, 0.4),
    calm_s=0.3,
    still_s=STILL_S,
    drain_s=60.0,
    passed_s=PASSED_S,
)


@pytest.fixture
def measured(more_stores: Callable[[], tuple[str, str]], postgres_admin_url: str) -> Measure:
    """Runs the bench on stores of its own, once their server is old enough for anybody to be taken for dead."""

    def run(course: chaos.Course, seed: int, without: str | None = None) -> Report:
        with psycopg.connect(postgres_admin_url) as connection:
            connection.execute(SERVER_IS_OLD_ENOUGH)
        options = Options(seed=seed, peers=False, servers=Servers(*more_stores()), without=without)
        return chaos.measure(options, course)

    return run


def test_nothing_is_lost_doubled_or_unwritten(measured: Measure) -> None:
    report = measured(SMALL, 1)
    found = {check.what: check.value for check in report.checks}
    assert {name: found[name] for name in VIOLATIONS} == dict.fromkeys(VIOLATIONS, 0), report.notes
    [figures] = report.rounds
    assert figures["jobs"] == figures["succeeded"] == SMALL.jobs
    assert figures["rescued"] > 0
    assert figures["ended_unasked"] == 0
    [deeds] = report.tables.values()
    assert {deed["fault"] for deed in deeds} == set(ON_SHARED_SERVERS)
    assert all(check.value is not None for check in report.checks)


OFF = replace(SMALL, jobs=18, per_s=9.0, gap_s=(0.8, 0.9), takes_s=(0.4, 0.6), calm_s=0.0)
RUNNING, QUEUED = "is running still (claim)", "is queued still (release)"


def off(slots: int, *kinds: Kind) -> chaos.Course:
    return replace(OFF, size=replace(OFF.size, slots=slots, dispatchers=1), drawn={kind: DRAWN[kind] for kind in kinds})


def test_it_sees_what_rescue_and_republish_are_worth(measured: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three systems side by side on the same course. Which mechanism is missing is told by where the jobs are left.

    More jobs than slots: some wait in the queue when it is emptied. The one that lacks nothing shows that the others
    were given time enough.
    """
    monkeypatch.setattr(outcome, "MOST_TOLD", OFF.jobs)
    course = off(1, Kind.KILL_WORKER, Kind.FLUSH)
    without = (None, "rescue", "republish")
    with ThreadPoolExecutor(len(without)) as side_by_side:
        control, rescue, republish = side_by_side.map(lambda name: measured(course, 1, name), without)
    assert [check.value for check in control.checks if check.what in VIOLATIONS] == [0] * len(VIOLATIONS), control.notes
    assert control.rounds[0]["rescued"] > 0
    assert control.rounds[0]["republished"] > 0
    for report, left, not_left in ((rescue, RUNNING, QUEUED), (republish, QUEUED, RUNNING)):
        assert not report.checks[0].ok
        assert [check.what for check in report.checks[1:] if check.what in VIOLATIONS and not check.ok] == ["jobs lost"]
        assert any(left in note for note in report.notes), report.notes
        assert not any(not_left in note for note in report.notes), report.notes


def test_it_sees_what_the_fence_is_worth(measured: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "MOST_TOLD", OFF.jobs)
    report = measured(off(8, Kind.COPIES), 1, "fence")
    assert not report.checks[0].ok
    broken = {check.what for check in report.checks if not check.ok}
    assert {"results doubled", "jobs in an illegal state"} <= broken, report.notes
    assert any("running to running (claim) is no move" in note for note in report.notes), report.notes


def test_servers_of_others_are_not_killed() -> None:
    with pytest.raises(ConfigurationError, match="servers that somebody else keeps"):
        BENCHES["chaos"](Options(servers=Servers("postgresql://nobody", "redis://nobody")))


def test_a_producer_insists_and_says_how_often() -> None:
    """Twice it is told nothing, though the jobs may have been taken: the same numbers come again."""

    class Flaky:
        def __init__(self) -> None:
            self.heard: list[list[int]] = []

        def __call__(self, numbers: Sequence[int]) -> None:
            self.heard.append(list(numbers))
            if len(self.heard) < 3:
                raise OSError("away")

        def close(self) -> None:
            self.heard.append([])

    flaky = Flaky()
    producer = Producer("test", flaky, 20, 1_000.0)
    until(lambda: producer.done, 10.0, "the last number")
    producer.end()
    producer.check()
    assert (producer.taken, producer.tries_failed) == (20, 2)
    assert flaky.heard[0] == flaky.heard[1] == flaky.heard[2]
    assert [number for numbers in flaky.heard[2:] for number in numbers] == list(range(20))
    assert flaky.heard[-1] == []


def test_jobs_are_numbered_by_lane_and_chain() -> None:
    jobs = [numbered(number) for number in range(6)]
    assert [job.lane for job in jobs] == ["interactive", "bulk", "bulk"] * 2
    assert len({tuple(job.chain or ()) for job in jobs}) == 2
    assert [job.idempotency_key for job in jobs] == [marker(number) for number in range(6)]


@pytest.mark.parametrize("hour", range(24))
def test_it_is_always_night_somewhere(hour: int) -> None:
    now = datetime(2026, 11, 21, hour, 30, tzinfo=UTC)
    assert now.astimezone(ZoneInfo(zone_of_night(now))).hour == 2


def test_servers_that_are_killed_come_back_with_what_they_had(tmp_path: Path) -> None:
    own = OwnStores(tmp_path, durable=False)
    servers = own.servers
    try:
        with (
            psycopg.connect(servers.database_url, autocommit=True) as postgres,
            closing(Redis.from_url(servers.redis_url)) as valkey,
        ):
            postgres.execute("SET synchronous_commit TO on")
            postgres.execute("CREATE TABLE kept AS SELECT 7 AS n")
            valkey.set("kept", "7")
            own.kill_postgres()
            with pytest.raises(psycopg.OperationalError):
                postgres.execute("SELECT 1")
            own.kill_valkey()
            with pytest.raises(RedisError):
                valkey.ping()
        own.start_postgres()
        own.start_valkey()
        assert own.servers == servers
        with psycopg.connect(servers.database_url) as postgres, closing(valkey):
            assert postgres.execute("SELECT n FROM kept").fetchall() == [(7,)]
            own.flush()
            assert not valkey.exists("kept")
    finally:
        own.stop()
