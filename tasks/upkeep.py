"""The hourly housekeeping of the store. Idempotent: any number of processes may do it at once."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from tasks.sql import statement


async def upkeep(engine: AsyncEngine) -> None:
    """Forget workers long dead, and make the partitions of the coming months.

    Raises:
        OperationalError: somebody's transaction stays open over the tables; the next hour tries again, months ahead.
    """
    async with engine.connect() as connection:
        await connection.execute(statement("forget_workers"))
        await connection.execute(statement("ensure_partitions"))
