"""Migrations up, down, at once, on old servers; and what the schema promises: partitions, ids, indexes, vacuum."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
from alembic.script import ScriptDirectory
from jobworld import JobWorld, answers, job_world

import ops.migrate
from ops.migrate import UnsupportedServer, downgrade, upgrade
from ops.supervisor.ports import pick
from tasks.run import Ending

if TYPE_CHECKING:
    from collections.abc import Iterator

MIGRATIONS = Path(ops.migrate.__file__).parent / "migrations"
STORE = (MIGRATIONS / "sql" / "0001_store.up.sql").read_text(encoding="utf-8")
PARENTS = ("jobs", "job_contents", "calls", "results")
OLD_POSTGRES, OLD_REDIS = "ASSAYLINE_TEST_OLD_POSTGRES_BIN", "ASSAYLINE_TEST_OLD_REDIS_BIN"


def rows(url: str, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, parameters)
        return list(cursor.fetchall()) if cursor.description is not None else []


OURS = """
    SELECT 'relation', n.nspname, c.relname, c.relkind::text
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'assayline' AND c.relname !~ '^alembic'
    UNION ALL
    SELECT 'function', n.nspname, p.oid::regprocedure::text, ''
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname IN ('assayline', 'public')
    UNION ALL
    SELECT 'column', n.nspname, c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod)
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'assayline' AND c.relname !~ '^alembic' AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'constraint', n.nspname, r.conrelid::regclass || '.' || r.conname, pg_get_constraintdef(r.oid)
      FROM pg_constraint r JOIN pg_namespace n ON n.oid = r.connamespace
     WHERE n.nspname = 'assayline' AND r.conrelid::regclass::text !~ 'alembic'
    UNION ALL
    SELECT 'type', n.nspname, t.typname, ''
      FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
     WHERE n.nspname = 'assayline' AND t.typname !~ '^_?alembic'
     ORDER BY 1, 2, 3
"""


def objects(url: str) -> list[tuple[Any, ...]]:
    """All that is ours: relations, columns, constraints, functions and types, without what alembic keeps."""
    return rows(url, OURS)


def revisions() -> list[str]:
    """Oldest first."""
    return [found.revision for found in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]


# Up and down ------------------------------------------------------------------------------------------------------


def test_everything_that_comes_up_goes_down_and_comes_up_again(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    first = objects(empty_database_url)
    assert {("function", "public"), ("relation", "assayline")} <= {row[:2] for row in first}
    downgrade(empty_database_url, "base")
    assert objects(empty_database_url) == []
    upgrade(empty_database_url)
    assert objects(empty_database_url) == first
    upgrade(empty_database_url)
    assert objects(empty_database_url) == first


def test_each_revision_undoes_exactly_itself(empty_database_url: str) -> None:
    before: list[tuple[Any, ...]] = []
    for earlier, revision in zip(["base", *revisions()], revisions(), strict=False):
        upgrade(empty_database_url, revision)
        after = objects(empty_database_url)
        assert after != before
        downgrade(empty_database_url, earlier)
        assert objects(empty_database_url) == before
        upgrade(empty_database_url, revision)
        before = after


def test_a_downgrade_takes_stored_jobs_with_it(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    rows(empty_database_url, "INSERT INTO assayline.catalog_models VALUES ('one/small')")
    rows(empty_database_url, "INSERT INTO assayline.catalog_analyses VALUES ('quick', '{one/small}', 'bulk', 3)")
    assert rows(empty_database_url, "SELECT * FROM assayline_enqueue('quick', 'x')")
    downgrade(empty_database_url, "base")
    upgrade(empty_database_url)
    assert rows(empty_database_url, "SELECT * FROM assayline.jobs") == []


def test_processes_that_boot_at_once_migrate_one_after_the_other(empty_database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=upgrade, args=(empty_database_url,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert rows(empty_database_url, "SELECT version_num FROM assayline.alembic_version") == [(revisions()[-1],)]


def test_a_migration_waits_for_the_one_that_runs(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (ops.migrate.MIGRATION_LOCK,))
        process = multiprocessing.get_context("spawn").Process(target=upgrade, args=(empty_database_url,))
        process.start()
        while not other.execute("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchall():
            time.sleep(0.02)
        assert objects(empty_database_url) == []
        other.execute("SELECT pg_advisory_unlock_all()")
        process.join()
    assert process.exitcode == 0
    assert objects(empty_database_url)


def test_a_server_that_is_too_old_is_refused_untouched(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This server, were a later one the oldest supported."""
    monkeypatch.setattr(ops.migrate, "OLDEST_POSTGRES", 990000)
    with pytest.raises(UnsupportedServer, match=r"PostgreSQL \d+ is too old"):
        upgrade(empty_database_url)
    assert rows(empty_database_url, "SELECT FROM pg_namespace WHERE nspname = 'assayline'") == []


