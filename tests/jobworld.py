"""The job domain on a real database, its neighbours doubled: a broker that remembers, an analyst that is told."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from sqlalchemy import text

from gateway.ledger import CallEnd, CallKind, CallOutcome, CallStart
from gateway.messages import AnalysisResult, ModelRef, Usage
from tasks import pauses
from tasks.dispatch import Dispatcher
from tasks.dispatch_policy import Policy
from tasks.ends import Totals
from tasks.engine import create_engine
from tasks.mirror import MirroredAnalysis, mirror
from tasks.run import Runner
from tasks.sql import statement
from tasks.states import MOVES
from tasks.store import Incarnation, JobStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from gateway.ledger import CallLedger
    from gateway.redis_line import Command
    from tasks.headroom import Headroom
    from tasks.job import Claim, Released
    from tasks.pauses import PauseKind

    Analysis = Callable[[Claim, CallLedger], Awaitable[AnalysisResult]]

PROVIDERS = ("one", "two")
MODELS = ("one/small", "two/large")
MAX_ATTEMPTS = 4
ANALYSES = (
    MirroredAnalysis("quick", MODELS, "interactive", MAX_ATTEMPTS),
    MirroredAnalysis("slow", MODELS, "bulk", MAX_ATTEMPTS),
)
COST = Decimal("0.25")
USAGE = Usage(10, 5, 2)
ANSWERED = CallEnd(CallOutcome.SUCCEEDED, 0.5, USAGE, COST, "stop", "req-1")
TIMED_OUT = CallEnd(CallOutcome.FAILED, 0.5, error="timeout", error_message="no answer")
TOTALS = Totals(USAGE, COST, 0.5, 1)
CAUSE: dict[str, Any] = {"error": "timeout", "move": "fail"}
LEGAL_BY_NAME = {move.name: move for move in MOVES}


def start(claim: Claim, kind: CallKind = CallKind.ANSWER) -> CallStart:
    return CallStart(claim.model, "main", kind, 100)


def answer(claim: Claim, *, data: dict[str, Any] | None = None, raw_text: str | None = None) -> AnalysisResult:
    return AnalysisResult(
        analysis=claim.analysis,
        data={"verdict": "fine"} if data is None else data,
        provider=claim.model.provider,
        model=claim.model.model,
        prompt_version="1",
        usage=USAGE,
        cost_usd=COST,
        latency_s=0.5,
        calls=1,
        repaired=raw_text is not None,
        raw_text=raw_text,
    )


async def answers(claim: Claim, ledger: CallLedger) -> AnalysisResult:
    """An analysis of one call that goes well."""
    await ledger.close(await ledger.open(start(claim)), ANSWERED)
    return answer(claim)


def raises(error: Exception, end: CallEnd = TIMED_OUT) -> Analysis:
    """An analysis of one call that ends so."""

    async def analyze(claim: Claim, ledger: CallLedger) -> AnalysisResult:
        await ledger.close(await ledger.open(start(claim)), end)
        raise error

    return analyze


@dataclass(slots=True)
class ScriptedAnalyst:
    """Implements `tasks.run.Analyst`: each job's analysis is the function it was given."""

    script: Analysis = answers
    refusals_move_on: bool = False
    windows: dict[str, int] = field(default_factory=dict)
    spared: set[str] = field(default_factory=set)
    """Accounts, as `provider/account`, beside which another may be well."""
    out: set[str] = field(default_factory=set)
    """Providers whose breakers are known not to be closed."""

    def account(self, provider: str) -> str:
        return "main"

    def lease_s(self, provider: str) -> float:
        return 300.0

    def window_tokens(self, model: ModelRef) -> int:
        return self.windows.get(str(model), 1000)

    def moves_on_refusal(self, analysis: str) -> bool:
        return self.refusals_move_on

    def spare_account(self, provider: str, account: str) -> bool:
        return f"{provider}/{account}" in self.spared

    def is_out(self, provider: str) -> bool:
        return provider in self.out

    async def analyze(self, claim: Claim, ledger: CallLedger) -> AnalysisResult:
        return await self.script(claim, ledger)


@dataclass(slots=True)
class HeardEnds:
    """Implements what a runner needs of `Announcer`."""

    ends: list[tuple[UUID, str, Any]] = field(default_factory=list)
    others: list[Command] = field(default_factory=list)
    """What was to be said in the same write."""

    async def ended(self, job_id: UUID, state: str, data: Any, *others: Command) -> None:
        self.ends.append((job_id, state, data))
        self.others += others


class Broker:
    """Implements `tasks.outbox.Publisher`. `away` makes it refuse; `published` and `refused` are set by each try."""

    def __init__(self) -> None:
        self.messages: list[Released] = []
        self.away = False
        self.published = asyncio.Event()
        self.refused = asyncio.Event()

    async def publish(self, messages: Sequence[Released]) -> None:
        if self.away:
            self.refused.set()
            raise ConnectionResetError("the broker is away")
        self.messages += messages
        self.published.set()

    def take(self) -> list[Released]:
        """All messages since the last taking."""
        taken, self.messages = self.messages, []
        self.published.clear()
        return taken


