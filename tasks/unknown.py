"""Calls of which nobody can say how they ended: their statements, and what becomes of a row of them.

A call is `unknown` from its first line in the ledger on. What is left so when its claim runs no more was made by a
worker that died: it may have been answered, and paid for. Nobody is asked to find out (`docs/ledger.md` says why).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects.postgresql.psycopg import dialect

from gateway.ledger import CallKind
from gateway.messages import ModelRef
from gateway.worst import SentCall, worst_usd
from tasks.sql import statement

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import TextClause

    from gateway.analyses.registry import AnalysisRegistry
    from gateway.catalog import Catalog

MOST_COUNTED = 10_000
"""Open or unknown calls that are looked at for a count: more than a fleet has open, and what takes 30 ms at most."""

LISTED, COUNTED = statement("unknown_calls"), statement("count_unknown_calls")


def wanted(
    *,
    jobs: int,
    tenant: str | None = None,
    analysis: str | None = None,
    provider: str | None = None,
    before: UUID | None = None,
) -> dict[str, Any]:
    """Return the parameters of `LISTED`.

    Args:
        jobs: of how many jobs, the latest first.
        tenant: only this one's.
        analysis: only of this one.
        provider: only its calls.
        before: only of jobs older than this one.
    """
    return {"jobs": jobs, "tenant": tenant, "analysis": analysis, "provider": provider, "before": before}


def described(row: Mapping[str, Any], catalog: Catalog, registry: AnalysisRegistry) -> dict[str, Any]:
    """Return what is told of a call.

    `worst_usd`: what it may have cost at most, by our estimate; None: unknown. `worker`: `{hostname, pid}`; None where
    it has been forgotten, an hour after its last sign of life.
    """
    sent = SentCall(
        ModelRef(row["provider"], row["model"]),
        row["analysis"],
        CallKind(row["kind"]),
        row["prompt_version"],
        row["max_tokens"],
        row["input_bytes"],
        row["shaping_bytes"],
        row["messages"],
        row["day"],
    )
    names = ("job_id", "claim_no", "call_no", "kind", "tenant", "analysis", "provider", "account", "model")
    return {
        **{name: row[name] for name in names},
        "incarnation": row["incarnation"],
        "worker": None if row["pid"] is None else {"hostname": row["hostname"], "pid": row["pid"]},
        "started_at": row["started_at"],
        "job_state": row["job_state"],
        "worst_usd": worst_usd(sent, catalog, registry),
    }


def for_psycopg(what: TextClause) -> str:
    """Return a statement as psycopg takes it, parameters by name, for who has no engine."""
    return str(what.compile(dialect=dialect()))  # type: ignore[no-untyped-call]
