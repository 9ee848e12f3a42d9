"""Runs the peer of the bench `chaos`: its workers, its producer, and what its table says at the end."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from ops.bench import celery_peer
from ops.bench.faults import celery_naive
from ops.bench.faults.conduct import answer_to
from ops.bench.faults.judge import Call
from ops.bench.faults.links import Links
from ops.bench.faults.ours import Size, marker
from ops.bench.faults.places import Place
from ops.bench.faults.provider import Provider
from ops.bench.faults.records import Records
from ops.bench.report import Figures
from ops.bench.stack import Stack

TITLE = "Celery, acks_late, Redis, visibility timeout 30 s"
VISIBILITY_S = 30
PEER_REDIS, PEER_POSTGRES = "peer-redis", "peer-postgres"
"""Names of the links from its workers."""
UNACKED = "unacked"
"""kombu's hash of messages that were taken and not acknowledged."""
QUIET_S = 35.0
"""Nothing in Redis and no call for so long: nothing more will come, for no retry waits longer."""
LOOK_S = 1.0

RESULTS = "SELECT marker, data FROM peer.results ORDER BY marker"
DONE = "SELECT count(DISTINCT marker) FROM peer.results"


class CelerySystem:
    """As many worker processes as ours, with as many threads each."""

    def __init__(self, stack: Stack, links: Links, provider: Provider, records: Records, size: Size) -> None:
        """Start them. They are ready when they are: their producer does not wait."""
        self._records = records
        self._provider = provider
        self._broker_url = celery_peer.broker_url(stack.servers.redis_url)
        settings = {
            celery_peer.BROKER: celery_peer.broker_url(links.url(PEER_REDIS)),
            celery_peer.VISIBILITY: str(VISIBILITY_S),
            celery_naive.DATABASE: links.url(PEER_POSTGRES),
        }
        argv = celery_peer.worker_argv(size.slots, celery_naive.__name__)
        self.workers = [
            Place(f"celery {number + 1}", stack, lambda: stack.start("celery", argv, **settings))
            for number in range(size.fleet.workers)
        ]
        self._heard = (0, time.monotonic())
        self._looked = 0.0

    def producer(self) -> CeleryProducer:
        """Who hands tasks over."""
        return CeleryProducer(self._broker_url, self._provider.port)

    def is_over(self, asked: int) -> bool:
        """Whether all are done, or nothing more will come of those that are not."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return False
        self._looked = now
        if (calls := self._provider.count()) != self._heard[0] or self._waiting():
            self._heard = (calls, now)
        return self._records.number(DONE) >= asked or now - self._heard[1] > QUIET_S

    def figures(self, asked: Sequence[str]) -> Figures:
        """What became of the tasks that were asked for."""
        return figures(asked, self._records.rows(RESULTS), self._provider.calls()) | {
            "ended_unasked": sum(place.ended_unasked for place in self.workers)
        }

    def end(self) -> None:
        """Kill the workers."""
        for place in self.workers:
            place.kill()

    def _waiting(self) -> int:
        """Messages in Redis: in the queue, or taken and not acknowledged."""
        try:
            with Redis.from_url(self._broker_url) as client:
                return int(client.llen(celery_peer.QUEUE)) + int(client.hlen(UNACKED))
        except RedisError:
            return 1


class CeleryProducer:
    """Hands tasks over, each until the broker has taken it."""

    def __init__(self, broker_url: str, port: int) -> None:
        self._app = celery_peer.make_app(broker_url)
        self._port = port
        self._next = 0

    def __call__(self, numbers: Sequence[int]) -> None:
        """Send the tasks of these numbers, but for those that the broker took when they were last handed over."""
        for number in numbers[self._next - numbers[0] :]:
            self._app.send_task(celery_naive.CALL, (self._port, marker(number)))
            self._next = number + 1

    def close(self) -> None:
        """Close its connections."""
        self._app.close()


def figures(asked: Sequence[str], results: Sequence[tuple[Any, ...]], calls: Sequence[Call]) -> dict[str, Any]:
    """Count what became of tasks.

    Args:
        asked: the markers of all that the broker has taken.
        results: (marker, JSON) of each row of its table.
        calls: at its provider.
    """
    rows = Counter(name for name, _ in results)
    paid = Counter(call.marker for call in calls if call.paid)
    return {
        "asked": len(asked),
        "lost": sum(name not in rows for name in asked),
        "stored_twice": sum(count > 1 for count in rows.values()),
        "paid_twice": sum(count > 1 for count in paid.values()),
        "calls_paid_again": sum(count - 1 for count in paid.values() if count > 1),
        "astray": sum(json.loads(data) != answer_to(name) for name, data in results),
    }