class JobWorld:
    """One database with the catalog mirrored, and what acts on it."""

    def __init__(self, engine: AsyncEngine, link: psycopg.Connection[dict[str, Any]]) -> None:
        self.engine = engine
        self.link = link
        self.store = JobStore(engine)
        self.broker = Broker()
        self.heard = HeardEnds()
        self.analyst = ScriptedAnalyst()

    # What is done -------------------------------------------------------------------------------------------------

    def enqueue(self, analysis: str = "quick", content: str = "text", **options: Any) -> UUID:
        [row] = self.sql("SELECT job_id FROM assayline_enqueue(%s, %s, %s)", analysis, content, Jsonb(options))
        found: UUID = row["job_id"]
        return found

    def cancel_jobs(self, filter: dict[str, Any], most: int = 1000, after: UUID | None = None) -> dict[str, Any]:  # noqa: A002
        """Cancel one portion by filter; what it says of itself."""
        [row] = self.sql("SELECT * FROM assayline_cancel_jobs(%s, %s, %s)", Jsonb(filter), most, after)
        return row

    def cancel(self, job: UUID) -> str:
        [row] = self.sql("SELECT assayline_cancel(%s) AS state", job)
        return str(row["state"])

    async def pause(self, kind: PauseKind, name: str, why: str = "") -> int:
        """Pause something of which nothing is locked; how many jobs wait again."""
        async with self.engine.connect() as connection:
            done = await pauses.pause(connection, kind, name, why)
        assert done.held == 0
        return done.jobs

    async def resume(self, kind: PauseKind, name: str) -> bool:
        async with self.engine.connect() as connection:
            return await pauses.resume(connection, kind, name)

    async def worker(self, slots: int = 4, providers: tuple[str, ...] = PROVIDERS) -> Incarnation:
        """A new incarnation that has sent its first heartbeat."""
        incarnation = Incarnation(uuid.uuid4(), "host", 1, providers, slots)
        assert (await self.store.heartbeat(incarnation)).fresh
        return incarnation

    def dispatcher(
        self, policy: Policy | None = None, *, engine: AsyncEngine | None = None, headroom: Headroom | None = None
    ) -> Dispatcher:
        return Dispatcher(engine or self.engine, self.broker, PROVIDERS, policy, headroom=headroom)

    async def blocks_of_a_release(self, groups: Sequence[dict[str, Any]] = ()) -> tuple[int, int]:
        """Blocks that a release of `one`'s bulk lane reads, its plans being made, and writes to files. It releases."""
        policy = asdict(Policy())
        rest = {"models": None, "most": None, "more": None}
        parameters = {
            "provider": "one",
            "lane": "bulk",
            "groups": json.dumps([*groups, rest]),
            "weights": "{}",
            "active_since": None,
            "most": policy["most_per_pass"],
        }
        names = ("backlog_share", "least_backlog", "bulk_share", "dead_after_s")
        explain = text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement("release").text)
        async with self.engine.connect() as connection:
            for _ in range(2):
                found = await connection.execute(explain, parameters | {name: policy[name] for name in names})
        plan = found.scalar_one()[0]["Plan"]
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], plan["Temp Written Blocks"]

    def rescuer(self) -> Dispatcher:
        """A dispatcher that takes a worker for dead after 1 s: the tests' server is seldom up for the usual 20.

        It must be up for that long, or nobody is taken for dead.
        """
        self.sql(
            "SELECT pg_sleep(greatest(0, 1.1 - extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())))"
        )
        return self.dispatcher(Policy(dead_after_s=1.0))

    def runner(self, incarnation: Incarnation, script: Analysis | None = None) -> Runner:
        if script is not None:
            self.analyst.script = script
        return Runner(self.store, self.analyst, self.heard, incarnation, rng=Random(1))  # type: ignore[arg-type]

    async def released(self, analysis: str = "quick", **options: Any) -> tuple[UUID, Incarnation, Released]:
        """A new job, a worker, and the job's message."""
        job, incarnation = self.enqueue(analysis, **options), await self.worker()
        await self.dispatcher().release("one")
        [message] = self.broker.take()
        assert message.id == job
        return job, incarnation, message

    async def claim(self, incarnation: Incarnation, message: Released) -> Claim | None:
        return await self.store.claim(message.id, message.release, incarnation, account="main", lease_s=300.0)

    async def claimed(self, analysis: str = "quick", **options: Any) -> tuple[Incarnation, Claim]:
        """A new job in the hands of a new worker."""
        _, incarnation, message = await self.released(analysis, **options)
        claim = await self.claim(incarnation, message)
        assert claim is not None
        return incarnation, claim

    def kill(self, incarnation: Incarnation) -> None:
        """Let the worker's last heartbeat lie 21 s back."""
        self.sql(
            "UPDATE assayline.workers SET heartbeat_at = heartbeat_at - interval '21 s' WHERE incarnation = %s",
            incarnation.id,
        )

    # What there is -------------------------------------------------------------------------------------------------

    def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        cursor = self.link.execute(statement, parameters)
        return cursor.fetchall() if cursor.description is not None else []

    def job(self, job: UUID) -> dict[str, Any]:
        [row] = self.sql("SELECT * FROM assayline.jobs WHERE id = %s", job)
        return row

    def calls(self, job: UUID) -> list[dict[str, Any]]:
        return self.sql("SELECT * FROM assayline.calls WHERE job_id = %s ORDER BY claim_no, call_no", job)

    def outcomes(self, job: UUID) -> list[tuple[int, int, str]]:
        return [(call["claim_no"], call["call_no"], call["outcome"]) for call in self.calls(job)]

    def results(self, job: UUID) -> list[dict[str, Any]]:
        return self.sql("SELECT * FROM assayline.results WHERE job_id = %s", job)


@asynccontextmanager
async def job_world(database_url: str) -> AsyncIterator[JobWorld]:
    """A world on this database, closed afterwards."""
    engine = create_engine(database_url)
    try:
        await mirror(engine, ANALYSES, MODELS)
        with psycopg.connect(database_url, autocommit=True, row_factory=dict_row, application_name="test") as link:
            yield JobWorld(engine, link)
    finally:
        await engine.dispose()
