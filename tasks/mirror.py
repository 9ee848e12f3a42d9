"""Mirrors the catalog into Postgres, where `assayline_enqueue` resolves and refuses by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

MIRROR_LOCK = 4_201_972
"""Advisory lock key: processes that boot at once mirror one after the other."""


@dataclass(frozen=True, slots=True)
class MirroredAnalysis:
    """What enqueueing must know of an analysis: hops of configured providers, lane, retry budget."""

    name: str
    chain: tuple[str, ...]
    lane: str
    max_attempts: int


async def mirror(engine: AsyncEngine, analyses: Iterable[MirroredAnalysis], models: Sequence[str]) -> None:
    """Replace the mirrored catalog by this one, as one transaction."""
    rows = [{"name": a.name, "chain": list(a.chain), "lane": a.lane, "max_attempts": a.max_attempts} for a in analyses]
    async with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIRROR_LOCK})
        await connection.execute(text("DELETE FROM assayline.catalog_analyses"))
        await connection.execute(text("DELETE FROM assayline.catalog_models"))
        if rows:
            await connection.execute(
                text("INSERT INTO assayline.catalog_analyses VALUES (:name, :chain, :lane, :max_attempts)"), rows
            )
        if models:
            await connection.execute(
                text("INSERT INTO assayline.catalog_models VALUES (:name)"), [{"name": name} for name in models]
            )