@pytest.mark.parametrize(("version", "refused"), [("130022", True), ("140000", False), ("180006", False)])
def test_fourteen_is_the_oldest(version: str, refused: bool) -> None:
    class Answer:
        def scalar_one(self) -> str:
            return version

    class Server:
        def execute(self, statement: Any) -> Answer:
            return Answer()

    if refused:
        with pytest.raises(UnsupportedServer, match="PostgreSQL 13 is too old: Assayline needs 14 or newer"):
            ops.migrate._require_supported(Server())  # type: ignore[arg-type]
    else:
        ops.migrate._require_supported(Server())  # type: ignore[arg-type]


WAITS_FOR_ALL = """
    SELECT w.pid FROM pg_locks w WHERE NOT w.granted AND w.mode = 'AccessExclusiveLock'
       AND w.relation = 'assayline.jobs'::regclass
"""
KEEPS_WRITES_OUT = """
    SELECT FROM pg_locks WHERE pid = %s AND granted AND mode = 'ShareLock' AND relation = 'assayline.jobs'::regclass
"""


@pytest.mark.parametrize("down", [False, True])
def test_the_new_index_of_due_jobs_is_built_before_the_old_one_goes(empty_database_url: str, *, down: bool) -> None:
    """Readers are kept out at the end alone: here one is left open, and the migration waits for it with all built."""
    upgrade(empty_database_url, "0005_due_by_model" if down else "0004_schedules")
    to = partial(downgrade, revision="0004_schedules") if down else partial(upgrade, revision="0005_due_by_model")
    with psycopg.connect(empty_database_url) as reader, ThreadPoolExecutor(1) as pool:
        reader.execute("SELECT FROM assayline.jobs")
        moving = pool.submit(to, empty_database_url)
        while not (waiting := rows(empty_database_url, WAITS_FOR_ALL)) and not moving.done():
            time.sleep(0.02)
        built = rows(empty_database_url, KEEPS_WRITES_OUT, waiting[0][0])
        reader.rollback()
        moving.result(timeout=30)
    assert built, "it waits to drop the old one, and has not built the new one"
    assert rows(empty_database_url, "SELECT to_regclass('assayline.jobs_due') IS NOT NULL") == [(True,)]


# Partitions -------------------------------------------------------------------------------------------------------


def months(count: int) -> list[str]:
    now = datetime.now(UTC)
    return [f"{now.year + (now.month - 1 + n) // 12}_{(now.month - 1 + n) % 12 + 1:02}" for n in range(count)]


PARTITIONS = """
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = (%s)::regclass
"""


def partitions(url: str, parent: str) -> set[str]:
    return {name.removeprefix(f"{parent}_") for (name,) in rows(url, PARTITIONS, f"assayline.{parent}")}


@pytest.mark.parametrize("parent", PARENTS)
def test_there_are_partitions_for_this_month_and_three_more(database_url: str, parent: str) -> None:
    assert partitions(database_url, parent) == {*months(4), "default"}


def test_further_months_are_made_once(database_url: str) -> None:
    assert rows(database_url, "SELECT assayline.ensure_partitions()") == [(0,)]
    assert rows(database_url, "SELECT assayline.ensure_partitions(5)") == [(2 * len(PARENTS),)]
    assert rows(database_url, "SELECT assayline.ensure_partitions(5)") == [(0,)]
    assert partitions(database_url, "calls") == {*months(6), "default"}


def insert_content(url: str, born: datetime) -> uuid.UUID:
    [(job,)] = rows(url, "SELECT assayline.uuid7_floor(%s)", born)
    rows(url, "INSERT INTO assayline.job_contents VALUES (%s, 'x', '{}')", job)
    return uuid.UUID(str(job))


def home(url: str, job: uuid.UUID) -> str:
    [(name,)] = rows(
        url,
        "SELECT c.relname FROM assayline.job_contents j JOIN pg_class c ON c.oid = j.tableoid WHERE job_id = %s",
        job,
    )
    return str(name).removeprefix("job_contents_")


def test_a_job_lies_in_the_month_of_its_birth_and_a_stray_in_the_default(database_url: str) -> None:
    this_month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    assert home(database_url, insert_content(database_url, this_month)) == months(1)[0]
    assert home(database_url, insert_content(database_url, datetime.now(UTC))) == months(1)[0]
    assert home(database_url, insert_content(database_url, this_month - timedelta(milliseconds=1))) == "default"
    assert home(database_url, insert_content(database_url, datetime(2099, 1, 1, tzinfo=UTC))) == "default"


