"""The nightly batch on a real Postgres: run once, late if need be, within its hours, and nothing lost or done twice."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy
from jobworld import JobWorld, job_world

from tasks.clock.clock import Clock
from tasks.clock.runs import NightTaken, Runs
from tasks.clock.schedule import Schedule
from tasks.clock.window import Window
from tasks.producer import AsyncClient
from tasks.sql import statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from tasks.producer import Job, Receipt

NIGHT = Window(time(22), time(6), ZoneInfo("Europe/Berlin"))
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 21, 23, tzinfo=UTC)
MORNING = datetime(2026, 11, 22, 6, tzinfo=UTC)
NEXT_MIDNIGHT = datetime(2026, 11, 22, 23, tzinfo=UTC)
TONIGHT, NEXT_OPENING = date(2026, 11, 21), datetime(2026, 11, 22, 21, tzinfo=UTC)


@dataclass
class Night:
    """One installation's clock over a folder of inputs."""

    world: JobWorld
    url: str
    folder: Path
    clients: list[AsyncClient] = field(default_factory=list)

    def clock(self, now: datetime, *, lease_s: float = 90.0, producer: Any = None) -> Clock:
        """The clock of one worker process, at an instant that stands still."""
        schedule = Schedule("nightly", "slow", self.folder, NIGHT, "acme")
        return Clock([schedule], Runs(self.world.engine, lease_s=lease_s), producer or self.client(), lambda: now)

    def client(self) -> AsyncClient:
        self.clients.append(AsyncClient(self.url))
        return self.clients[-1]

    def write(self, name: str, content: str | bytes = "text") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def runs(self) -> list[dict[str, Any]]:
        return self.world.sql("SELECT * FROM assayline.schedule_runs ORDER BY local_date")

    def jobs(self) -> list[dict[str, Any]]:
        return self.world.sql(
            "SELECT * FROM assayline.jobs JOIN assayline.job_contents ON id = job_id ORDER BY subject"
        )


@pytest.fixture
async def night(database_url: str, tmp_path: Path) -> AsyncIterator[Night]:
    folder = tmp_path / "inputs"
    folder.mkdir()
    async with job_world(database_url) as world:
        night = Night(world, database_url, folder)
        yield night
        for client in night.clients:
            await client.aclose()


async def test_each_text_of_the_folder_is_a_bulk_job_about_it(night: Night) -> None:
    night.write("a.py", "print(1)")
    night.write("sub/b.md", "# b")
    await night.clock(MIDNIGHT).tick()
    told = [(j["subject"], j["content"], j["analysis"], j["lane"], j["source"], j["tenant"]) for j in night.jobs()]
    assert told == [
        ("a.py", "print(1)", "slow", "bulk", "schedule:nightly", "acme"),
        ("sub/b.md", "# b", "slow", "bulk", "schedule:nightly", "acme"),
    ]
    [run] = night.runs()
    assert (run["state"], run["local_date"], run["jobs"], run["refused"]) == ("done", TONIGHT, 2, 0)


