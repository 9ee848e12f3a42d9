"""Assayline in the bench `chaos`: the processes of `assayline up` several times over, two providers, its producer."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.bench.catalogs import MODEL, MadeUp
from ops.bench.endpoint import LABELS
from ops.bench.faults.clock import set_clock
from ops.bench.faults.links import Links
from ops.bench.faults.places import Place
from ops.bench.faults.plan import Fleet
from ops.bench.faults.records import Records
from ops.bench.processes import Running, until
from ops.bench.stack import ANALYSIS, START_S, Stack, content
from tasks.producer import Client, Job

FIRST, SECOND = "first", "second"
"""The two providers. Every other job's chain begins with the second."""
REQUESTS_PER_MIN = 6_000
"""What each account allows: more than comes, but the limiter must be asked."""
MAX_ATTEMPTS = 20
"""So that no job ends for want of them: what does not end well shall be our doing."""
CONTENT_BYTES = 512
SOURCE = "chaos"
NIGHT_JOBS = 20
NIGHT = "night."
"""Markers of the nightly batch begin with it."""
OURS_REDIS, OURS_POSTGRES = "redis", "postgres"
"""Names of the links from the workers."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large the system is. workers: at each provider; slots: of each. timeout_s: a provider's, for a whole attempt.

    beats: none, and there is no nightly batch. figures: that stand in for the dispatchers' own, by their names in
    `tasks.dispatch_policy`; none but for tests, which have no time.
    """

    workers: int = 2
    slots: int = 20
    dispatchers: int = 2
    beats: int = 2
    timeout_s: float = 5.0
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def fleet(self) -> Fleet:
        """What there is to strike. One beat is right at any time: an hour behind, a beat does not tick for an hour."""
        return Fleet(2 * self.workers, self.dispatchers, max(0, self.beats - 1))


class OurSystem:
    """Workers, dispatchers and beats, each kept alive in its place."""

    def __init__(self, stack: Stack, links: Links, endpoint_port: int, size: Size, without: str | None = None) -> None:
        """Start everything and wait until it lives.

        Args:
            stack: with nothing of ours on it yet.
            links: through which the workers reach Redis and Postgres; dispatchers and beats reach them directly.
            endpoint_port: of the provider.
            size: see there.
            without: the mechanism to switch off, None for none.
        """
        self._stack = stack
        self._links = links
        self._without = without
        self._size = size
        self._configure(endpoint_port)
        self.dispatchers = [self._place("dispatcher", number) for number in range(size.dispatchers)]
        # Every other worker is at the second provider.
        self.workers = [self._place("worker", number) for number in range(size.fleet.workers)]
        self.beats = [self._place("beat", number) for number in range(size.beats)]
        until(lambda: all(map(self._lives, self.workers)), START_S, "the workers' heartbeats")
        stack.await_catalog()

    @property
    def places(self) -> Sequence[Place]:
        """All of them."""
        return (*self.workers, *self.dispatchers, *self.beats)

    def set_clock(self, place: int, wrong_by_s: float) -> str:
        """Make a process's clock wrong; they are numbered as `places` are. Returns its name."""
        name = self.places[place].name
        set_clock(self._clock(name), wrong_by_s)
        return name

    def all_work(self, records: Records) -> bool:
        """Whether there is a worker in each place that was heard."""
        pids = [place.pid for place in self.workers]
        return records.number("SELECT count(*) FROM assayline.workers WHERE pid = ANY(%s)", [pids]) == len(pids)

    def end(self) -> None:
        """Kill them all."""
        for place in self.places:
            place.kill()

    def _lives(self, place: Place) -> bool:
        place.tend()
        return bool(self._stack.rows("SELECT 1 FROM assayline.workers WHERE pid = %s", [place.pid]))

    def _place(self, kind: str, number: int) -> Place:
        name = f"{kind} {number + 1}"
        set_clock(self._clock(name), 0.0)
        return Place(name, self._stack, lambda: self._started(kind, number))

    def _started(self, kind: str, number: int) -> Running:
        name = f"{kind} {number + 1}"
        figures = json.dumps(dict(self._size.figures))
        argv = (
            sys.executable,
            "-m",
            "ops.bench.faults.process",
            str(self._clock(name)),
            self._mechanism(kind),
            figures,
        )
        provider = (FIRST, SECOND)[number % 2]
        more = {
            "worker": ["--provider", provider, "--slots", str(self._size.slots)],
            "dispatcher": ["--no-rescue"] if self._without == "rescue" else [],
            "beat": ["--state", str(self._stack.directory / f"beat-{number}")],
        }[kind]
        return self._stack.start(name.replace(" ", "-"), [*argv, kind, *more], **self._stores(kind))

    def _stores(self, kind: str) -> dict[str, str]:
        if kind != "worker":
            return {}
        return {
            "ASSAYLINE_REDIS_URL": self._links.url(OURS_REDIS),
            "ASSAYLINE_DATABASE_URL": self._links.url(OURS_POSTGRES),
        }

    def _mechanism(self, kind: str) -> str:
        mechanism = {"worker": "fence", "dispatcher": "republish"}.get(kind, "")
        return mechanism if mechanism == self._without else ""

    def _clock(self, name: str) -> Path:
        return self._stack.directory / f"clock-{name.replace(' ', '-')}"

    def _configure(self, endpoint_port: int) -> None:
        """Give the processes the catalog, the provider, and the inputs of a night that is now."""
        providers = [provider(name, self._size) for name in (FIRST, SECOND)]
        self._stack.use_catalog(providers, [f"http://127.0.0.1:{endpoint_port}/v1"] * len(providers))
        if self._size.beats:
            inputs = self._stack.directory / "night.jsonl"
            inputs.write_text("".join(json.dumps(line) + "\n" for line in night()))
            self._stack.env |= {
                "ASSAYLINE_NIGHTLY_INPUTS": str(inputs),
                "ASSAYLINE_NIGHTLY_ZONE": zone_of_night(datetime.now(UTC)),
            }


