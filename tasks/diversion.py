"""Limit groups that make no calls, and taking their jobs over where another model has room.

A group is out where its provider is out of order, or where its money for the day is spent. Jobs stay where they are
until somebody can take them: the backlog of a provider that is away for a minute does not move as a whole to another
one, which may be dearer and have limits of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import GatewayError
from tasks.headroom import GroupRoom
from tasks.sparingly import Sparingly
from tasks.sql import statement

LOOKED_AT = 200
"""Jobs of a group that is out which one pass looks at, of each model and priority, for another's room."""


@dataclass(frozen=True, slots=True)
class Out:
    """Models of a provider that are not asked, and why. models: None stands for all but those that `others` names."""

    provider: str
    models: tuple[str, ...] | None
    others: tuple[str, ...]
    why: GatewayError

    @property
    def names(self) -> dict[str, object]:
        """As the statement takes it."""
        return {"provider": self.provider, "models": self.models, "others": self.others}


class Diversion:
    """What one dispatcher knows of outages."""

    def __init__(self, log: logging.Logger) -> None:
        self._out: dict[str, list[Out]] = {}
        self._sparingly = Sparingly(log)

    def note(self, provider: str, rooms: Sequence[GroupRoom]) -> None:
        """Remember which groups of a provider are out: those of which no account makes a call."""
        out = [room for room in rooms if room.out is not None]
        if out and len(out) == len(rooms):
            self._out[provider] = [Out(provider, None, (), out[0].out)] if out[0].out is not None else []
            return
        named = tuple(model for room in rooms for model in room.models or ())
        self._out[provider] = [
            Out(provider, room.models, () if room.models is not None else named, room.out)
            for room in out
            if room.out is not None
        ]

    def is_out(self, provider: str) -> bool:
        """Whether any group of a provider is out, as the last pass has seen it."""
        return bool(self._out.get(provider))

    async def take_over(self, connection: AsyncConnection, provider: str, lane: str, most: int) -> int:
        """Move due jobs to `provider` whose own group is out, `most` at most; returns how many."""
        taken = 0
        outages = [out for of_one in self._out.values() for out in of_one]
        names = json.dumps([out.names for out in outages])
        for out in outages:
            parameters = {"provider": out.provider, "lane": lane, "target": provider, "out": names}
            bounds = {
                "group": json.dumps(out.names),
                "most": most - taken,
                "looked": LOOKED_AT,
                "move": "fallback",
                "error": out.why.name,
                "message": str(out.why),
            }
            jobs = int((await connection.execute(statement("divert"), parameters | bounds)).scalar_one())
            if jobs:
                self._sparingly.switching(out.provider, out.why.name, provider)
            taken += jobs
        return taken
