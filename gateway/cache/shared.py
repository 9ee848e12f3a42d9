"""The layer in Redis, shared by all processes.

One key for each question, `assayline:cache:<hash>`: the answer, or the lease of the process that fetches it. A lease
names its holder, and a process that holds any says three times in `ALIVE_S` that it is alive, by one key of its own
(two keys in one script: the server is no Redis Cluster, which the broker could not use either). So a killed process's
leases fall within seconds, and holding one costs nothing, however long the call takes.

Those who wait look again rather than listen. A publication is lost with its connection, and a killed leader publishes
nothing, so they would have to look anyway; and of each process only one waits here for a question, the others wait for
that one in memory. A look costs about 50 us, five times a second.

Every key has a time to live. How much memory there is for them is the server's setting: under `noeviction`, as a broker
needs it, a full server refuses to remember, and answers are made as they are without a cache.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import TYPE_CHECKING

from gateway.cache.entry import MAX_ENTRY_BYTES
from gateway.cache.layer import Kept
from gateway.redis_line import RedisAway
from gateway.redis_script import Script

if TYPE_CHECKING:
    from gateway.redis_line import Command, RedisLine

PREFIX = "assayline:cache:"
ALIVE = PREFIX + "alive:"
"""Followed by the holder: the key by which it says that it is alive."""
ALIVE_S = 15.0
"""After so long without a sign of its holder a lease is void: before the twenty seconds after which a worker counts as
dead and its jobs are run again."""
LEASE_SLACK_S = 5.0
"""Beyond the leader's deadline: time to write the answer down."""
FIRST_LOOK_S, LONGEST_LOOK_S = 0.05, 0.25
"""Pauses between looks: they double. A call takes seconds."""

_LEASE = b"L1 "


TAKE, GIVE_UP = Script.read("cache/take.lua"), Script.read("cache/give_up.lua")


class SharedLayer:
    """Implements `Layer` for one process, which has one asker at a time for each key. Lives on one event loop."""

    def __init__(self, line: RedisLine, *, alive_s: float = ALIVE_S) -> None:
        self._line = line
        self._alive_s = alive_s
        self._alive_ms = round(alive_s * 1_000)
        holder = secrets.token_hex(8).encode()
        self._lease, self._alive_key = _LEASE + holder, _alive_key(holder)
        self._leading: set[str] = set()
        self._renewal: asyncio.TimerHandle | None = None

    async def take(self, key: str, lead_s: float, *, instead_of: bytes = b"") -> Kept | None:
        """See `Layer.take`. `instead_of`: an entry that was found here and cannot be used; it counts as not there."""
        self._leading.add(key)
        try:
            found = await self._take(key, lead_s, instead_of)
        except BaseException:
            # The lease may be ours without our knowing: its reply was lost, or came too late.
            self.give_up(key)
            raise
        if found is None:
            self._renew_later()
        else:
            self._leading.discard(key)
        return found

    def keep(self, key: str, raw: bytes, ttl_s: float) -> None:
        """See `Layer.keep`. Whoever leads by now: an answer is an answer. Too large a one is not remembered."""
        if len(raw) > MAX_ENTRY_BYTES:
            self.give_up(key)
            return
        self._leading.discard(key)
        self._post(("SET", PREFIX + key, raw, "PX", max(1, round(ttl_s * 1_000))))

    def give_up(self, key: str) -> None:
        """See `Layer.give_up`."""
        self._leading.discard(key)
        self._post(GIVE_UP.whole((PREFIX + key,), (self._lease,)))

    async def _take(self, key: str, lead_s: float, instead_of: bytes) -> Kept | None:
        now = asyncio.get_running_loop().time
        lead_until, pause_s = now() + lead_s, FIRST_LOOK_S
        while True:
            found = await self._look(key, lead_until - now(), instead_of)
            if found is None or not found.raw.startswith(_LEASE):
                return found
            if await self._void(found.raw):
                instead_of = found.raw
                continue
            instead_of = b""
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            pause_s = min(pause_s * 2, LONGEST_LOOK_S)

    async def _look(self, key: str, left_s: float, instead_of: bytes) -> Kept | None:
        lease_ms = round((max(0.0, left_s) + LEASE_SLACK_S) * 1_000)
        keys = (PREFIX + key, self._alive_key)
        reply = await TAKE.run(self._line, keys, (self._lease, lease_ms, instead_of, self._alive_ms))
        return None if reply is None else Kept(bytes(reply[0]), reply[1] / 1_000)

    async def _void(self, lease: bytes) -> bool:
        """Whether a lease's holder has given no sign of life."""
        [alive] = await self._line.ask(("EXISTS", _alive_key(lease.removeprefix(_LEASE))))
        return not alive

    def _renew_later(self) -> None:
        if self._renewal is None:
            self._renewal = asyncio.get_running_loop().call_later(self._alive_s / 3, self._renew)

    def _renew(self) -> None:
        """Say that this process is alive, as long as it leads anywhere."""
        self._renewal = None
        if self._leading:
            self._post(("SET", self._alive_key, b"1", "PX", self._alive_ms))
            self._renew_later()

    def _post(self, command: Command) -> None:
        try:
            self._line.post(command)
        except RedisAway:
            # The line has told. What is not written here is a question that is asked once more.
            return


def _alive_key(holder: bytes) -> bytes:
    return ALIVE.encode() + holder
