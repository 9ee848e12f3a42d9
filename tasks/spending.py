"""What a limit group has spent, out of the ledger: what the limiter begins a day with."""

from __future__ import annotations

import asyncio
from datetime import datetime
from decimal import Decimal

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.limits.group import LimitGroup
from gateway.limits.groups import LimitGroups
from gateway.limits.money import LedgerAway
from tasks.sql import statement

TIMEOUT_S = 10.0
"""A million calls of one day are summed up in a second."""
DAYS_BEFORE = 7
"""So far back it is looked for what a call costs, where the day does not tell: that reads their calls, once a day."""


class LedgerSpending:
    """Implements `gateway.limits.money.Spending` over the store."""

    def __init__(self, engine: AsyncEngine, groups: LimitGroups) -> None:
        self._engine = engine
        self._groups = groups

    async def spent_usd(self, group: LimitGroup, since: datetime) -> Decimal:
        """See `Spending.spent_usd`. A call of unknown cost counts as `spent_usd.sql` says."""
        models, others = self._groups.models(group)
        parameters = {"provider": group.provider, "account": group.account, "since": since}
        parameters |= {"models": models, "others": others}
        parameters |= {"days_before": DAYS_BEFORE, "worst_usd": self._groups.worst_cost_usd(group)}
        try:
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                spent = (await connection.execute(statement("spent_usd"), parameters)).scalar_one()
        except (SQLAlchemyError, OSError) as error:  # a timeout is an OSError
            raise LedgerAway(type(error).__name__) from error
        if spent is None:
            raise LedgerAway(f"nobody knows what a call of {group} costs, and there are such whose cost is unknown")
        return Decimal(spent)