async def test_a_line_of_json_is_a_job_with_its_own_fields(night: Night) -> None:
    lines = [{"content": "one", "analysis": "quick", "priority": 2, "tags": ["x"]}, {"content": "two", "subject": "S"}]
    night.write("jobs.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    await night.clock(MIDNIGHT).tick()
    first, second = sorted(night.jobs(), key=lambda job: job["content"])
    assert (first["analysis"], first["priority"], first["tags"], first["lane"]) == ("quick", 2, ["x"], "bulk")
    assert (second["analysis"], second["subject"]) == ("slow", "S")


async def test_a_single_jsonl_file_does_as_well_as_a_folder(night: Night) -> None:
    night.write("jobs.jsonl", '{"content": "one"}\n')
    night.folder /= "jobs.jsonl"
    await night.clock(MIDNIGHT).tick()
    assert len(night.jobs()) == 1


async def test_by_day_nothing_runs(night: Night) -> None:
    night.write("a.py")
    await night.clock(NOON).tick()
    assert night.jobs() == []
    assert night.runs() == []


async def test_many_ticks_of_two_beats_in_two_workers_are_one_run(night: Night) -> None:
    for number in range(30):
        night.write(f"{number:02}.txt", f"text {number}")
    await asyncio.gather(*(night.clock(MIDNIGHT + timedelta(minutes=n // 2)).tick() for n in range(8)))
    assert len(night.jobs()) == 30
    [run] = night.runs()
    assert (run["state"], run["jobs"], run["repeats"], run["attempts"]) == ("done", 30, 0, 1)


async def test_a_tick_that_comes_late_is_made_good(night: Night) -> None:
    """Nobody was there at 22:00; the tick at 05:59 runs the night."""
    night.write("a.py")
    await night.clock(datetime(2026, 11, 22, 4, 59, tzinfo=UTC)).tick()
    assert [run["local_date"] for run in night.runs()] == [TONIGHT]
    assert len(night.jobs()) == 1


async def test_what_was_done_one_night_is_not_done_again_unless_it_changed(night: Night) -> None:
    night.write("same.py", "same")
    night.write("changed.py", "before")
    await night.clock(MIDNIGHT).tick()
    night.write("changed.py", "after")
    night.write("new.py", "new")
    await night.clock(NEXT_MIDNIGHT).tick()
    assert sorted(job["content"] for job in night.jobs()) == ["after", "before", "new", "same"]
    assert [(run["jobs"], run["repeats"]) for run in night.runs()] == [(2, 0), (2, 1)]


class DiesAfter:
    """A producer whose process dies once it has enqueued so many chunks."""

    def __init__(self, client: AsyncClient, chunks: int) -> None:
        self.client, self.left = client, chunks

    async def enqueue_many(self, jobs: Iterable[Job]) -> AsyncIterator[Receipt]:
        if self.left == 0:
            raise asyncio.CancelledError
        self.left -= 1
        async for receipt in self.client.enqueue_many(jobs):
            yield receipt


async def test_a_worker_that_dies_halfway_is_followed_by_another(night: Night) -> None:
    for number in range(1_200):
        night.write(f"{number:04}.txt", f"text {number}")
    with pytest.raises(asyncio.CancelledError):
        await night.clock(MIDNIGHT, lease_s=0.0, producer=DiesAfter(night.client(), 2)).tick()
    assert [(run["state"], run["jobs"]) for run in night.runs()] == [("running", 1_000)]
    await night.clock(MIDNIGHT).tick()
    [run] = night.runs()
    assert (run["state"], run["jobs"], run["repeats"], run["attempts"]) == ("done", 1_200, 0, 2)
    assert len(night.jobs()) == 1_200


async def test_before_a_dispatcher_has_told_of_the_analysis_the_night_waits(night: Night, caplog: Any) -> None:
    night.write("a.txt")
    night.world.sql("UPDATE assayline.catalog_analyses SET name = 'other' WHERE name = 'slow' RETURNING name")
    await night.clock(MIDNIGHT).tick()
    assert night.runs() == []
    assert "schedule nightly waits: no dispatcher has told of analysis slow" in caplog.text
    night.world.sql("UPDATE assayline.catalog_analyses SET name = 'slow' WHERE name = 'other' RETURNING name")
    await night.clock(MIDNIGHT).tick()
    [run] = night.runs()
    assert (run["state"], run["jobs"], run["refused"]) == ("done", 1, 0)


async def test_while_its_worker_lives_nobody_else_takes_the_night(night: Night) -> None:
    for number in range(600):
        night.write(f"{number:03}.txt", f"text {number}")
    with pytest.raises(asyncio.CancelledError):
        await night.clock(MIDNIGHT, lease_s=90.0, producer=DiesAfter(night.client(), 1)).tick()
    await night.clock(MIDNIGHT).tick()
    [run] = night.runs()
    assert (run["state"], run["attempts"]) == ("running", 1)


async def test_a_worker_that_lost_its_night_writes_no_more(night: Night) -> None:
    clock = night.clock(MIDNIGHT, lease_s=0.0)
    [schedule] = clock.schedules
    slow = await clock.runs.take(schedule, NIGHT.night(TONIGHT))
    assert slow is not None
    assert await clock.runs.take(schedule, NIGHT.night(TONIGHT)) is not None
    from tasks.clock.runs import Progress

    with pytest.raises(NightTaken):
        await clock.runs.report(slow, Progress(), "done")


async def test_what_is_left_in_the_morning_waits_for_the_next_opening(night: Night) -> None:
    night.write("a.py")
    await night.clock(MIDNIGHT).tick()
    [job] = night.jobs()
    other = night.world.enqueue("slow", source="somebody")
    released = await night.clock(MORNING).tick()
    assert released is None
    [job] = [j for j in night.jobs() if j["source"] == "schedule:nightly"]
    assert (job["state"], job["reason"], job["not_before"]) == ("scheduled", "defer", NEXT_OPENING)
    [untouched] = [j for j in night.jobs() if j["id"] == other]
    assert untouched["reason"] == "enqueued"


async def test_once_put_off_a_look_reads_little_whatever_waits(night: Night) -> None:
    """It is asked each minute: 4,000 jobs of its own that wait for the opening, as many due of other tenants."""
    clock, sql, opens_at = night.clock(MORNING), night.world.sql, datetime.now(UTC) + timedelta(hours=15)
    [schedule] = clock.schedules
    whose = {"source": schedule.source, "tenant": schedule.tenant}
    for options in (whose, {"tenant": "somebody else"}):
        sql("SELECT assayline_enqueue('slow', n::text, %s) FROM generate_series(1, 4000) n", json.dumps(options))
    assert await clock.runs.defer(schedule, opens_at) == 4000
    assert sql("SELECT count(*) AS n FROM assayline.later") == [{"n": 4000}]
    for table in ("jobs", "due", "later"):
        sql(f"VACUUM ANALYZE assayline.{table}")
    explain = sqlalchemy.text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement("defer").text)
    async with night.world.engine.connect() as connection:
        for _ in range(2):
            [whole] = (await connection.execute(explain, {**whose, "opens_at": opens_at, "most": 500})).scalar_one()
    assert whole["Plan"]["Shared Hit Blocks"] + whole["Plan"]["Shared Read Blocks"] < 50


async def test_defer_leaves_alone_what_is_released_or_runs(night: Night) -> None:
    night.write("a.py")
    await night.clock(MIDNIGHT).tick()
    night.world.sql("UPDATE assayline.jobs SET state = 'queued'")
    await night.clock(MORNING).tick()
    assert night.jobs()[0]["state"] == "queued"


async def test_a_night_that_nobody_ran_is_put_on_record(night: Night) -> None:
    night.write("a.py")
    await night.clock(MIDNIGHT).tick()
    two_days_later = MORNING + timedelta(days=2)
    await night.clock(two_days_later).tick()
    await night.clock(two_days_later).tick()
    told = [(run["local_date"] - TONIGHT, run["state"]) for run in night.runs()]
    assert told == [(timedelta(0), "done"), (timedelta(1), "missed"), (timedelta(2), "missed")]


async def test_who_comes_back_in_the_middle_of_a_night_tells_of_the_last_ones(night: Night) -> None:
    """One was missed, one broken off: both are on record, and tonight runs."""
    night.write("a.py")
    await night.clock(MIDNIGHT).tick()
    night.world.sql("UPDATE assayline.schedule_runs SET state = 'running', lease_until = now() - interval '1 s'")
    await night.clock(NEXT_MIDNIGHT + timedelta(days=1)).tick()
    assert [run["state"] for run in night.runs()] == ["failed", "missed", "done"]


async def test_a_night_that_its_window_closes_over_is_not_called_done(night: Night, caplog: Any) -> None:
    """What it had no time for comes the next night."""
    for number in range(600):
        night.write(f"{number:03}.txt", f"text {number}")
    clock = night.clock(MIDNIGHT)
    instants = iter([MIDNIGHT, MIDNIGHT, MORNING])
    await replace(clock, now=lambda: next(instants)).tick()
    assert [(run["state"], run["jobs"]) for run in night.runs()] == [("failed", 500)]
    assert "the window of 2026-11-21 closed over its inputs" in caplog.text
    assert "is enqueued" not in caplog.text
    await night.clock(NEXT_MIDNIGHT).tick()
    assert [(run["state"], run["jobs"]) for run in night.runs()] == [("failed", 500), ("done", 100)]


async def test_a_schedule_that_is_new_has_missed_nothing(night: Night) -> None:
    await night.clock(NOON).tick()
    assert night.runs() == []


async def test_inputs_that_are_no_jobs_are_told_with_their_places_and_the_others_run(night: Night) -> None:
    night.write("good.txt", "good")
    night.write("binary.bin", b"\xff\xfe")
    night.write("huge.txt", "x" * 1_048_577)
    night.write("nul.txt", "a\0b")
    night.write("__init__.py", "\n")
    night.write(".hidden", "secret")
    night.write(
        "jobs.jsonl",
        "\n".join(
            [
                '{"content": "fine"}',
                "{not json",
                "[1]",
                '{"content": "x", "lane": "interactive"}',
                '{"content": "x", "analysis": "astrology"}',
                '{"content": "x", "priority": 10}',
            ]
        ),
    )
    await night.clock(MIDNIGHT).tick()
    assert sorted(job["content"] for job in night.jobs()) == ["fine", "good"]
    [run] = night.runs()
    assert (run["state"], run["jobs"], run["refused"]) == ("done", 2, 9)
    told = {one["place"]: one["problem"] for one in run["problems"]}
    assert "not UTF-8 at byte 0" in told["binary.bin"]
    assert "longer than 1048576" in told["huge.txt"]
    assert "U+0000" in told["nul.txt"]
    assert told["__init__.py"] == "empty"
    assert "not JSON" in told["jobs.jsonl:2"]
    assert "not a JSON object" in told["jobs.jsonl:3"]
    assert "lane: not a field" in told["jobs.jsonl:4"]
    assert any("astrology" in problem for problem in told.values())


async def test_no_input_however_odd_ends_the_night(night: Night) -> None:
    """Names and keys that jsonb does not take, a nesting that `json` reads and does not write, a key without end."""
    levels = next(n for n in range(1, 10_000) if not readable_and_writable(n))
    lines = [
        r'{"content": "x", "a\u0000": 1}',
        r'{"content": "x", "\ud800": 1}',
        '{"content": "x", "' + "k" * 100_000 + '": 1}',
        *('{"content": "x", "context": ' + nested(levels + n) + "}" for n in range(-6, 3)),
    ]
    night.write("jobs.jsonl", "\n".join(lines))
    (night.folder / os.fsdecode(b"\xff.txt")).write_text("a name that is no UTF-8")
    night.write("zzz.txt", "good")
    await night.clock(MIDNIGHT).tick()
    [run] = night.runs()
    assert (run["state"], run["jobs"], run["refused"]) == ("done", 1, len(lines) + 1)
    assert max(len(one["problem"]) for one in run["problems"]) <= 500


def nested(levels: int) -> str:
    return '{"a": ' + "[" * levels + "]" * levels + "}"


def readable_and_writable(levels: int) -> bool:
    try:
        json.dumps(json.loads(nested(levels)))
    except RecursionError:
        return False
    return True


async def test_what_cannot_be_opened_is_told_and_the_others_run(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.txt", "b.jsonl", "c/d.txt", "e.txt"):
        night.write(name)
    closed = {str(night.folder / "b.jsonl"), str(night.folder / "c")}

    def guarded(real: Any) -> Any:
        def opened(path: Any, *args: Any, **more: Any) -> Any:
            if str(path) in closed:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *args, **more)

        return opened

    monkeypatch.setattr(os, "scandir", guarded(os.scandir))
    monkeypatch.setattr(Path, "open", guarded(Path.open))
    await night.clock(MIDNIGHT).tick()
    [run] = night.runs()
    assert (run["state"], run["jobs"], run["refused"]) == ("done", 2, 2)
    assert {one["place"]: one["problem"] for one in run["problems"]} == dict.fromkeys(
        ("b.jsonl", "c"), "cannot be read: PermissionError"
    )
    closed.add(str(night.folder))
    with pytest.raises(ExceptionGroup):
        await night.clock(NEXT_MIDNIGHT, lease_s=0.0).tick()
    assert [run["state"] for run in night.runs()] == ["done", "running"]


async def test_inputs_that_cannot_be_read_are_tried_again_and_given_up_in_the_morning(night: Night) -> None:
    night.folder.rmdir()
    with pytest.raises(ExceptionGroup, match="schedules failed"):
        await night.clock(MIDNIGHT, lease_s=0.0).tick()
    [run] = night.runs()
    assert run["state"] == "running"
    assert "neither a folder nor a file" in run["problems"][0]["problem"]
    night.folder.mkdir()
    night.write("a.py")
    await night.clock(MIDNIGHT, lease_s=0.0).tick()
    assert [run["state"] for run in night.runs()] == ["done"]
    night.world.sql("UPDATE assayline.schedule_runs SET state = 'running', lease_until = now() - interval '1 s'")
    await night.clock(MORNING).tick()
    assert [run["state"] for run in night.runs()] == ["failed"]


async def test_one_schedule_that_fails_does_not_keep_the_others_from_running(night: Night, tmp_path: Path) -> None:
    night.write("a.py")
    clock = night.clock(MIDNIGHT)
    broken = replace(clock.schedules[0], name="broken", inputs=tmp_path / "nowhere")
    with pytest.raises(ExceptionGroup):
        await replace(clock, schedules=[broken, *clock.schedules]).tick()
    assert len(night.jobs()) == 1


async def test_a_link_out_of_the_folder_is_not_followed(night: Night, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (night.folder / "link").symlink_to(tmp_path / "secret")
    (night.folder / "up").symlink_to(tmp_path)
    await night.clock(MIDNIGHT).tick()
    assert night.jobs() == []
