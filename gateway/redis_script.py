"""A Lua script beside the module that runs it: sent by its hash, in full where the server does not know it yet.

A script may be made of several files, those first whose functions the others call, and of constants that its process
goes by. What only people read of it is not sent.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, ResponseError

from gateway.redis_line import RedisAway

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.redis_line import Command, RedisLine


@dataclass(frozen=True, slots=True)
class Script:
    """One script. Sent twice it must do no more than sent once, as all that travels on a `RedisLine`."""

    text: str
    sha: str

    @classmethod
    def read(cls, *paths: str, policy: Mapping[str, int | float | str] | None = None) -> Script:
        """Read `gateway/<path>`, one file after the other.

        Args:
            paths: of the files.
            policy: constants, which the script finds in a table `policy`.
        """
        parts = [_without_comments(files("gateway").joinpath(path).read_text(encoding="utf-8")) for path in paths]
        text = "\n".join(parts)
        used = {name: value for name, value in (policy or {}).items() if f"policy.{name}" in text}
        if used:
            constants = ", ".join(f"{name} = {json.dumps(value)}" for name, value in used.items())
            text = f"local policy = {{{constants}}}\n{text}"
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    async def run(self, line: RedisLine, keys: Sequence[str | bytes], arguments: Sequence[str | bytes | int]) -> Any:
        """Run it and return its reply.

        Raises:
            RedisAway: see `RedisLine.ask`; or the script failed, or the server refuses it, which is no better.
        """
        try:
            return await self._reply(line, keys, arguments)
        except ResponseError as refusal:
            raise RedisAway("Redis refuses a script") from refusal

    async def _reply(self, line: RedisLine, keys: Sequence[str | bytes], arguments: Sequence[str | bytes | int]) -> Any:
        try:
            [reply] = await line.ask(("EVALSHA", self.sha, len(keys), *keys, *arguments))
        except NoScriptError:
            [reply] = await line.ask(self.whole(keys, arguments))
        return reply

    def whole(self, keys: Sequence[str | bytes], arguments: Sequence[str | bytes | int]) -> Command:
        """The command that holds the whole script, for `RedisLine.post`, which sees no reply."""
        return ("EVAL", self.text, len(keys), *keys, *arguments)


def _without_comments(text: str) -> str:
    """Leave out lines that are comments, and indentation. A comment behind code stays: it could be a string."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--"))
