"""Interactive jobs that come by chance, at a steady mean: a Poisson process from one seed, each job's sending noted."""

from __future__ import annotations

import threading
import time
from random import Random

from ops.bench.processes import BenchFailure
from ops.bench.stack import Stack, job
from ops.bench.strict.endpoint import Arrival
from ops.bench.strict.loads import Load
from tasks.producer import Client

STOP_S = 30.0


class Visits:
    """One stretch of them, from its making to `end`, enqueued by a thread over a connection of its own."""

    def __init__(self, stack: Stack, load: Load, name: str, every_s: float, *, takes_s: float | None = None) -> None:
        """Begin.

        Args:
            stack: where they are enqueued.
            load: what their calls are like.
            name: their markers begin with it; it seeds the gaps too.
            every_s: the mean gap; gaps are exponential.
            takes_s: how long each of their calls takes, None for the load's own time.
        """
        self.sent_ns: dict[str, int] = {}
        """By marker: nanoseconds of the wall clock, before `enqueue` was called."""
        self._servers = stack.servers
        self._load = load
        self._name = name
        self._every_s = every_s
        self._word = "" if takes_s is None else f" takes-{takes_s:g}-s"
        self._ended = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._come, name=name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise if they do not come any more.

        Raises:
            BenchFailure: one could not be enqueued.
        """
        if self._failed is not None:
            raise BenchFailure(f"an interactive job could not be enqueued: {self._failed}") from self._failed

    def end(self) -> None:
        """Let no more come; see `check`."""
        self._ended.set()
        self._thread.join(STOP_S)
        self.check()

    def _come(self) -> None:
        try:
            with Client(self._servers.database_url) as client:
                self._enqueue_all(client)
        except Exception as error:  # told by `check`, in the bench's own thread
            self._failed = error

    def _enqueue_all(self, client: Client) -> None:
        rng, due_s = Random(self._name), time.monotonic()
        while True:
            due_s += rng.expovariate(1 / self._every_s)
            if self._ended.wait(max(0.0, due_s - time.monotonic())):
                return
            marker = f"{self._name}.{len(self.sent_ns)}"
            asked = job(marker + self._word, max_tokens=self._load.max_tokens)
            self.sent_ns[marker] = time.time_ns()
            client.enqueue(
                asked.analysis, asked.content, context=asked.context, lane=asked.lane, max_tokens=asked.max_tokens
            )


def waits_ms(sent_ns: dict[str, int], arrivals: list[Arrival], now_ns: int) -> list[float]:
    """From each sending to its call's arrival, milliseconds; of a call that has not come, for how long it is awaited.

    A call that was refused has not come: the job waits on.
    """
    came: dict[str, int] = {}
    for arrival in arrivals:
        if arrival.let_in:
            came.setdefault(arrival.marker, arrival.at_ns)
    return [(came.get(marker, now_ns) - at_ns) / 1e6 for marker, at_ns in sent_ns.items()]
