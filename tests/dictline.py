"""A line to a Redis that is a dict: for the few commands of the journal, without a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.redis_line import RedisAway

if TYPE_CHECKING:
    from gateway.redis_line import Command


@dataclass(slots=True)
class DictLine:
    """Does what `RedisLine` does, at once. `away`: it refuses; `kept` outlives it, as a server does its clients."""

    kept: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    """The names of all commands."""
    away: bool = False

    async def ask(self, *commands: Command) -> list[Any]:
        return [self._done(command) for command in commands]

    def post(self, *commands: Command, at_once: bool = False) -> None:
        for command in commands:
            self._done(command)

    def _done(self, command: Command) -> Any:
        if self.away:
            raise RedisAway("it is away")
        name, key, *more = command
        self.said.append(str(name))
        match name:
            case "GET":
                return self.kept.get(str(key))
            case "EXISTS":
                return int(str(key) in self.kept)
            case "SET":
                self.kept[str(key)] = more[0]
            case "DEL":
                self.kept.pop(str(key), None)
            case "HINCRBY":
                self.counts[str(more[0])] = self.counts.get(str(more[0]), 0) + int(more[1])
            case _:
                raise AssertionError(f"the journal says {name}")
        return None
