"""The job store: every write a job ever sees, each one fenced statement of `tasks/sql`.

Statements run on an AUTOCOMMIT engine: one statement is one transaction, one round trip. Nothing here
decides; `tasks.verdict` does. Writes that follow a paid call are tried again while Postgres is away (see
`tasks.patience`), because their answer exists nowhere else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping
from sqlalchemy.event import listens_for
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from gateway.ledger import NOT_CALLED, CallEnd, CallKind, CallStart
from gateway.messages import AnalysisResult, JsonObject, Usage
from tasks.job import Claim
from tasks.listen import LIVE_LINK
from tasks.patience import patiently
from tasks.sql import statement
from tasks.storable import storable

POOL_SIZE = 8
"""Connections per process: a statement takes half a millisecond, so 8 carry thousands a second; a thousand calls in
flight hold none while they wait."""


SESSION = (
    # A web app's open transaction that cancels jobs must not hold our connections: the write is tried again.
    "SET lock_timeout TO '2s'; "
    # A process that froze, or whose host is gone, must not keep the lock its provider's release needs.
    "SET idle_in_transaction_session_timeout TO '10s'"
)


def create_engine(
    database_url: str, *, pool_size: int = POOL_SIZE, durable: bool = True, replan: bool = True
) -> AsyncEngine:
    """Build the AUTOCOMMIT engine of one process. Nothing connects before its first statement.

    Args:
        database_url: libpq style, `postgresql://…`.
        pool_size: connections kept; ten seconds of waiting for one is an error.
        durable: whether a commit waits for the disk. The dispatcher's need not: a release that a crash of Postgres
            forgets leaves a job `scheduled` and a stale message.
        replan: whether Postgres may plan a statement anew for its parameters. Of a statement on one job over all
            partitions the planning takes five times as long as the doing; the plan is always the same, by an index.
    """
    url = database_url.replace("postgres://", "postgresql://", 1).replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,  # they hold content and answers, and errors are logged
        poolclass=AsyncAdaptedQueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_use_lifo=True,  # the connection used last has its plans at hand
        pool_timeout=10,
        connect_args={"connect_timeout": 5, "application_name": "assayline", **LIVE_LINK},
    )
    settings = SESSION if durable else f"{SESSION}; SET synchronous_commit TO off"
    if not replan:
        settings += "; SET plan_cache_mode TO force_generic_plan; SET enable_seqscan TO off"

    @listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(settings)
        connection.commit()

    return engine


STATEMENT_TIMEOUT_S = 30.0
"""A statement that takes longer counts as Postgres being away. They take half a millisecond."""
CLAIM_TIMEOUT_S = 10.0
"""A claim's: nothing is lost by giving it up."""
UNHELD_AFTER_S = CLAIM_TIMEOUT_S + 5.0
"""So long after it was made a claim's reply has come, or comes no more."""


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One life of one worker process: its name in the store, what it serves, how many jobs at once."""

    id: UUID
    hostname: str
    pid: int
    providers: tuple[str, ...]
    slots: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What the calls of one claim used, cost (None: unknown) and took together."""

    usage: Usage
    cost_usd: Decimal | None
    latency_s: float
    calls: int


