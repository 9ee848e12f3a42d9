"""`assayline demo`: the whole system for a minute: start it, run real jobs over this project's own source, stop it.

The same processes as `assayline up`, without Flower and beat, in a directory of their own. An installation that the
environment names is left alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.catalog import load_catalog
from gateway.settings import Settings
from ops.cli import target
from ops.cli.demo_jobs import SAMPLES, SOURCE, Sample, run_samples, wait_until_served
from ops.cli.exit_codes import CONFIGURATION, FAILED, INTERRUPTED, OK
from ops.cli.screen import AsJson, Screen
from ops.cli.stack import LOCAL_MODEL, Stack, services, write_env_file
from ops.embedded.service import tail
from ops.supervisor.lock import DirectoryLock
from ops.supervisor.log import MergedLog
from ops.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from rich.status import Status

    from ops.supervisor.child import Child
    from tasks.producer import StoredJob

LEFT_ALONE = (
    *(f"{name}{form}" for name in (target.DATABASE, target.REDIS, "ASSAYLINE_BROKER_URL") for form in ("", "_FILE")),
    "ASSAYLINE_FAKE",  # scripted answers show nothing
)
NOT_NEEDED = frozenset({"api", "flower", "beat"})
LOG = "demo.log"

SMALL_MODEL = (
    "These answers come from SmolLM2, a model of 135 million parameters that runs on this machine. It shows the "
    "plumbing: queue, ledger, schema-constrained and validated answers. It does not show good judgement: for that, set "
    "ANTHROPIC_API_KEY, OPENAI_API_KEY or GOOGLE_API_KEY and run the demo again."
)


def demo(
    directory: Annotated[Path, typer.Option("--dir", help="Where the demo keeps its data.")] = Path(".assayline/demo"),
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for all jobs together.")] = 300.0,
    as_json: AsJson = False,
) -> int:
    """Start everything on this machine, run real jobs over real files, show their validated results, stop everything.

    Needs no key, no Docker and no root: a small model runs here unless a provider's key is set. With --json: one line
    per job, then one with the times. Example: [bold]assayline demo[/bold]
    """
    screen = Screen(as_json=as_json)
    for name in LEFT_ALONE:
        if os.environ.pop(name, None):
            screen.say(f"{name} is set; the demo leaves it alone and uses services of its own")
    return Demo(screen, directory.resolve(), timeout).run()


@dataclass
class Times:
    """How long each phase took, in seconds, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 2)

    def __str__(self) -> str:
        parts = [f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items()]
        return " · ".join([*parts, f"together {sum(self.seconds.values()):.1f} s"])


