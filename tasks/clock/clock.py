"""What becomes of a tick: each schedule's night is run once, late if need be, and put off when its window closes.

A tick says no more than "look". Whatever the number of beats, workers and ticks, and whenever they come, what happens
follows from the local time and from `schedule_runs`:

    always         → give up what was never finished; put on record the nights that nobody ran
    window open    → take the night (unless somebody has) and enqueue its inputs
    window closed  → put off what is left
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from tasks.clock.inputs import Problem, inputs
from tasks.clock.runs import Claimed, NightTaken, Progress, Runs
from tasks.clock.schedule import Schedule
from tasks.producer import IdempotencyConflict, InvalidJob, Job, Receipt

log = logging.getLogger(__name__)

CHUNK = 500
"""Inputs enqueued together. A run that is taken up again repeats at most this many, and finds them there."""

CHUNK_CHARS = 8 * 1_048_576
"""Contents held in memory together: a file may have 1 MiB."""


class Producer(Protocol):
    """What a run needs of `tasks.producer.AsyncClient`."""

    def enqueue_many(self, jobs: Iterable[Job]) -> AsyncIterable[Receipt]:
        """Enqueue jobs in chunks, each all or nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Clock:
    """The schedules in force, and what they work with."""

    schedules: Sequence[Schedule]
    runs: Runs
    producer: Producer
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    async def tick(self) -> None:
        """Look at each schedule once.

        Raises:
            ExceptionGroup: what went wrong, of all schedules; the next tick tries again.
        """
        errors: list[Exception] = []
        for schedule in self.schedules:
            try:
                await self._look(schedule)
            except NightTaken as error:
                log.warning("%s", error)
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("schedules failed", errors)

    async def _look(self, schedule: Schedule) -> None:
        now = self.now()
        await self._look_back(schedule, now)
        night = schedule.window.at(now)
        if night is None:
            await self._put_off(schedule, now)
            return
        if not await self.runs.knows(schedule.analysis):
            log.warning("schedule %s waits: no dispatcher has told of analysis %s", schedule.name, schedule.analysis)
            return
        claimed = await self.runs.take(schedule, night)
        if claimed is not None:
            await self._run(claimed)

    async def _look_back(self, schedule: Schedule, now: datetime) -> None:
        """Lose no night in silence."""
        if given_up := await self.runs.give_up(schedule, now):
            log.error("schedule %s: %d nights were not finished", schedule.name, given_up)
        for night in schedule.window.before(now):
            if not await self.runs.miss(schedule, night):
                break
            log.error("schedule %s: nobody ran the night of %s", schedule.name, night.local_date)

    async def _put_off(self, schedule: Schedule, now: datetime) -> None:
        """Let nothing run outside the window."""
        opens_at = schedule.window.next_after(now).opens_at
        if deferred := await self.runs.defer(schedule, opens_at):
            log.info("schedule %s: %d jobs wait for %s", schedule.name, deferred, opens_at.isoformat())

    async def _run(self, claimed: Claimed) -> None:
        """Enqueue a night's inputs. An error leaves the run to be taken up again once its lease is over."""
        name, date = claimed.schedule.name, claimed.night.local_date
        # What an earlier attempt brought comes again as repeats, and is none of an earlier night.
        progress = Progress(jobs=claimed.jobs, repeats=-claimed.jobs)
        found = inputs(claimed.schedule)
        try:
            while chunk := await asyncio.to_thread(_chunk, found):
                if not claimed.night.holds(self.now()):
                    log.warning("schedule %s: the window of %s closed over its inputs", name, date)
                    await self.runs.report(claimed, progress, "failed")
                    return
                progress = await self._enqueue(chunk, progress)
                await self.runs.report(claimed, progress)
        except OSError as error:
            problem = Problem(str(claimed.schedule.inputs), f"{type(error).__name__}: {error}")
            await self.runs.report(claimed, progress.refusing([problem]))
            raise
        await self.runs.report(claimed, progress, "done")
        log.log(
            logging.WARNING if progress.refused else logging.INFO,
            "schedule %s: the night of %s is enqueued",
            name,
            date,
            extra={"jobs": progress.jobs, "repeats": progress.repeats, "refused": progress.refused},
        )

    async def _enqueue(self, chunk: Sequence[Job | Problem], progress: Progress) -> Progress:
        """Enqueue a chunk; a job that is refused becomes a problem, and the others go on."""
        problems = [one for one in chunk if isinstance(one, Problem)]
        jobs = [one for one in chunk if isinstance(one, Job)]
        created: set[UUID] = set()
        while jobs:
            try:
                async for receipt in self.producer.enqueue_many(jobs):
                    created.update({receipt.id} if receipt.created else ())
                break
            except (InvalidJob, IdempotencyConflict) as error:
                if error.item is None:
                    raise
                refused = jobs.pop(error.item)
                problems.append(Problem(refused.subject or str(refused.idempotency_key), str(error)))
        repeats = len(jobs) - len(created)
        done = replace(progress, jobs=progress.jobs + len(created), repeats=progress.repeats + repeats)
        return done.refusing(problems)


def _chunk(found: Iterator[Job | Problem]) -> list[Job | Problem]:
    """Read the next inputs: `CHUNK` of them, or fewer that are as long together as `CHUNK_CHARS`."""
    chunk: list[Job | Problem] = []
    chars = 0
    while chars < CHUNK_CHARS and len(chunk) < CHUNK and (one := next(found, None)) is not None:
        chunk.append(one)
        chars += len(one.content) if isinstance(one, Job) else 0
    return chunk
