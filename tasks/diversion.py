"""Limit groups that make no calls, and taking their jobs over where another model has room.

A group is out where its provider is out of order, or where its money for the day is spent. Jobs stay where they are
until somebody can take them: the backlog of a provider that is away for a minute does not move as a whole to another
one, which may be dearer and have limits of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import GatewayError
from tasks.headroom import GroupRoom
from tasks.sparingly import Sparingly
from tasks.sql import statement

_Look = tuple[str, tuple[str, ...] | None, str, str]
"""What is looked through for whom: provider and models that are out, who takes over, lane."""

LOOKED_AT = 200
"""Jobs of a group that is out which one look takes in for another's room, evenly of the tenants, models and analyses
that it comes to. The next look goes on behind them: what may not move must not hold up what may."""
LOOKS = 25
"""In one pass at most, where nothing is found that may move."""
NOTHING_BEHIND = '{"at": [], "tenant": null}'


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
        """Where a look goes on, as the statement tells and takes it."""
        self._sparingly = Sparingly(log)

    def note(self, provider: str, rooms: Sequence[GroupRoom]) -> None:
        """Remember which groups of a provider are out: those of which no account makes a call."""
        out = [room for room in rooms if room.out is not None]
        if not out:
            self._behind = {look: at for look, at in self._behind.items() if look[0] != provider}
        named = tuple(model for room in rooms for model in room.models or ())
        self._out[provider] = [
            Out(provider, room.models, () if room.models is not None else named, room.out)
            for room in out
            if room.out is not None
        ]
        listed_are_all = any(room.models is None for room in rooms)
        if out and len(out) == len(rooms) and not listed_are_all and out[0].out is not None:
            self._out[provider].append(Out(provider, None, named, out[0].out))  # models that no group holds

    def is_out(self, provider: str) -> bool:
        """Whether any group of a provider is out, as the last pass has seen it."""
        return bool(self._out.get(provider))

    def may_take_over(self, most: int, spare: Sequence[Spare]) -> bool:
        """Whether a provider with so much room could take anything over."""
        return any(self._out.values()) and most > 0 and any(group.jobs for group in spare)

    async def take_over(
        self, connection: AsyncConnection, provider: str, lane: str, most: int, spare: Sequence[Spare]
    ) -> int:
        """Move due jobs to `provider` whose own group is out; returns how many.

        Those of one outage: what the others leave behind, the next pass finds, with the room that is left then.

        Args:
            connection: holds the provider's lock since the room was counted.
            provider: who takes them.
            lane: theirs.
            most: at most so many in all.
            spare: and of each of its groups so many.
        """
        if not self.may_take_over(most, spare):
            return 0
        outages = [out for of_one in self._out.values() for out in of_one]
        common = {
            "target": provider,
            "lane": lane,
            "most": most,
            "out": json.dumps([out.names for out in outages]),
            "spare": json.dumps([{"models": group.models, "jobs": group.jobs} for group in spare]),
            "looked": LOOKED_AT,
            "move": "fallback",
        }
        for out in outages:
            taken = await self._taken(connection, out, (out.provider, out.models, provider, lane), common)
            if taken:
                self._sparingly.switching(out.provider, out.why.name, provider)
                return taken
        return 0

    async def _taken(self, connection: AsyncConnection, out: Out, look: _Look, common: Mapping[str, object]) -> int:
        its = {
            "provider": out.provider,
            "group": json.dumps(out.names),
            "error": out.why.name,
            "message": str(out.why),
        }
        for _ in range(LOOKS):
            before = self._behind.get(look, NOTHING_BEHIND)
            told = (await connection.execute(statement("divert"), {**common, **its, "behind": before})).one()
            self._behind[look] = told.behind
            if told.jobs or told.behind in (before, NOTHING_BEHIND):
                return int(told.jobs)
        return 0