class Demo:
    """One run of the demo."""

    def __init__(self, screen: Screen, directory: Path, timeout_s: float) -> None:
        self._screen = screen
        self._directory = directory
        self._timeout_s = timeout_s
        self._times = Times()
        self._lock = DirectoryLock(directory / target.UP_LOCK)

    def run(self) -> int:
        """Do all of it; returns the exit code.

        Raises:
            AlreadyOwned, EmbeddedServiceError, ConfigurationError: it cannot be done here.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock.acquire()
        try:
            with self._times.phase("prepare"), self._doing("preparing services (the first time takes longer)"):
                stack = self._prepare()
            try:
                return self._run(stack)
            finally:
                stack.release()
        finally:
            self._lock.release()

    def _prepare(self) -> Stack:
        settings = Settings.from_env(os.environ)
        catalog = load_catalog(settings.catalog_path, os.environ)
        stack = services(settings, catalog, self._directory, os.environ)
        write_env_file(stack, self._directory / target.UP_ENV)
        return stack

    def _run(self, stack: Stack) -> int:
        with (self._directory / LOG).open("w", encoding="utf-8") as log_file:
            children = [child for child in stack.children if child.name not in NOT_NEEDED]
            log = MergedLog([child.name for child in children], log_file)
            jobs, code = asyncio.run(self._supervised(children, log))
        if jobs is None:
            return self._ended_early(code)
        return self._conclude(jobs, LOCAL_MODEL in stack.env)

    async def _supervised(self, children: Sequence[Child], log: MergedLog) -> tuple[list[StoredJob] | None, int]:
        """Run the jobs while the supervisor keeps the processes. None for the jobs: stopped before they ended."""
        ready, gone = asyncio.Event(), asyncio.Event()
        supervisor = Supervisor(children, log, on_ready=ready.set)
        keeping = asyncio.create_task(supervisor.run())
        keeping.add_done_callback(lambda _: gone.set())
        await asyncio.sleep(0)  # the supervisor's own signal handlers are in place now: ours take over
        interrupted = self._on_signals(supervisor, gone)
        working = asyncio.create_task(self._work(ready, gone.is_set))
        await asyncio.wait({keeping, working}, return_when=asyncio.FIRST_COMPLETED)
        if not gone.is_set():
            with self._times.phase("stop"), self._doing("stopping"):
                supervisor.stop()
                await asyncio.wait({keeping})
        ready.set()  # work that still waits for it sees that all is gone
        await asyncio.wait({keeping, working})
        failed = working.exception()
        if interrupted.is_set() or keeping.result() != OK:
            return None, INTERRUPTED if interrupted.is_set() else CONFIGURATION
        if failed is not None:
            raise failed
        return working.result(), OK

    def _on_signals(self, supervisor: Supervisor, gone: asyncio.Event) -> asyncio.Event:
        interrupted = asyncio.Event()

        def stop() -> None:
            interrupted.set()
            gone.set()
            supervisor.stop()
            supervisor.stop()  # fast: nobody needs the answers of a demo that was broken off

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        return interrupted

    async def _work(self, ready: asyncio.Event, gone: Callable[[], bool]) -> list[StoredJob]:
        with self._times.phase("start"), self._doing("starting stores, model, dispatcher and worker"):
            await ready.wait()
            environment = target.environment(self._directory)
            url, redis_url = environment[target.DATABASE], environment[target.REDIS]
            await asyncio.to_thread(wait_until_served, url, gone)
        self._screen.say(f"running {len(SAMPLES)} jobs over files of this project:")
        with self._times.phase("jobs"):
            return await asyncio.to_thread(run_samples, url, redis_url, self._screen, self._timeout_s, gone)

    def _ended_early(self, code: int) -> int:
        if code == INTERRUPTED:
            self._screen.say("stopped")
        else:
            log = self._directory / LOG
            self._screen.say(f"the demo's processes did not stay up; the end of {log}:\n{tail(log)}")
        return code

    def _conclude(self, jobs: list[StoredJob], small_model: bool) -> int:
        from ops.cli.view import cost_text

        for sample, job in zip(SAMPLES, jobs, strict=True):
            show(sample, job, self._screen)
        good = [job for job in jobs if job.state == "succeeded"]
        self._screen.show("")
        self._screen.show(f"{len(good)} of {len(jobs)} jobs succeeded, each with a validated result")
        self._screen.show(f"queues: {_queues(jobs)}")
        self._screen.show(f"cost: {cost_text(_cost(good))}")
        self._screen.show(f"time: {self._times}")
        if small_model:
            self._screen.show("")
            self._screen.show(SMALL_MODEL)
        self._screen.document(
            {
                "succeeded": len(good),
                "jobs": len(jobs),
                "queues": _queues(jobs),
                "small_model": small_model,
                "seconds": self._times.seconds,
            }
        )
        return OK if len(good) == len(jobs) else FAILED

    @contextmanager
    def _doing(self, what: str) -> Iterator[Status | None]:
        """Say what is going on: a spinner on a terminal, else a line."""
        if self._screen.err.is_terminal:
            with self._screen.err.status(what) as status:
                yield status
        else:
            self._screen.say(what)
            yield None


def _queues(jobs: Sequence[StoredJob]) -> str:
    """Through which queues the jobs went, and how many through each."""
    counts = Counter(f"{job.provider}.{job.fields['lane']}" for job in jobs)
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _cost(jobs: Sequence[StoredJob]) -> Decimal | None:
    """What the jobs cost together; None as soon as one's price is unknown."""
    costs = [job.result.cost_usd for job in jobs if job.result is not None]
    return None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0))


def show(sample: Sample, job: StoredJob, screen: Screen) -> None:
    """Show one job's end: its result, or honestly why there is none."""
    from rich.text import Text

    from ops.cli.view import causes_table, digest, result_line, result_view, state_text

    screen.show("")
    screen.show(Text.assemble((f"{sample.analysis}  ", "bold"), sample.path, "  ", state_text(job.state)))
    if job.causes:
        screen.show(causes_table(job.causes))
    if job.result is not None and job.result.data is not None:
        screen.show(Text(result_line(job.result), "dim"))
        screen.show(digest(job.result.data))
    elif job.result is not None:
        screen.show(result_view(job.result))
    screen.document({"file": sample.path, "source": str(SOURCE), **job.fields})