def provider(name: str, size: Size) -> MadeUp:
    """One of the two."""
    return MadeUp(name, size.slots, {"requests_per_min": REQUESTS_PER_MIN}, more={"timeout_s": size.timeout_s})


def night() -> list[Mapping[str, Any]]:
    """The inputs of the nightly batch."""
    return [
        {
            "analysis": ANALYSIS,
            "content": content(f"{NIGHT}{number}", CONTENT_BYTES),
            "context": {"labels": list(LABELS)},
        }
        for number in range(NIGHT_JOBS)
    ]


def zone_of_night(now: datetime) -> str:
    """Return a zone where it is about two in the morning: the middle of the shipped schedule's window."""
    east = (2 - now.astimezone(UTC).hour + 12) % 24 - 12
    return "Etc/GMT" if east == 0 else f"Etc/GMT{-east:+d}"  # POSIX's sign: west is positive


def numbered(number: int) -> Job:
    """The job of a number: its marker is its idempotency key, every third is interactive."""
    hops = [f"{FIRST}/{MODEL}", f"{SECOND}/{MODEL}"]
    return Job(
        ANALYSIS,
        content(marker(number), CONTENT_BYTES),
        context={"labels": list(LABELS)},
        lane="bulk" if number % 3 else "interactive",
        chain=hops if number % 2 else hops[::-1],
        max_attempts=MAX_ATTEMPTS,
        idempotency_key=marker(number),
        source=SOURCE,
    )


def marker(number: int) -> str:
    """The marker of a job, ours and the peer's."""
    return f"job.{number}"


class OurProducer:
    """Hands jobs over. A chunk whose end nobody heard is handed over again: the keys make it the same jobs."""

    def __init__(self, database_url: str) -> None:
        self._client = Client(database_url)

    def __call__(self, numbers: Sequence[int]) -> None:
        """Enqueue the jobs of these numbers, all or none."""
        for _ in self._client.enqueue_many([numbered(number) for number in numbers]):
            pass

    def close(self) -> None:
        """Close its connections."""
        self._client.close()