def test_strays_do_not_keep_their_months_partition_from_being_made(database_url: str) -> None:
    """Nobody kept house for months: rows fell into the default partition. They move when their own is made."""
    fifth = datetime.now(UTC).replace(day=1) + timedelta(days=5 * 31)
    stray = insert_content(database_url, fifth)
    assert home(database_url, stray) == "default"
    rows(database_url, "SELECT assayline.ensure_partitions(8)")
    assert home(database_url, stray) == f"{fifth:%Y_%m}"


def test_housekeeping_gives_way_to_a_transaction_left_open(database_url: str) -> None:
    """A new partition needs a lock that queues behind any open reader, and everybody else behind it: not for long."""
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM assayline.jobs")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            rows(database_url, "SELECT assayline.ensure_partitions(5)")
        reader.rollback()
    assert rows(database_url, "SELECT assayline.ensure_partitions(5)") == [(2 * len(PARENTS),)]


def test_housekeeping_by_several_at_once_is_harmless(database_url: str) -> None:
    async def all_at_once() -> list[int]:
        async def one() -> int:
            async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
                [(made,)] = await (await connection.execute("SELECT assayline.ensure_partitions(4)")).fetchall()
                return int(made)

        return list(await asyncio.gather(*[one() for _ in range(4)]))

    assert sorted(asyncio.run(all_at_once())) == [0, 0, 0, len(PARENTS)]


# Ids, indexes, vacuum ---------------------------------------------------------------------------------------------


def older_servers_uuid7() -> str:
    """The function as servers before 18 get it, taken out of the migration."""
    found = re.search(r"ELSE.*?EXECUTE '(CREATE FUNCTION assayline\.uuid7.*?)';\s*END IF", STORE, re.DOTALL)
    assert found is not None
    return found[1].replace("''", "'").replace("assayline.uuid7()", "public.older_uuid7()")


@pytest.mark.parametrize("function", ["assayline.uuid7", "older_uuid7"])
def test_ids_are_of_version_7_and_in_order(database_url: str, function: str) -> None:
    rows(database_url, older_servers_uuid7())
    with psycopg.connect(database_url, autocommit=True) as connection:
        before = time.time()
        ids = [connection.execute(f"SELECT {function}()").fetchone()[0] for _ in range(200)]  # type: ignore[index]
        after = time.time()
        many = connection.execute(f"SELECT {function}() FROM generate_series(1, 5000)").fetchall()
    assert ids == sorted(ids)
    assert {(found.version, found.variant) for found in ids} == {(7, uuid.RFC_4122)}
    assert all(before - 0.002 <= (found.int >> 80) / 1000 <= after + 0.002 for found in ids)
    assert len(set(many)) == 5000


def test_jobs_has_four_indexes_at_most(database_url: str) -> None:
    """Every move writes each of them anew. A partition has the same, each attached to its parent's."""
    found = rows(
        database_url,
        "SELECT tablename, count(*) FROM pg_indexes WHERE schemaname = 'assayline' AND tablename ~ '^jobs' GROUP BY 1",
    )
    assert dict(found) == dict.fromkeys(["jobs", "jobs_default", *(f"jobs_{month}" for month in months(4))], 4)
    attached = rows(
        database_url,
        "SELECT count(*) FROM pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid"
        " JOIN pg_class t ON t.oid = x.indrelid WHERE t.relname ~ '^jobs_'",
    )
    assert attached == [(4 * 5,)]


def test_each_month_has_its_own_vacuum_settings(database_url: str) -> None:
    found = rows(
        database_url,
        "SELECT c.relname, c.reloptions FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid"
        " WHERE i.inhparent = ANY (%s::regclass[])",
        [f"assayline.{parent}" for parent in PARENTS],
    )
    monthly = {name: options for name, options in found if not name.endswith("_default")}
    assert len(monthly) == 4 * len(PARENTS)
    wanted = {"autovacuum_vacuum_scale_factor=0.02", "autovacuum_vacuum_threshold=1000"}
    assert all(wanted <= set(options) for options in monthly.values())


def test_a_server_in_another_time_zone_cuts_its_months_in_utc(database_url: str) -> None:
    bounds = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = %s"
    name = f"jobs_{months(6)[5]}"
    with psycopg.connect(database_url, autocommit=True, options="-c timezone=Pacific/Kiritimati") as connection:
        connection.execute("SELECT assayline.ensure_partitions(5)")
        [(elsewhere,)] = connection.execute(bounds, (name,)).fetchall()
    year, month = map(int, months(6)[5].split("_"))
    first = int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)
    assert str(uuid.UUID(int=first << 80)) in elsewhere


# The oldest servers -----------------------------------------------------------------------------------------------


