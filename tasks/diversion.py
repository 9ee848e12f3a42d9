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

_Look = tuple[str, tuple[str, ...] | None, str, str]
"""What is looked through for whom: provider and models that are out, who takes over, lane."""

LOOKED_AT = 200
"""Jobs of a group that is out which one pass looks at, of each model and priority, for another's room. The next pass
looks on behind them: what may not move must not hold up what may."""


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


@dataclass(frozen=True, slots=True)
class Spare:
    """How many more jobs some models have room for. models: None stands for all that no other group names."""

    models: tuple[str, ...] | None
    jobs: int


class Diversion:
    """What one dispatcher knows of outages."""

    def __init__(self, log: logging.Logger) -> None:
        self._out: dict[str, list[Out]] = {}
        self._behind: dict[_Look, str] = {}
        """Where a look goes on, of each model and priority, as the statement tells and takes it."""
        self._sparingly = Sparingly(log)

    def note(self, provider: str, rooms: Sequence[GroupRoom]) -> None:
        """Remember which groups of a provider are out: those of which no account makes a call."""
        out = [room for room in rooms if room.out is not None]
        if not out:
            self._behind = {look: at for look, at in self._behind.items() if look[0] != provider}
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

    async def take_over(
        self, connection: AsyncConnection, provider: str, lane: str, most: int, spare: Sequence[Spare]
    ) -> int:
        """Move due jobs to `provider` whose own group is out; returns how many.

        Args:
            connection: each statement a transaction of its own.
            provider: who takes them.
            lane: theirs.
            most: at most so many in all.
            spare: and of each of its groups so many.
        """
        outages = [out for of_one in self._out.values() for out in of_one]
        if not outages or not any(group.jobs for group in spare):
            return 0
        common = {
            "target": provider,
            "lane": lane,
            "out": json.dumps([out.names for out in outages]),
            "spare": json.dumps([{"models": group.models, "jobs": group.jobs} for group in spare]),
            "looked": LOOKED_AT,
            "move": "fallback",
        }
        taken = 0
        for out in outages:
            look = (out.provider, out.models, provider, lane)
            its = {
                "provider": out.provider,
                "group": json.dumps(out.names),
                "most": most - taken,
                "behind": self._behind.get(look, "[]"),
                "error": out.why.name,
                "message": str(out.why),
            }
            told = (await connection.execute(statement("divert"), common | its)).one()
            self._behind[look] = told.behind
            if told.jobs:
                self._sparingly.switching(out.provider, out.why.name, provider)
            taken += told.jobs
        return taken
