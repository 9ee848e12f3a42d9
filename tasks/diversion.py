"""Providers that are out of order, and taking their jobs over where another provider has room.

Jobs stay where they are until somebody can take them: the backlog of a provider that is away for a minute does not move
as a whole to another one, which may be dearer and have limits of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import GatewayError
from tasks.headroom import GroupRoom
from tasks.sparingly import Sparingly
from tasks.sql import statement

LOOKED_AT = 200
"""Jobs of a provider that is out of order which one pass looks at, of each model and priority, for another's room."""


class Diversion:
    """What one dispatcher knows of outages."""

    def __init__(self, log: logging.Logger) -> None:
        self._out: dict[str, GatewayError] = {}
        self._sparingly = Sparingly(log)

    def note(self, provider: str, rooms: Sequence[GroupRoom]) -> None:
        """Remember whether a provider is out of order: whether no account of any of its groups makes a call."""
        reasons = [room.out for room in rooms if room.out is not None]
        if reasons and len(reasons) == len(rooms):
            self._out[provider] = reasons[0]
        else:
            self._out.pop(provider, None)

    def is_out(self, provider: str) -> bool:
        """Whether a provider is out of order, as the last pass has seen it."""
        return provider in self._out

    async def take_over(self, connection: AsyncConnection, provider: str, lane: str, most: int) -> int:
        """Move due jobs to `provider` whose own is out of order, `most` at most; returns how many."""
        taken = 0
        for at, why in self._out.items() if provider not in self._out else ():
            parameters = {"provider": at, "lane": lane, "target": provider, "out": list(self._out)}
            bounds = {
                "most": most - taken,
                "looked": LOOKED_AT,
                "move": "fallback",
                "error": why.name,
                "message": str(why),
            }
            jobs = int((await connection.execute(statement("divert"), parameters | bounds)).scalar_one())
            if jobs:
                self._sparingly.switching(at, why.name, provider)
            taken += jobs
        return taken
