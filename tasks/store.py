"""The job store: every write a job ever sees, each one fenced statement of `tasks/sql`.

Statements run on an AUTOCOMMIT engine: one statement is one transaction, one round trip. Nothing here
decides; `tasks.verdict` does. Writes that follow a paid call are tried again while Postgres is away (see
`tasks.patience`), because their answer exists nowhere else; a claim, because its message is in hand.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger import NOT_CALLED, CallEnd, CallKind, CallStart
from gateway.messages import AnalysisResult, JsonObject
from tasks.ends import LastCall, Totals, call_as_json, call_parameters, last_call_as_json, totals_parameters
from tasks.job import Claim
from tasks.patience import out_of_reach, patiently
from tasks.sql import statement
from tasks.storable import storable

STATEMENT_TIMEOUT_S = 30.0
"""A statement that takes longer counts as Postgres being away. They take half a millisecond."""
CLAIM_TIMEOUT_S = 10.0
"""One try of a claim's: nothing is lost by giving it up."""
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

        `lease_s`: seconds after which the dispatcher takes the attempt for stuck. Tried again while Postgres is away:
        the message is in hand, and given up it would be missed for fifteen seconds. Not where somebody has the job
        locked: it would hold a slot for as long as their transaction is open. Where a claim went through and its
        reply was lost, the next try finds the message stale, and `unheld` what it has.
        """
        rows = await patiently(
            lambda: self._all(
                "claim",
                within_s=CLAIM_TIMEOUT_S,
                id=job_id,
                release=release,
                incarnation=incarnation.id,
                providers=list(incarnation.providers),
                account=account,
                lease_s=lease_s,
            ),
            passing=out_of_reach,
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
            **call_parameters(end),
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
            {"claim_no": claim_no, "call_no": call_no, **call_as_json(end)} for (claim_no, call_no), end in ends.items()
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
            **totals_parameters(Totals(result.usage, result.cost_usd, result.latency_s, result.calls)),
            **call_parameters(end),
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
            **totals_parameters(totals),
            **call_parameters(end),
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
            **call_parameters(end),
        )

    async def close_call(self, claim: Claim, call_no: int, end: CallEnd) -> None:
        """Close a claim's latest call, whoever its job belongs to by now; tried again while Postgres is away."""
        await self._patiently(
            "close_call", id=claim.id, claim_no=claim.claim_no, call_no=call_no, **call_parameters(end)
        )

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
            ends=json.dumps(storable([last_call_as_json(end) for end in ends])),
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
