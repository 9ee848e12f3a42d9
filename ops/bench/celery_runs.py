"""Runs the Celery peer (`ops.bench.celery_peer`) beside a stack."""

from __future__ import annotations

from typing import Any

from ops.bench import celery_peer
from ops.bench.proc import cpu_s
from ops.bench.processes import Running
from ops.bench.stack import START_S, Stack


class CeleryPeer:
    """A Celery app of its own on the stack's broker, and its workers."""

    def __init__(self, stack: Stack, visibility_s: int = celery_peer.DEFAULT_VISIBILITY_S) -> None:
        self._stack = stack
        self._url = celery_peer.broker_url(stack.servers.redis_url)
        self._visibility_s = visibility_s
        self.app = celery_peer.make_app(self._url, visibility_s)

    def worker(self, slots: int) -> Running:
        """Start a worker and wait until it answers."""
        settings = {celery_peer.BROKER: self._url, celery_peer.VISIBILITY: str(self._visibility_s)}
        running = self._stack.start("celery", celery_peer.worker_argv(slots), **settings)
        wanted = len(self._answering())
        self._stack.until(lambda: len(self._answering()) > wanted, START_S, "the Celery peer")
        return running

    def send(self, task: str, *arguments: Any) -> None:
        """`apply_async` by name."""
        self.app.send_task(task, arguments)

    def noop_ms(self, worker: Running, tasks: int) -> float:
        """CPU per no-op task, in milliseconds."""
        before, done = cpu_s(worker.pid), self._done("peer.noop")
        for _ in range(tasks):
            self.send("peer.noop")
        self._stack.until(lambda: self._done("peer.noop") >= done + tasks, START_S, "the last no-op")
        return (cpu_s(worker.pid) - before) * 1_000 / tasks

    def close(self) -> None:
        """Close the app's connections."""
        self.app.close()

    def _answering(self) -> dict[str, Any]:
        return self._inspected("ping")

    def _done(self, task: str) -> int:
        return sum(stats["total"].get(task, 0) for stats in self._inspected("stats").values())

    def _inspected(self, what: str) -> dict[str, Any]:
        found: dict[str, Any] | None = getattr(self.app.control.inspect(timeout=1.0), what)()
        return found or {}
