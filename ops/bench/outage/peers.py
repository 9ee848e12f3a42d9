"""The peers, each between two endpoints of its own, with interactive jobs alone: they know no lanes."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Protocol

from ops.bench import celery_peer
from ops.bench.litellm_venv import SETTINGS, python
from ops.bench.outage import celery_failing_over
from ops.bench.outage.endpoint import NS, OutageEndpoint
from ops.bench.outage.judge import PRIMARY, SECONDARY, Asked
from ops.bench.outage.ours import SLOTS, TIMEOUT_S
from ops.bench.processes import Running
from ops.bench.stack import START_S, Stack

CELERY = "Celery, autoretry at the next provider"
LITELLM = "LiteLLM Router, fallback and cooldown"

_ASKED = re.compile(r"^asked (\S+)$", re.MULTILINE)


class Peer(Protocol):
    """One of them, its processes started and waiting."""

    primary: OutageEndpoint
    secondary: OutageEndpoint

    def begin(self) -> None:
        """Let jobs arrive."""
        ...

    def ask(self) -> None:
        """Ask for one job; nothing where they arrive by themselves."""
        ...

    def asked(self) -> list[str]:
        """The markers of all that was asked for."""
        ...


class CeleryFailingOver:
    """A Celery worker of as many slots as ours have."""

    def __init__(self, stack: Stack) -> None:
        """Start it and wait until it answers."""
        self.primary = OutageEndpoint(stack, "celery-primary")
        self.secondary = OutageEndpoint(stack, "celery-secondary")
        url = celery_peer.broker_url(stack.servers.redis_url)
        self._app = celery_peer.make_app(url)
        self._asked: list[str] = []
        self._numbers = itertools.count()
        stack.start("celery", celery_peer.worker_argv(SLOTS, celery_failing_over.__name__), **{celery_peer.BROKER: url})
        stack.until(lambda: bool(self._app.control.inspect(timeout=1.0).ping()), START_S, "the Celery peer")

    def begin(self) -> None:
        """Jobs come by `ask`."""

    def asked(self) -> list[str]:
        """See `Peer.asked`."""
        return list(self._asked)

    def ask(self) -> None:
        """See `Peer.ask`."""
        marker = f"celery.{next(self._numbers)}.{time.time_ns()}"
        arguments = ([self.primary.port, self.secondary.port], marker, TIMEOUT_S[PRIMARY])
        self._app.send_task(celery_failing_over.CALL, arguments)
        self._asked.append(marker)


class LiteLLMFailingOver:
    """A process that calls steadily through LiteLLM's Router."""

    def __init__(self, stack: Stack, per_s: float) -> None:
        """Start it and wait until it is ready."""
        self.primary = OutageEndpoint(stack, "litellm-primary")
        self.secondary = OutageEndpoint(stack, "litellm-secondary")
        question = {
            "primary": self.primary.url,
            "secondary": self.secondary.url,
            "timeout_s": TIMEOUT_S[PRIMARY],
            "per_s": per_s,
        }
        program = str(Path(__file__).with_name("litellm_failing_over.py"))
        self._process: Running = stack.start("litellm", [python(), program, json.dumps(question)], **SETTINGS)
        stack.until(lambda: b"ready\n" in self._process.log.read_bytes(), START_S, "LiteLLM's process")

    def begin(self) -> None:
        """See `Peer.begin`."""
        os.kill(self._process.pid, signal.SIGUSR1)

    def ask(self) -> None:
        """They arrive by themselves."""

    def asked(self) -> list[str]:
        """See `Peer.asked`."""
        return _ASKED.findall(self._process.log.read_text())


def jobs_of(peer: Peer) -> list[Asked]:
    """A peer's jobs: when each was asked for, as its marker says, and where and when it was answered first."""
    answered: dict[str, tuple[float, str]] = {}
    for at, endpoint in ((PRIMARY, peer.primary), (SECONDARY, peer.secondary)):
        for call in endpoint.calls():
            if call.answered and call.ended_s is not None:
                answered[call.marker] = min(answered.get(call.marker, (call.ended_s, at)), (call.ended_s, at))
    never = (None, "")
    return [Asked(int(marker.rpartition(".")[2]) / NS, *answered.get(marker, never)) for marker in peer.asked()]


def peers_of(stack: Stack, per_s: float, *, with_litellm: bool) -> dict[str, Peer]:
    """Start the peers; by title."""
    peers: dict[str, Peer] = {CELERY: CeleryFailingOver(stack)}
    if with_litellm:
        peers[LITELLM] = LiteLLMFailingOver(stack, per_s)
    return peers
