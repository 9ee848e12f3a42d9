"""The hands: does each fault of a plan to the running systems, and undoes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from celery import Celery

from ops.bench.faults.links import Links, Order
from ops.bench.faults.ours import FIRST, OURS_POSTGRES, OURS_REDIS, SECOND, OurSystem
from ops.bench.faults.peer import PEER_POSTGRES, PEER_REDIS, CelerySystem
from ops.bench.faults.plan import DRAWN, POSTGRES, REDIS, Fault, Kind
from ops.bench.faults.records import AGE_MESSAGES, AGE_WORKER, RECENT, Records
from ops.bench.faults.stores import OwnStores, Stores
from tasks.job import Released
from workers.celery_settings import SETTINGS
from workers.publisher import CeleryPublisher

LINKS: Mapping[str, tuple[str, str]] = {
    REDIS: (OURS_REDIS, PEER_REDIS),
    POSTGRES: (OURS_POSTGRES, PEER_POSTGRES),
}
"""By server: the link from our workers to it, and from the peer's."""


@dataclass(slots=True)
class Deed:
    """A fault that was done. Seconds since 1970; `until_s` None: not undone yet. told: what it struck."""

    fault: Fault
    since_s: float
    until_s: float | None = None
    told: str = ""


@dataclass(slots=True)
class Acts:
    """Does faults to ours, and to the peer what applies to it.

    passed_s: after a worker's end so many seconds of its silence count as passed, and after a flush so many of the
    messages': for tests, which have no time.
    """

    ours: OurSystem
    peer: CelerySystem | None
    stores: Stores
    links: Links
    records: Records
    passed_s: float = 0.0
    deeds: list[Deed] = field(default_factory=list)

    def begin(self, fault: Fault) -> None:
        """Do it."""
        deed = Deed(fault, time.time())
        self.deeds.append(deed)
        deed.told = self.BEGIN[fault.kind](self, fault)

    def end(self, fault: Fault) -> None:
        """Undo it; nothing is left to undo of what was over at once."""
        if (undo := self.END.get(fault.kind)) is not None:
            undo(self, fault)
        next(deed for deed in self.deeds if deed.fault == fault).until_s = time.time()

    def _kill_worker(self, fault: Fault) -> str:
        if self.peer is not None:
            self.peer.workers[fault.place].kill()
        return self._silent(self.ours.workers[fault.place].kill())

    def _start_worker(self, fault: Fault) -> None:
        self.ours.workers[fault.place].come_back()
        if self.peer is not None:
            self.peer.workers[fault.place].come_back()

    def _freeze_worker(self, fault: Fault) -> str:
        return self._silent(self.ours.workers[fault.place].freeze())

    def _thaw_worker(self, fault: Fault) -> None:
        self.ours.workers[fault.place].thaw()

    def _silent(self, pid: int | None) -> str:
        """Let time pass for a worker that is not heard any more; says who it is."""
        if pid is None:
            return "nobody was there"
        if self.passed_s:
            self.records.rows(AGE_WORKER, [self.passed_s, pid])
        return f"process {pid}"

    def _kill_dispatcher(self, fault: Fault) -> str:
        pid = self.ours.dispatchers[fault.place].kill()
        return "nobody was there" if pid is None else f"process {pid}"

    def _start_dispatcher(self, fault: Fault) -> None:
        self.ours.dispatchers[fault.place].come_back()

    def _set_clock(self, fault: Fault) -> str:
        return self.ours.set_clock(fault.place, fault.amount)

    def _flush(self, _: Fault) -> str:
        self.stores.flush()
        if not self.passed_s:
            return ""
        return f"{len(self.records.rows(AGE_MESSAGES, [self.passed_s]))} jobs were queued"

    def _deliver_copies(self, fault: Fault) -> str:
        """Publish messages again: as they were, under an older number, and to the other provider's queue."""
        copies: list[Released] = []
        for job_id, release, provider, lane in self.records.rows(RECENT, [round(fault.amount)]):
            elsewhere = FIRST if provider == SECOND else SECOND
            copies += [
                Released(job_id, release, provider, lane),
                Released(job_id, release - 1, provider, lane),
                Released(job_id, release, elsewhere, lane),
            ]
        try:
            publish(self.stores.servers.redis_url, copies)
        except OSError:
            return "the broker was away"
        return f"{len(copies)} messages"

    def _own(self) -> OwnStores:
        assert isinstance(self.stores, OwnStores)
        return self.stores

    def _kill_valkey(self, _: Fault) -> str:
        self._own().kill_valkey()
        return ""

    def _start_valkey(self, _: Fault) -> None:
        self._own().start_valkey()

    def _kill_postgres(self, _: Fault) -> str:
        self._own().kill_postgres()
        return ""

    def _start_postgres(self, _: Fault) -> None:
        self._own().start_postgres()

    def _break(self, order: Order, server: str) -> str:
        mine, theirs = LINKS[server]
        struck = self.links.tell(mine, order)
        if self.peer is not None:
            self.links.tell(theirs, order)
        return f"{struck} connections"

    def _mend(self, fault: Fault) -> None:
        self._break("pass", DRAWN[fault.kind].takes)

    BEGIN: ClassVar[Mapping[Kind, Callable[[Acts, Fault], str]]] = {
        Kind.KILL_WORKER: _kill_worker,
        Kind.FREEZE_WORKER: _freeze_worker,
        Kind.KILL_DISPATCHER: _kill_dispatcher,
        Kind.RESET_REDIS: lambda acts, _: acts._break("reset", REDIS),
        Kind.RESET_POSTGRES: lambda acts, _: acts._break("reset", POSTGRES),
        Kind.REFUSE_REDIS: lambda acts, _: acts._break("refuse", REDIS),
        Kind.REFUSE_POSTGRES: lambda acts, _: acts._break("refuse", POSTGRES),
        Kind.STALL_REDIS: lambda acts, _: acts._break("stall", REDIS),
        Kind.STALL_POSTGRES: lambda acts, _: acts._break("stall", POSTGRES),
        Kind.FLUSH: _flush,
        Kind.KILL_VALKEY: _kill_valkey,
        Kind.KILL_POSTGRES: _kill_postgres,
        Kind.COPIES: _deliver_copies,
        Kind.CLOCK: _set_clock,
    }
    END: ClassVar[Mapping[Kind, Callable[[Acts, Fault], None]]] = {
        Kind.KILL_WORKER: _start_worker,
        Kind.FREEZE_WORKER: _thaw_worker,
        Kind.KILL_DISPATCHER: _start_dispatcher,
        Kind.REFUSE_REDIS: _mend,
        Kind.REFUSE_POSTGRES: _mend,
        Kind.STALL_REDIS: _mend,
        Kind.STALL_POSTGRES: _mend,
        Kind.KILL_VALKEY: _start_valkey,
        Kind.KILL_POSTGRES: _start_postgres,
    }


def publish(broker_url: str, messages: list[Released]) -> None:
    """Put messages into their queues, as a dispatcher does.

    Raises:
        OSError: the broker is away.
    """
    app = Celery("copies", broker=broker_url, set_as_current=False)
    app.conf.update({name: value for name, value in SETTINGS.items() if name != "result_backend"})
    publisher = CeleryPublisher(app)
    try:
        asyncio.run(publisher.publish(messages))
    finally:
        publisher.close()
        app.close()