@pytest.fixture
def old_postgres_url() -> Iterator[str]:
    """A server of the binaries in `ASSAYLINE_TEST_OLD_POSTGRES_BIN`; as root it runs as `nobody`."""
    binaries = os.environ.get(OLD_POSTGRES)
    if not binaries:
        pytest.skip(f"{OLD_POSTGRES} names no directory of PostgreSQL 14 to 17 binaries (initdb, postgres)")
    directory = Path(tempfile.mkdtemp(prefix="assayline-old-postgres-"))
    who: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    if who:
        shutil.chown(directory, **who)
    data, port = directory / "data", pick()
    initdb = [
        f"{binaries}/initdb",
        "-D",
        str(data),
        "-U",
        "assayline",
        "--auth=trust",
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C",
    ]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=directory, **who)
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    argv = [
        f"{binaries}/postgres",
        "-D",
        str(data),
        *[part for k, v in settings.items() for part in ("-c", f"{k}={v}")],
    ]
    server = subprocess.Popen(argv, stderr=subprocess.DEVNULL, cwd=directory, **who)
    url = f"postgresql://assayline@127.0.0.1:{port}/postgres"
    try:
        _wait_for_postgres(url, server)
        yield url
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(directory)


def _wait_for_postgres(url: str, server: subprocess.Popen[Any]) -> None:
    while server.poll() is None:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the old server ended with {server.returncode}")


async def test_an_old_postgres_carries_a_job_from_end_to_end(old_postgres_url: str) -> None:
    """Migrated up, down and up; a job run, one expired, one rescued, one handed back, one cancelled."""
    upgrade(old_postgres_url)
    downgrade(old_postgres_url, "base")
    upgrade(old_postgres_url)
    [(version,)] = rows(old_postgres_url, "SELECT current_setting('server_version_num')::int")
    assert ops.migrate.OLDEST_POSTGRES <= version < 180000
    async with job_world(old_postgres_url) as world:
        await _every_way(world)


async def _every_way(world: JobWorld) -> None:
    job, incarnation, message = await world.released()
    assert job.version == 7
    assert await world.runner(incarnation, answers).run(job, message.release, "one") is Ending.SUCCEEDED
    _, claim = await world.claimed("slow")
    cancelled = world.enqueue()
    assert world.cancel(cancelled) == "cancelled"
    expired = world.enqueue(expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    world.sql("UPDATE assayline.jobs SET expires_at = now() - interval '1 s' WHERE expires_at IS NOT NULL")
    assert await world.dispatcher().expire() == 1
    world.sql("UPDATE assayline.jobs SET lease_until = now() - interval '1 s' WHERE state = 'running'")
    assert await world.dispatcher().rescue() == 1
    waiting = world.enqueue()
    await world.dispatcher().release("one")
    world.sql("UPDATE assayline.jobs SET queued_at = now() - interval '1 min' WHERE state = 'queued'")
    assert await world.dispatcher().republish() == 2
    newest = {m.id: m for m in world.broker.take()}
    for found in (claim.id, waiting):
        assert await world.claim(incarnation, newest[found]) is not None
    assert await world.store.hand_back(incarnation, []) == 2
    ends = {found: world.job(found)["state"] for found in (job, claim.id, cancelled, expired, waiting)}
    assert list(ends.values()) == ["succeeded", "scheduled", "cancelled", "expired", "scheduled"]


@pytest.fixture
def old_redis_url() -> Iterator[str]:
    """A server of the binary that `ASSAYLINE_TEST_OLD_REDIS_BIN` names."""
    binary = os.environ.get(OLD_REDIS)
    if not binary:
        pytest.skip(f"{OLD_REDIS} names no redis-server of 6.2 or 7")
    port = pick()
    with tempfile.TemporaryDirectory() as directory:
        argv = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        url = f"redis://127.0.0.1:{port}/0"
        try:
            with redis.Redis.from_url(url) as client:
                _wait_for_redis(client, server)
            yield url
        finally:
            server.terminate()
            server.wait()


def _wait_for_redis(client: redis.Redis, server: subprocess.Popen[Any]) -> None:
    while server.poll() is None:
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"the old server ended with {server.returncode}")


async def test_an_old_redis_keeps_results_and_tells_of_ends(old_redis_url: str) -> None:
    from gateway.redis_line import RedisLine
    from tasks.announce import Announcer, events_channel, result_key

    job = uuid.uuid4()
    line = RedisLine.from_url(old_redis_url)
    announcer = Announcer(line)
    with redis.Redis.from_url(old_redis_url, decode_responses=True) as other:
        version = other.info("server")["redis_version"]
        assert (6, 2) <= tuple(map(int, version.split(".")[:2])) < (8, 0)
        with other.pubsub() as events:
            events.subscribe(events_channel(job))
            assert events.get_message(timeout=10)["type"] == "subscribe"
            await announcer.ended(job, "succeeded", {"a": 1})
            assert '"succeeded"' in events.get_message(timeout=10)["data"]
        assert '"a": 1' in other.get(result_key(job))
        assert 0 < other.ttl(result_key(job)) <= 3600
    await line.aclose()
