"""The hourly housekeeping of the store. Idempotent: any number of processes may do it at once."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from tasks.sql import statement


async def upkeep(engine: AsyncEngine) -> None:
    """Make the partitions of the coming months, and forget workers long dead."""
    async with engine.connect() as connection:
        await connection.execute(statement("ensure_partitions"))
        await connection.execute(statement("forget_workers"))
