"""The journal: answers of calls whose job has not been written to the end, one entry for each job, in Redis.

An answer that is not stored within `PAUSE_S` of its arrival is sent there, with the settlement of its call; the end of
the job removes it, in the write that announces the end. Storing takes a few milliseconds as a rule, and then nothing is
sent. But Postgres may be away for a minute, or the answer may have to be repaired by a second call, which takes as long
as the first; and meanwhile the process may die. The next claim of the job looks here before it asks anybody.

What it does not cover: those first milliseconds, and an answer that comes while Redis is away. Nobody waits for it, and
nothing here ever fails a job.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from gateway.journal.entry import MAX_ENTRY_BYTES, Kept, Unreadable, decoded, encoded
from gateway.redis_line import RedisAway

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gateway.calls.answered import Answered
    from gateway.redis_line import Command, RedisLine

PAUSE_S = 0.005
"""Sent at once, a job's answer would cost its worker 0.12 ms, a write to Redis of its own (figures in
`docs/ledger.md`); what is stored within this time costs nothing."""
PREFIX = "assayline:journal:"
"""Followed by the job's id."""
TTL_S = 6 * 3_600
"""How long an answer lies there whose job does not come to its end. The job of a dead worker is found within twenty
seconds, but a bulk job then waits for its turn behind all that is due: hours, by night."""
COUNTS = PREFIX + "counts"
"""A hash: how often what befell an answer, over all processes and since the last flush. For `/metrics`."""
FOUND, UNUSABLE, TOO_LARGE = "found", "unusable", "too_large"
BEFALLEN = (FOUND, UNUSABLE, TOO_LARGE)
"""Its fields: found by a later claim; found, but of no use; not kept, for it is larger than `MAX_ENTRY_BYTES`."""

log = logging.getLogger(__name__)


def key_of(job: str) -> str:
    """Key of a job's entry."""
    return PREFIX + job


def removal(job: str) -> Command:
    """Return what removes a job's entry."""
    return ("DEL", key_of(job))


class Journal:
    """A process's. Whoever made the line closes it."""

    def __init__(self, line: RedisLine, *, ttl_s: int = TTL_S, pause_s: float = PAUSE_S) -> None:
        self._line = line
        self._ttl_s = ttl_s
        self._pause_s = pause_s

    def of(self, job: str, claim_no: int) -> ClaimJournal:
        """Return the journal of one claim.

        Args:
            job: the job's name, the same for all its claims.
            claim_no: from 1; the first claim finds nothing, so it does not look.
        """
        return ClaimJournal(self._line, job, claim_no, self._ttl_s, self._pause_s)

    async def holding(self, jobs: Sequence[str]) -> Collection[str]:
        """Return which of the jobs have an entry; all of them while Redis is away."""
        try:
            found = await self._line.ask(*(("EXISTS", key_of(job)) for job in jobs))
        except (RedisAway, ResponseError):
            return jobs
        return [job for job, there in zip(jobs, found, strict=True) if there]


class ClaimJournal:
    """One claim's answers. Keeps nothing before it has been opened for a question. Lives on one event loop."""

    def __init__(self, line: RedisLine, job: str, claim_no: int, ttl_s: int, pause_s: float) -> None:
        self._line = line
        self._job, self._claim_no = job, claim_no
        self._ttl_s, self._pause_s = ttl_s, pause_s
        self._pausing: asyncio.TimerHandle | None = None
        self._question: str | None = None
        self._answers: list[Kept] = []
        """All of the question, those of earlier claims first."""
        self._there = False
        """Whether something of the job lies in Redis, as far as this claim knows."""

    async def open(self, question: str | None) -> Sequence[Kept]:
        """Return what earlier claims were answered to this question; what is kept from now on is added to it.

        Args:
            question: its key, see `gateway.cache.key`; None: it has none, and nothing is kept.

        Returns:
            The answers, in their order; empty where there are none, or none that can be used, or Redis is away.
        """
        self._question = question
        raw = None if question is None or self._claim_no == 1 else await self._look()
        if question is None or raw is None:
            return ()
        self._there = True
        try:
            found = decoded(self._job, question, raw)
            if any(one.claim_no >= self._claim_no for one in found):
                raise Unreadable("it is of a later claim")
        except Unreadable as why:
            log.warning("job %s: its entry in the journal is of no use: %s", self._job, why)
            self._count(UNUSABLE)
            return ()
        log.info("job %s: an answer of claim %d was in the journal: not asked again", self._job, found[0].claim_no)
        self._count(FOUND)
        self._answers = list(found)
        return found

    def keep(self, call_no: int, answered: Answered) -> None:
        """Send an answer of this claim to Redis in a moment, with all that came before it. Never waits, never fails.

        One that is too large is not kept; what lies there stays.
        """
        if self._question is None:
            return
        self._answers.append(Kept(self._claim_no, call_no, answered))
        if self._pause_s <= 0:
            self._send()
        elif self._pausing is None:
            self._pausing = asyncio.get_running_loop().call_later(self._pause_s, self._send)

    def holds(self) -> bool:
        """Send now what waits to be sent; whether a later claim will find it, as far as is known without waiting."""
        if self._pausing is not None:
            self._pausing.cancel()
            self._send()
        return self._there

    def close(self) -> None:
        """Send nothing any more: the job is another's, or has ended. What lies in Redis is not touched."""
        if self._pausing is not None:
            self._pausing.cancel()
            self._pausing = None

    def stored(self) -> Sequence[Command]:
        """Send nothing any more: the claim's end is written.

        Returns:
            What removes the job's entry, for the write that announces the end; empty where there is none.
        """
        self.close()
        return (removal(self._job),) if self._there else ()

    def forget(self) -> None:
        """As `stored`, where no end is announced: the job goes on without these answers."""
        if removal := self.stored():
            self._post(*removal, at_once=True)  # before the job's next claim looks

    def _send(self) -> None:
        self._pausing = None
        assert self._question is not None
        entry = encoded(self._job, self._question, self._answers)
        if len(entry) > MAX_ENTRY_BYTES:
            log.warning("job %s: its answer, %d bytes, is too large for the journal", self._job, len(entry))
            self._count(TOO_LARGE)
            return
        sent = self._post(("SET", self._key, entry, "EX", self._ttl_s), at_once=True)
        self._there = self._there or sent

    @property
    def _key(self) -> str:
        return key_of(self._job)

    async def _look(self) -> bytes | None:
        try:
            [raw] = await self._line.ask(("GET", self._key))
        except (RedisAway, ResponseError):
            return None  # as if nothing were there: the line's log has said why
        return None if raw is None else bytes(raw)

    def _count(self, what: str) -> None:
        self._post(("HINCRBY", COUNTS, what, 1))  # sent twice over a broken connection it counts twice

    def _post(self, *commands: Command, at_once: bool = False) -> bool:
        try:
            self._line.post(*commands, at_once=at_once)
        except RedisAway:
            return False  # the line's log has said so; the call may be made again
        return True
