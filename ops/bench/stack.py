"""What every bench stands on: durable servers of its own, the endpoint, and the processes that `assayline up` runs.

The provider is the shipped catalog's `openai`, its base URL turned to the endpoint: adapter, prices and settings are
those of a user with a key.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis

from ops.bench.catalogs import MadeUp, catalog
from ops.bench.endpoint import LABELS
from ops.bench.proc import family
from ops.bench.processes import ASSAYLINE, BenchFailure, Endpoint, Running, clean_env, until
from ops.bench.report import Options, Servers
from ops.embedded import EmbeddedPostgres, EmbeddedValkey
from ops.migrate import upgrade
from tasks.producer import Client, Job

PROVIDER = "openai"
ANALYSIS = "text_classification"
CONTENT_BYTES = 2_048
START_S = 60.0
EMPTIED = ("jobs", "job_contents", "due", "later", "calls", "results", "idempotency_keys", "workers")
"""Tables of which nothing may be left of an earlier bench on the same servers."""

MIGRATING = threading.Lock()
"""Alembic has one context for the whole process; tests run benches side by side."""

_SENTENCE = "The amount due is 1,240.00 EUR, payable within thirty days of the date on this letter. "


def content(marker: str, size: int = CONTENT_BYTES) -> str:
    """A text of `size` bytes that the endpoint knows by its marker."""
    head = f"marker-{marker} "
    return (head + _SENTENCE * (size // len(_SENTENCE) + 1))[:size]


def job(marker: str, **fields: Any) -> Job:
    """A job whose call the endpoint knows by `marker`. Interactive: bulk may use only a part of the slots."""
    return Job(ANALYSIS, content(marker), **{"context": {"labels": list(LABELS)}, "lane": "interactive"} | fields)


@dataclass(slots=True)
class Stack:
    """A running system. Made by `opened`."""

    directory: Path
    servers: Servers
    endpoint: Endpoint
    client: Client
    env: dict[str, str]
    say: Any
    _exits: ExitStack
    _database: psycopg.Connection[Any]
    _running: list[Running] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)

    def use_catalog(self, providers: Sequence[MadeUp], urls: Sequence[str]) -> None:
        """Give all processes that are started from now on this catalog, and each provider's address."""
        file = self.directory / "catalog.yaml"
        file.write_text(json.dumps(catalog(providers)))  # JSON is YAML
        self.env["ASSAYLINE_CATALOG"] = str(file)
        for provider, url in zip(providers, urls, strict=True):
            self.env |= provider.env(url)

    def dispatcher(self, *flags: str, without: str | None = None) -> Running:
        """Start the dispatcher; `without`: see `worker`."""
        return self.start("dispatcher", [*entry(without), "dispatcher", *flags])

    def await_catalog(self) -> None:
        """Wait until the dispatcher has mirrored the catalog: from then on jobs can be enqueued."""
        self.until(
            lambda: bool(self.rows("SELECT 1 FROM assayline.catalog_analyses LIMIT 1")), START_S, "the mirrored catalog"
        )

    def worker(self, slots: int, *flags: str, without: str | None = None) -> Running:
        """Start a worker and wait until it is known to live, and jobs can be enqueued.

        Args:
            slots: jobs it runs at once.
            flags: more of `assayline worker`'s.
            without: start it through `ops.bench.without`, which switches this mechanism off.
        """
        running = self.begin_worker(slots, *flags, without=without)
        self.await_workers([running])
        return running

    def begin_worker(self, slots: int, *flags: str, without: str | None = None) -> Running:
        """Start a worker and do not wait for it; see `worker`."""
        return self.start("worker", [*entry(without), "worker", "--provider", PROVIDER, "--slots", str(slots), *flags])

    def await_workers(self, workers: Sequence[Running]) -> None:
        """Wait until each is known to live, and jobs can be enqueued."""
        self.until(lambda: all(map(self.lives, workers)), START_S, "the workers' heartbeats")
        self.await_catalog()

    def lives(self, worker: Running) -> bool:
        """Whether a worker, or a child of it, has sent a heartbeat."""
        return bool(self.rows("SELECT 1 FROM assayline.workers WHERE pid = ANY(%s)", [family(worker.pid)]))

    def start(self, name: str, argv: Sequence[str], **extra: str) -> Running:
        """Start any process in the stack's environment; it is killed with the stack: nothing is left to be saved."""
        numbered = next(f"{name}-{number}" for number in range(1, 1000) if f"{name}-{number}" not in self._names)
        self._names.add(numbered)
        running = Running(numbered, argv, self.env | extra, self.directory)
        self._running.append(running)
        self._exits.callback(self._forget, running)
        return running

    def stop(self, running: Running) -> None:
        """Stop a process before the stack ends."""
        self._running.remove(running)
        running.stop()

    def kill(self, running: Running) -> None:
        """Kill a process with -9."""
        self._running.remove(running)
        running.kill()

    def dismiss(self, worker: Running) -> None:
        """End a worker that has nothing to do, as if it had left by itself, without the seconds that this takes."""
        pids = family(worker.pid)
        self.kill(worker)
        self._database.execute("UPDATE assayline.workers SET stopping = true WHERE pid = ANY(%s)", [pids])

    def check(self) -> None:
        """Raise if a process has ended unasked.

        Raises:
            BenchFailure: one has.
        """
        for running in self._running:
            running.check()

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Ask Postgres."""
        return self._database.execute(sql, params).fetchall()

    def number(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Ask Postgres for one whole number."""
        return int(self.rows(sql, params)[0][0])

    def until(self, done: Any, timeout_s: float, what: str) -> None:
        """Look until `done` says so, while all processes live.

        Raises:
            BenchFailure: one of them ended, or the time was up.
        """
        until(done, timeout_s, what, self._running)

    def enqueue(self, jobs: Sequence[Job]) -> None:
        """Enqueue jobs."""
        made = sum(receipt.created for receipt in self.client.enqueue_many(jobs))
        if made != len(jobs):
            raise BenchFailure(f"{made} of {len(jobs)} jobs were new")

    def finish(self, timeout_s: float) -> None:
        """Wait until no job is open any more."""
        self.until(lambda: self.open_jobs() == 0, timeout_s, "the last job's end")

    def open_jobs(self) -> int:
        """How many jobs have not ended."""
        return self.number("SELECT count(*) FROM assayline.jobs WHERE state IN ('scheduled', 'queued', 'running')")

    def succeeded(self) -> int:
        """How many jobs have ended well, ever."""
        return self.number("SELECT count(*) FROM assayline.jobs WHERE state = 'succeeded'")

    def _forget(self, running: Running) -> None:
        if running in self._running:
            self.kill(running)


