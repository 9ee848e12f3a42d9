"""A process's line to Redis: one connection, over which whatever is due in one turn of the loop goes as one write.

Under load many jobs share one system call; a lone command costs a third of what a client's pooled round trip does
(figures in ADR 0009). The room knows bytes and commands, and neither what they mean nor who sends them.

What travels here is a courtesy (an answer remembered, an end told): its sender goes on without it. So nobody waits for
a Redis that is away: the first failure is told in one log line, from then on every command is refused at once, and one
probe a second looks whether the server is back. A command may reach the server twice (the connection broke before its
reply came), so only such are sent as may be repeated.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoScriptError, ResponseError

from gateway.redis_clients import connection_pool

Command = tuple[str | bytes | int, ...]

TIMEOUT_S = 1.0
"""For one write and all its replies, connecting included. They take a fifth of a millisecond."""
PROBE_EVERY_S = 1.0
LINGER_S = 0.02
"""How long a posted command waits for another's write to go along with."""
REFUSAL_TOLD_EVERY_S = 60.0
"""A server that is full refuses every write: one log line a minute says so."""

log = logging.getLogger(__name__)


class RedisAway(Exception):
    """The command did not get its reply, or was not even sent. Its sender goes on without."""


@dataclass(frozen=True, slots=True)
class _Due:
    """Commands that wait to be sent, and where their replies are wanted: None is nowhere."""

    commands: Sequence[Command]
    replies: asyncio.Future[list[Any]] | None


class RedisLine:
    """One process's line. Made anywhere, used on one event loop; nothing connects before the first command."""

    def __init__(
        self,
        connection: AbstractConnection,
        *,
        timeout_s: float = TIMEOUT_S,
        probe_every_s: float = PROBE_EVERY_S,
        tells: bool = True,
    ) -> None:
        self._tells = tells
        self._connection = connection
        self._timeout_s = timeout_s
        self._probe_every_s = probe_every_s
        self._due: list[_Due] = []
        self._sending: asyncio.Task[None] | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._probing: asyncio.Task[None] | None = None
        self._refusal_told_at = -math.inf
        self._close_pool: Callable[[], Awaitable[None]] | None = None
        """Of the pool that the connection was made by: one of Sentinels finds the master, and must live as long."""

    @classmethod
    def from_url(
        cls, url: str, *, timeout_s: float = TIMEOUT_S, probe_every_s: float = PROBE_EVERY_S, tells: bool = True
    ) -> RedisLine:
        """Make a line to a server.

        Args:
            url: `redis://`, `rediss://` or `unix://`, as redis-py reads it, or `sentinel://` (`redis_url`): then each
                new connection asks the Sentinels for the master.
            timeout_s: bound of one write with all its replies.
            probe_every_s: pause between two looks at a server that is away.
            tells: whether the log says that it is away, and what goes undone; not where the caller tells that itself.
        """
        # No retries and no timeouts in there: both are ours, for a whole write.
        pool = connection_pool(url, socket_timeout=None, retry=Retry(NoBackoff(), 0))
        connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
        made = cls(connection, timeout_s=timeout_s, probe_every_s=probe_every_s, tells=tells)
        made._close_pool = pool.aclose
        return made

    async def ask(self, *commands: Command) -> list[Any]:
        """Send commands, in this order, and return their replies.

        Raises:
            RedisAway: no reply came within the bound, or the server was found away before.
            ResponseError: the server refuses one of them (wrong type, no such script, out of memory).
        """
        self._admit()
        replies: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._due.append(_Due(commands, replies))
        self._send()
        return await replies

    def post(self, *commands: Command, at_once: bool = False) -> None:
        """Send commands whose replies nobody wants, with the next write or `LINGER_S` from now at the latest.

        Args:
            commands: in this order, after all that was posted before.
            at_once: whether the next write is now, for what is of no use later; it takes along what lingers.

        Raises:
            RedisAway: the server was found away before.
        """
        self._admit()
        self._due.append(_Due(commands, None))
        if at_once:
            self._send()
        elif self._sending is None and self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self._send)

    @property
    def away(self) -> bool:
        """Whether the server is away, as far as is known."""
        return self._probing is not None

    async def aclose(self) -> None:
        """Send what is still due, and close the connection."""
        if self._due:
            self._send()
        if self._sending is not None:
            await asyncio.wait([self._sending])
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        await self._connection.disconnect(nowait=True)
        if self._close_pool is not None:
            await self._close_pool()

    def _admit(self) -> None:
        if self._probing is not None:
            raise RedisAway("Redis is away")

    def _send(self) -> None:
        """Let a task send what is due: it starts in the loop's next turn, and takes all that comes until then."""
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        batch: list[_Due] = []
        try:
            while self._due:
                batch, self._due = self._due, []
                self._hand_out(batch, await self._exchanged([command for due in batch for command in due.commands]))
        except Exception as error:
            # Whatever it is, somebody awaits each reply, and Redis is never worth a job.
            self._lose([*batch, *self._due], error)
            self._due = []
        finally:
            self._sending = None

    async def _exchanged(self, commands: Sequence[Command]) -> list[Any]:
        """Write commands and read their replies, once more over a new connection where the old one was dead."""
        async with asyncio.timeout(self._timeout_s):
            used_before = self._connection.is_connected
            try:
                return await self._exchange(commands)
            except ConnectionLost:
                if not used_before:
                    raise
                return await self._exchange(commands)

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        connection = self._connection
        try:
            if connection.is_connected and await connection.can_read():
                await connection.disconnect(nowait=True)  # closed by the server, or out of step with us
            await connection.connect()  # type: ignore[no-untyped-call]
            # Its annotation says a tuple of one; it packs as many as there are.
            packed = b"".join(pack_command(command) for command in commands)  # type: ignore[arg-type]
            await connection.send_packed_command(packed, check_health=False)
            return [await self._reply() for _ in commands]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response(disable_decoding=True, timeout=math.inf)
        except ResponseError as refusal:
            return refusal

    def _hand_out(self, batch: Sequence[_Due], replies: Sequence[Any]) -> None:
        at = 0
        for due in batch:
            own = list(replies[at : at + len(due.commands)])
            at += len(own)
            refusal = next((reply for reply in own if isinstance(reply, ResponseError)), None)
            if refusal is not None and not isinstance(refusal, NoScriptError):
                self._tell_refusal(refusal)
            if due.replies is None or due.replies.done():
                continue
            if refusal is None:
                due.replies.set_result(own)
            else:
                due.replies.set_exception(refusal)

    def _tell_refusal(self, refusal: ResponseError) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._refusal_told_at >= REFUSAL_TOLD_EVERY_S:
            self._refusal_told_at = now
            log.warning("Redis refuses a command (%s)", type(refusal).__name__)

    def _lose(self, lost: Sequence[_Due], error: Exception) -> None:
        """Refuse what was due and what comes, until a probe is answered."""
        if self._tells:
            log.warning("Redis is away (%s): no answer is remembered, and ends are not told", type(error).__name__)
        self._probing = asyncio.get_running_loop().create_task(self._probe())
        for due in lost:
            if due.replies is not None and not due.replies.done():
                due.replies.set_exception(RedisAway(f"Redis is away ({type(error).__name__})"))

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(self._probe_every_s)
            try:
                await self._exchanged([("PING",)])
            except Exception as error:
                log.debug("Redis is still away (%s)", type(error).__name__)
                continue
            log.info("Redis is back")
            self._probing = None
            return
