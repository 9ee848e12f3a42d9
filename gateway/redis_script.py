"""A Lua script beside the module that runs it: sent by its hash, in full where the server does not know it yet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.redis_line import Command, RedisLine


@dataclass(frozen=True, slots=True)
class Script:
    """One script. Sent twice it must do no more than sent once, as all that travels on a `RedisLine`."""

    text: str
    sha: str

    @classmethod
    def read(cls, room: str, name: str) -> Script:
        """Read `gateway/<room>/<name>`."""
        text = files("gateway").joinpath(room, name).read_text(encoding="utf-8")
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    async def run(self, line: RedisLine, keys: Sequence[str | bytes], arguments: Sequence[str | bytes | int]) -> Any:
        """Run it and return its reply.

        Raises:
            RedisAway: see `RedisLine.ask`.
            ResponseError: the script failed, or the server refuses it.
        """
        try:
            [reply] = await line.ask(("EVALSHA", self.sha, len(keys), *keys, *arguments))
        except NoScriptError:
            [reply] = await line.ask(self.whole(keys, arguments))
        return reply

    def whole(self, keys: Sequence[str | bytes], arguments: Sequence[str | bytes | int]) -> Command:
        """The command that holds the whole script, for `RedisLine.post`, which sees no reply."""
        return ("EVAL", self.text, len(keys), *keys, *arguments)