def entry(without: str | None = None) -> Sequence[str]:
    """The command line of Assayline; `without`: started with one of its mechanisms switched off."""
    return (sys.executable, "-m", "ops.bench.without", without) if without else ASSAYLINE


@contextmanager
def opened(options: Options) -> Iterator[Stack]:
    """Start servers and endpoint in a directory that is gone afterwards; migrate; end everything at the end.

    Servers of `options` are emptied first.
    """
    with ExitStack() as exits:
        directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="assayline-bench-")))
        servers = options.servers or _embedded(directory, exits)
        with MIGRATING:
            upgrade(servers.database_url)
        env = clean_env({"ASSAYLINE_DATABASE_URL": servers.database_url, "ASSAYLINE_REDIS_URL": servers.redis_url})
        endpoint = Endpoint(env, directory)
        exits.callback(endpoint.stop)
        # Whatever a bench does, its calls end here: a made-up key, and the endpoint's URL.
        env |= {"OPENAI_API_KEY": "bench", "OPENAI_BASE_URL": endpoint.base_url}
        client = exits.enter_context(Client(servers.database_url, servers.redis_url))
        database = exits.enter_context(psycopg.connect(servers.database_url, autocommit=True))
        if options.servers is not None:
            # The jobs, workers, breakers and answers of those who used them before would be there beside ours.
            database.execute("TRUNCATE " + ", ".join(f"assayline.{table}" for table in EMPTIED))
            with redis.Redis.from_url(servers.redis_url) as stored:
                stored.flushdb()
        yield Stack(directory, servers, endpoint, client, env, options.say, exits, database)


def _embedded(directory: Path, exits: ExitStack) -> Servers:
    postgres, valkey = EmbeddedPostgres(directory / "postgres"), EmbeddedValkey(directory / "valkey")
    for service in (postgres, valkey):
        service.start()
        exits.callback(service.stop)
    return Servers(postgres.url, valkey.url)
