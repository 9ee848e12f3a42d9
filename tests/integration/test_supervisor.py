"""The supervisor over real processes: order, restarts, stopping, and no orphan."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ops.embedded.service import command_line
from ops.supervisor import ports, tether
from ops.supervisor.child import Child, RestartPolicy, levels
from ops.supervisor.lock import AlreadyOwned, DirectoryLock
from ops.supervisor.log import MergedLog
from ops.supervisor.supervisor import Supervisor

DEADLINE_S = 20.0
QUICK = RestartPolicy(first_s=0.01, longest_s=0.05)

SERVER = """
import os, signal, sys, time
name, diary, obeys = sys.argv[1:]
def note(word):
    with open(diary, "a") as file:
        file.write(f"{word} {name} {os.getpid()}\\n")
def on_term(*_):
    note("end")
    if obeys == "yes":
        sys.exit(0)
signal.signal(signal.SIGTERM, on_term)
note("begin")
print("hello from", name, flush=True)
while True:
    signal.pause()
"""


class Diary:
    """What the processes wrote down, in order, as (word, name, pid)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[tuple[str, str, int]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [(word, name, int(pid)) for word, name, pid in (line.split() for line in lines)]

    def pids(self, name: str) -> list[int]:
        return [pid for word, who, pid in self.entries() if word == "begin" and who == name]

    def words(self, word: str) -> list[str]:
        return [who for said, who, _ in self.entries() if said == word]

    def server(self, name: str, *after: str, obeys: bool = True, grace_s: float = 5.0) -> Child:
        """A child that is ready once it has written its beginning down."""
        argv = [sys.executable, "-c", SERVER, name, str(self.path), "yes" if obeys else "no"]
        begun = len(self.pids(name))
        return Child(name, argv, after=after, ready=lambda: len(self.pids(name)) > begun, grace_s=grace_s)


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  what happens, happens in another process
            await asyncio.sleep(0.01)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return command_line(pid) == ""


class Running:
    def __init__(self, supervisor: Supervisor, task: asyncio.Task[int], ready: asyncio.Event, out: io.StringIO) -> None:
        self.supervisor, self.task, self.ready, self._out = supervisor, task, ready, out

    @property
    def log(self) -> str:
        return self._out.getvalue()


@asynccontextmanager
async def supervised(*children: Child, policy: RestartPolicy = QUICK) -> AsyncIterator[Running]:
    ready, out = asyncio.Event(), io.StringIO()
    log = MergedLog([child.name for child in children], out)
    supervisor = Supervisor(children, log, policy=policy, on_ready=ready.set)
    task = asyncio.create_task(supervisor.run())
    try:
        yield Running(supervisor, task, ready, out)
    finally:
        if not task.done():
            supervisor.stop()
        await asyncio.wait_for(task, DEADLINE_S)


async def test_children_start_after_what_they_wait_for_and_stop_the_other_way_round(diary: Diary) -> None:
    async with supervised(
        diary.server("worker", "migrate"),
        Child("migrate", [sys.executable, "-c", f"open({str(diary.path)!r}, 'a').write('begin migrate 0\\n')"],
              after=("store",), once=True),
        diary.server("store"),
    ) as run:  # fmt: skip
        await asyncio.wait_for(run.ready.wait(), DEADLINE_S)
        assert diary.words("begin") == ["store", "migrate", "worker"]
        run.supervisor.stop()
        assert await run.task == 0
    assert diary.words("end") == ["worker", "store"]


async def test_the_log_is_merged_under_names(diary: Diary) -> None:
    async with supervised(diary.server("a"), diary.server("longer")) as run:
        await until(lambda: "a      | hello from a\n" in run.log and "longer | hello from longer\n" in run.log)


async def test_a_killed_child_comes_back(diary: Diary) -> None:
    async with supervised(diary.server("a")) as run:
        await until(lambda: len(diary.pids("a")) == 1)
        os.kill(diary.pids("a")[0], signal.SIGKILL)
        await until(lambda: len(diary.pids("a")) == 2)
        assert "a was ended by SIGKILL; starting it again in 0.01 s" in run.log


async def test_a_child_that_keeps_dying_stops_everything_and_says_so(diary: Diary) -> None:
    dying = Child("dying", [sys.executable, "-c", "print('no such table'); raise SystemExit(3)"], after=("a",))
    async with supervised(diary.server("a"), dying) as run:
        assert await asyncio.wait_for(run.task, DEADLINE_S) == 1
    assert run.log.count("no such table") == 5
    assert "dying ended with code 3, for the 5. time" in run.log
    assert diary.words("end") == ["a"]


async def test_a_child_that_never_becomes_ready_is_ended_and_tried_again() -> None:
    deaf = Child("deaf", [sys.executable, "-c", "import signal; signal.pause()"], ready=bool, ready_timeout_s=0.05)
    async with supervised(deaf) as run:
        assert await asyncio.wait_for(run.task, DEADLINE_S) == 1
    assert "deaf was not ready within 0.05 s" in run.log


async def test_a_child_that_does_its_work_no_more_is_started_anew(diary: Diary) -> None:
    """It runs and says that it is well, until it complains time and again; the next one is well again."""
    ails = threading.Event()

    def live() -> str | None:
        return "nothing was taken" if ails.is_set() and not diary.words("end") else None

    async with supervised(replace(diary.server("a"), live=live, live_every_s=0.01)) as run:
        await asyncio.wait_for(run.ready.wait(), DEADLINE_S)
        ails.set()
        await until(lambda: len(diary.pids("a")) == 2)
        assert "a is not live (nothing was taken); stopping it" in run.log
        assert "a was not live; starting it again in 0.01 s" in run.log
        assert diary.words("end") == ["a"]
    assert len(diary.pids("a")) == 2


async def test_one_complaint_and_then_none_is_no_reason(diary: Diary) -> None:
    asked = 0
    often = asyncio.Event()
    loop = asyncio.get_running_loop()

    def live() -> str | None:
        nonlocal asked
        asked += 1
        if asked == 30:
            loop.call_soon_threadsafe(often.set)
        return None if asked % 3 == 0 else "a stumble"

    async with supervised(replace(diary.server("a"), live=live, live_every_s=0.001)):
        await asyncio.wait_for(often.wait(), DEADLINE_S)
        assert len(diary.pids("a")) == 1


async def test_a_child_that_does_not_even_stop_is_killed(diary: Diary) -> None:
    stuck = replace(
        diary.server("a", obeys=False, grace_s=0.2),
        live=lambda: None if diary.words("end") else "blocked",
        live_every_s=0.01,
    )
    async with supervised(stuck):
        await until(lambda: len(diary.pids("a")) == 2)
        assert gone(diary.pids("a")[0])


async def test_a_program_that_does_not_exist_is_a_death_like_any_other() -> None:
    async with supervised(Child("lost", ["/no/such/program"])) as run:
        assert await asyncio.wait_for(run.task, DEADLINE_S) == 1
    assert "/no/such/program" in run.log


async def test_a_child_that_ignores_its_signal_is_killed_when_its_grace_is_over(diary: Diary) -> None:
    async with supervised(diary.server("stubborn", obeys=False, grace_s=0.2)) as run:
        await asyncio.wait_for(run.ready.wait(), DEADLINE_S)
    assert "stubborn stopped (killed: its grace was over)" in run.log
    assert gone(diary.pids("stubborn")[0])


async def test_a_second_stop_cuts_the_grace_short(diary: Diary) -> None:
    async with supervised(diary.server("stubborn", obeys=False, grace_s=3600)) as run:
        await asyncio.wait_for(run.ready.wait(), DEADLINE_S)
        run.supervisor.stop()
        await until(lambda: diary.words("end") == ["stubborn"])
        run.supervisor.stop()
        assert await asyncio.wait_for(run.task, DEADLINE_S) == 0
    assert gone(diary.pids("stubborn")[0])


async def test_what_a_dead_child_left_behind_goes_with_it(diary: Diary, tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    script = (
        "import subprocess, sys, signal\n"
        "g = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"open({str(note)!r}, 'w').write(str(g.pid))\n"
        "signal.pause()"
    )
    async with supervised(Child("parent", [sys.executable, "-c", script], ready=lambda: note.exists())):
        await until(lambda: note.exists() and note.read_text())
        grandchild = int(note.read_text())
        assert not gone(grandchild)
    await until(lambda: gone(grandchild))


OWNER = """
import asyncio, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_supervisor import Diary
from ops.supervisor.log import MergedLog
from ops.supervisor.supervisor import Supervisor
diary = Diary(Path(sys.argv[1]))
children = [diary.server("a"), diary.server("stubborn", "a", obeys=False, grace_s=1)]
sys.exit(asyncio.run(Supervisor(children, MergedLog(["a", "stubborn"])).run()))
"""


@pytest.fixture
def owner(diary: Diary):
    """A supervisor in a process of its own, both its children running."""
    argv = [sys.executable, "-c", OWNER.format(tests=str(Path(__file__).parent)), str(diary.path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: diary.pids("stubborn"))
            yield process
        finally:
            process.kill()


def test_no_child_outlives_a_supervisor_killed_by_sigkill(owner: subprocess.Popen[str], diary: Diary) -> None:
    owner.kill()
    wait_until(lambda: gone(diary.pids("a")[0]) and gone(diary.pids("stubborn")[0]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_it_cleanly(owner: subprocess.Popen[str], diary: Diary, number: signal.Signals) -> None:
    owner.send_signal(number)
    assert owner.wait(DEADLINE_S) == 0
    assert diary.words("end") == ["stubborn", "a"]


def test_where_the_kernel_does_not_help_the_tether_watches(tmp_path: Path, diary: Diary) -> None:
    """The way of platforms without PR_SET_PDEATHSIG, run here through its flag."""
    child = diary.server("a")
    watching = [*tether.wrap(child.command, death_signal=signal.SIGTERM)]
    watching.insert(watching.index("--"), "--watch")
    script = f"import os, subprocess, sys; a = {watching!r}; a[4] = f'--parent={{os.getpid()}}'\nsubprocess.run(a)"
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        wait_until(lambda: diary.pids("a"))
        parent.kill()
    wait_until(lambda: gone(diary.pids("a")[0]))
    assert diary.words("end") == ["a"]


def test_the_watching_tether_passes_signals_and_the_exit_code_on(diary: Diary) -> None:
    watching = tether.wrap(diary.server("a").command)
    watching.insert(watching.index("--"), "--watch")
    with subprocess.Popen(watching) as process:
        wait_until(lambda: diary.pids("a"))
        process.terminate()
        assert process.wait(DEADLINE_S) == 0


def test_a_tether_whose_parent_is_already_gone_does_not_begin(diary: Diary) -> None:
    argv = tether.wrap(diary.server("a").command)
    argv[argv.index(f"--parent={os.getpid()}")] = "--parent=1"
    assert subprocess.run(argv, check=False).returncode == tether.PARENT_GONE
    assert diary.entries() == []


def test_one_directory_has_one_owner(tmp_path: Path) -> None:
    path = tmp_path / "up.lock"
    script = (
        "import sys; from pathlib import Path; from ops.supervisor.lock import DirectoryLock\n"
        f"DirectoryLock(Path({str(path)!r})).acquire(); print('owned', flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "owned\n"
        with pytest.raises(AlreadyOwned, match=f"in use by process {holder.pid}"):
            DirectoryLock(path).acquire()
        holder.kill()
    lock = DirectoryLock(path)
    lock.acquire()  # the kernel gave the killed owner's lock back
    lock.release()


def test_a_port_in_use_is_not_picked() -> None:
    import socket

    with socket.create_server((ports.LOOPBACK, 0)) as taken:
        number = taken.getsockname()[1]
        assert not ports.is_free(number)
        assert ports.pick(number) != number


def child(name: str, *after: str) -> Child:
    return Child(name, ["/bin/true"], after=after)


def test_levels_put_each_child_behind_all_it_waits_for() -> None:
    found = levels(
        [child("worker", "migrate", "valkey"), child("valkey"), child("migrate", "postgres"), child("postgres")]
    )
    assert [[c.name for c in level] for level in found] == [["valkey", "postgres"], ["migrate"], ["worker"]]


@pytest.mark.parametrize(
    ("children", "complaint"),
    [
        ([child("a", "b"), child("b", "a")], r"wait for each other.*\['a', 'b'\]"),
        ([child("a", "nobody")], r"not there: \['a'\]"),
        ([child("a"), child("a")], "share a name"),
    ],
)
def test_an_impossible_order_is_refused(children: list[Child], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        levels(children)


def test_pauses_grow_up_to_a_bound_and_end_at_the_fifth_death_within_a_minute() -> None:
    policy = RestartPolicy(first_s=1, longest_s=3)
    deaths = [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [policy.delay(deaths[: n + 1], deaths[n]) for n in range(5)] == [1, 2, 3, 3, None]


def test_old_deaths_are_forgotten() -> None:
    assert RestartPolicy(first_s=1).delay([0.0, 1.0, 2.0, 3.0, 100.0], 100.0) == 1