@dataclass(frozen=True, slots=True)
class LastCall:
    """A claim's latest call and what is known of it, for a claim that is handed back."""

    job_id: UUID
    claim_no: int
    call_no: int
    end: CallEnd


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat found. `fresh`: its incarnation was not on the list; `lost`: claims no longer its own."""

    fresh: bool
    lost: tuple[tuple[UUID, int], ...]


class JobStore:
    """The worker's half of the store: claims, calls, ends, heartbeats."""

    def __init__(self, engine: AsyncEngine, beats: AsyncEngine | None = None) -> None:
        self._engine = engine
        self._beats = beats or engine
        """Heartbeats' own connection: a pool that is busy must not make its worker look dead."""

    async def claim(
        self, job_id: UUID, release: int, incarnation: Incarnation, *, account: str, lease_s: float
    ) -> Claim | None:
        """Claim a released job and open its first call, or return None where the message is stale.

        `lease_s`: seconds after which the dispatcher takes the attempt for stuck. Not tried again on a lost
        connection: the dispatcher republishes what stays `queued`, and the heartbeat finds what stays `running`.
        """
        rows = await self._all(
            "claim",
            within_s=CLAIM_TIMEOUT_S,
            id=job_id,
            release=release,
            incarnation=incarnation.id,
            providers=list(incarnation.providers),
            account=account,
            lease_s=lease_s,
        )
        return Claim.from_row(dict(rows[0])) if rows else None

    async def open_call(self, claim: Claim, call_no: int, end: CallEnd, start: CallStart) -> tuple[bool, bool]:
        """Close call `call_no` with `end` and open the one after it; tried again while Postgres is away.

        Returns:
            (opened, owned): not opened but owned means the retry budget is spent; not owned, that the fence fell.
        """
        rows = await self._patiently(
            "open_call",
            id=claim.id,
            claim_no=claim.claim_no,
            call_no=call_no,
            kind=start.kind.value,
            account=start.account,
            **_call_end(end),
        )
        return bool(rows[0]["opened"]), bool(rows[0]["owned"])

    async def charge_call(self, claim: Claim, call_no: int, account: str, kind: CallKind | None = None) -> bool:
        """Write that another account makes an open call, or that it is of another kind (None: of the one it has).

        False: the fence fell. Tried again while Postgres is away.
        """
        rows = await self._patiently(
            "charge_call",
            id=claim.id,
            claim_no=claim.claim_no,
            call_no=call_no,
            account=account,
            kind=None if kind is None else kind.value,
        )
        return bool(rows[0]["yes"])

    async def close_lost_calls(
        self, claim: Claim, ends: Mapping[tuple[int, int], CallEnd]
    ) -> Collection[tuple[int, int]]:
        """Close calls of earlier claims, whose ends have been found after all; tried again while Postgres is away.

        Args:
            claim: that found them.
            ends: by claim and call number.

        Returns:
            Those that were `unknown` until now; the others keep what the ledger has.
        """
        told = [
            {"claim_no": claim_no, "call_no": call_no, **_end_as_json(end)} for (claim_no, call_no), end in ends.items()
        ]
        rows = await self._patiently(
            "close_lost_calls", id=claim.id, claim_no=claim.claim_no, ends=json.dumps(storable(told))
        )
        return {(row["claim_no"], row["call_no"]) for row in rows}

    async def succeed(
        self, claim: Claim, call_no: int, end: CallEnd, result: AnalysisResult, *, refund: int = 0
    ) -> bool:
        """Close the last call, end the job well and keep its result. False: the fence fell; only the call is closed.

        `refund`: attempts given back (1 where a remembered answer spared the call, else 0).
        """
        return await self._write(
            "succeed",
            id=claim.id,
            claim_no=claim.claim_no,
            call_no=call_no,
            data=json.dumps(storable(result.data)),
            raw_text=storable(result.raw_text),
            repaired=result.repaired,
            cached=result.cached,
            refund=refund,
            result_model=result.model,
            prompt_version=result.prompt_version,
            **_totals(Totals(result.usage, result.cost_usd, result.latency_s, result.calls)),
            **_call_end(end),
        )

    async def fail(
        self,
        claim: Claim,
        call_no: int,
        end: CallEnd,
        *,
        reason: str,
        cause: JsonObject,
        totals: Totals,
        refund: int = 0,
        raw_text: str | None = None,
    ) -> bool:
        """Close the last call and make the job a dead letter. `raw_text` of an answer that was no result is kept.

        `refund`: attempts given back (1 where no call was made, else 0).
        """
        return await self._write(
            "fail",
            id=claim.id,
            claim_no=claim.claim_no,
            call_no=call_no,
            reason=reason,
            refund=refund,
            cause=json.dumps(storable([cause])),
            raw_text=storable(raw_text),
            prompt_version=claim.prompt_version or "",
            **_totals(totals),
            **_call_end(end),
        )

    async def reschedule(
        self,
        claim: Claim,
        call_no: int,
        end: CallEnd,
        *,
        reason: str,
        delay_s: float,
        hop: int,
        refund: int,
        cause: JsonObject | None,
    ) -> bool:
        """Close the last call and put the job back to wait `delay_s` seconds, at `hop` of its chain.

        `refund`: attempts given back (1 where no call was made, else 0).
        """
        provider, _, model = claim.chain[hop].partition("/")
        return await self._write(
            "reschedule",
            id=claim.id,
            claim_no=claim.claim_no,
            call_no=call_no,
            reason=reason,
            delay_s=delay_s,
            hop=hop,
            provider=provider,
            model=model,
            refund=refund,
            cause=json.dumps(storable([cause] if cause else [])),
            **_call_end(end),
        )

    async def close_call(self, claim: Claim, call_no: int, end: CallEnd) -> None:
        """Close a claim's latest call, whoever its job belongs to by now; tried again while Postgres is away."""
        await self._patiently("close_call", id=claim.id, claim_no=claim.claim_no, call_no=call_no, **_call_end(end))

    async def hand_back(self, incarnation: Incarnation, ends: Sequence[LastCall]) -> int:
        """Give back every job the incarnation still runs; `ends` says what is known of their latest calls."""
        return await self._hand_back(incarnation, ends, every=True)

    async def hand_back_unheld(self, incarnation: Incarnation, claims: Sequence[tuple[UUID, int]]) -> int:
        """Give back claims of which the incarnation had no reply, so that it has made no call under them."""
        return await self._hand_back(incarnation, [LastCall(*claim, 1, NOT_CALLED) for claim in claims], every=False)

    async def _hand_back(self, incarnation: Incarnation, ends: Sequence[LastCall], *, every: bool) -> int:
        rows = await self._patiently(
            "hand_back",
            incarnation=incarnation.id,
            providers=list(incarnation.providers),
            every=every,
            ends=json.dumps(storable([_last_call(end) for end in ends])),
        )
        return int(rows[0]["count"])

    async def heartbeat(
        self, incarnation: Incarnation, *, stopping: bool = False, held: Sequence[tuple[UUID, int]] = ()
    ) -> Beat:
        """Say that the incarnation lives, and ask which of its claims (job, `claim_no`) are no longer its own."""
        rows = await self._all(
            "heartbeat",
            engine=self._beats,
            incarnation=incarnation.id,
            hostname=incarnation.hostname,
            pid=incarnation.pid,
            providers=list(incarnation.providers),
            slots=incarnation.slots,
            stopping=stopping,
            jobs=[job_id for job_id, _ in held],
            claims=[claim_no for _, claim_no in held],
        )
        return Beat(bool(rows[0]["fresh"]), tuple(held[place - 1] for place in rows[0]["lost"]))

    async def unheld(self, incarnation: Incarnation, held: Sequence[tuple[UUID, int]]) -> Sequence[tuple[UUID, int]]:
        """Return the claims that are the incarnation's, and that are not among those it holds: no reply came.

        Claims are job and `claim_no`. Those so young that their replies may still come are left out.
        """
        rows = await self._all(
            "unheld",
            engine=self._beats,
            incarnation=incarnation.id,
            providers=list(incarnation.providers),
            jobs=[job_id for job_id, _ in held],
            claims=[claim_no for _, claim_no in held],
            unheld_after_s=UNHELD_AFTER_S,
        )
        return [(row["id"], row["claim_no"]) for row in rows]

    async def retire(self, incarnation: Incarnation) -> None:
        """Take a stopped incarnation off the list."""
        async with self._engine.connect() as connection:
            await connection.execute(statement("retire_worker"), {"incarnation": incarnation.id})

    async def aclose(self) -> None:
        """Close the process's connections."""
        await self._engine.dispose()
        await self._beats.dispose()

    async def _write(self, name: str, **parameters: Any) -> bool:
        rows = await self._patiently(name, **parameters)
        return bool(rows[0]["count"])

    async def _patiently(self, name: str, **parameters: Any) -> Sequence[RowMapping]:
        return await patiently(lambda: self._all(name, **parameters))

    async def _all(
        self, name: str, engine: AsyncEngine | None = None, within_s: float = STATEMENT_TIMEOUT_S, **parameters: Any
    ) -> Sequence[RowMapping]:
        async with asyncio.timeout(within_s), (engine or self._engine).connect() as connection:
            return (await connection.execute(statement(name), parameters)).mappings().all()


def _call_end(end: CallEnd) -> dict[str, Any]:
    usage = end.usage
    return {
        "outcome": end.outcome.value,
        "latency_s": end.latency_s,
        "input_tokens": usage.input_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cost_usd": end.cost_usd,
        "estimated": end.estimated,
        "finish_reason": storable(end.finish_reason),
        "provider_request_id": storable(end.provider_request_id),
        "error": end.error,
        "error_message": storable(end.error_message),
    }


def _last_call(last: LastCall) -> JsonObject:
    return {
        "job_id": str(last.job_id),
        "claim_no": last.claim_no,
        "call_no": last.call_no,
        **_end_as_json(last.end),
    }


def _end_as_json(end: CallEnd) -> JsonObject:
    return {**_call_end(end), "cost_usd": None if end.cost_usd is None else str(end.cost_usd)}


def _totals(totals: Totals) -> dict[str, Any]:
    return {
        "total_input_tokens": totals.usage.input_tokens,
        "total_cached_tokens": totals.usage.cached_tokens,
        "total_output_tokens": totals.usage.output_tokens,
        "total_cost_usd": totals.cost_usd,
        "total_latency_s": totals.latency_s,
        "calls": totals.calls,
    }
