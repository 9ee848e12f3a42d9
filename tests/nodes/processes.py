"""pytest-celery's container, made of a process.

Processes are forked by a server that has imported everything (multiprocessing's forkserver): a worker is up in a
tenth of a second instead of two, and is the real thing from its first own line on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal as signals
from typing import TYPE_CHECKING, Any

from pytest_celery import CeleryTestContainer

from nodes.entries import PRELOADED
from nodes.waiting import WITHIN_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nodes.steps import Step

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(PRELOADED)


class ProcessContainer(CeleryTestContainer):  # type: ignore[misc]  # untyped
    """One process with its log. `reached` and `go_on` belong to a process that was told to halt at a step.

    Args:
        entry: one of `nodes.entries`.
        env: the process's whole environment.
        log: its output goes there; a restart appends.
        plan: the entry's.
        is_ready: whether it does its work by now, asked with this container.
    """

    def __init__(
        self,
        name: str,
        entry: Callable[..., None],
        env: Mapping[str, str],
        log: Path,
        plan: object,
        is_ready: Callable[[ProcessContainer], bool],
    ) -> None:
        # Not super().__init__(): it wraps what Docker made.
        self._name, self._log, self._is_ready = name, log, is_ready
        self._entry, self._arguments = entry, (env, str(log), plan)
        self._log.touch()
        self.start()

    def start(self) -> None:
        """Start the process."""
        self._pipe, far = _forking.Pipe()
        arguments = (*self._arguments, far)
        self._process = _forking.Process(target=self._entry, args=arguments, name=self._name, daemon=True)
        self._process.start()
        far.close()

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def id(self) -> str:
        """The process id stands for the container's."""
        return str(self.pid)

    @property
    def name(self) -> str:
        """What the test calls it."""
        return self._name

    @property
    def status(self) -> str:
        """In Docker's words: `running` or `exited`."""
        return "running" if self._process.is_alive() else "exited"

    @property
    def exit_code(self) -> int | None:
        """Exit code, -9 after SIGKILL; None while it runs."""
        return self._process.exitcode

    @property
    def celeryconfig(self) -> dict[str, Any]:
        """A worker adds nothing to Celery's settings."""
        return {}

    def logs(self) -> str:
        """Everything it wrote."""
        return self._log.read_text(errors="replace")

    def ready(self) -> bool:
        """Wait until it does its work.

        Raises:
            AssertionError: it ended, or took too long.
        """

        def up() -> bool:
            assert self.status == "running", f"{self.name} ended with {self.exit_code}\n{self.logs()}"
            return self._is_ready(self)

        return eventually(up)

    def reached(self, step: Step, within_s: float = WITHIN_S) -> None:
        """Wait until the process stands at `step`."""
        assert self._pipe.poll(within_s), f"{self.name} did not reach {step}\n{self.logs()}"
        assert self._pipe.recv() == step

    def go_on(self) -> None:
        """Let the process go on from where it stands."""
        self._pipe.send("go on")

    def kill(self, signal: str | int | None = "SIGKILL") -> None:
        """Send a signal, by name or number."""
        number = signals.Signals[signal] if isinstance(signal, str) else signal or signals.SIGKILL
        os.kill(self.pid, number)

    def wait(self, within_s: float = WITHIN_S) -> int:
        """Wait for its end and return its exit code.

        Raises:
            AssertionError: it still runs.
        """
        self._process.join(within_s)
        assert self.exit_code is not None, f"{self.name} still runs after {within_s:g} s\n{self.logs()}"
        return self.exit_code

    def reload(self) -> None:
        """Nothing to read again: the process is asked each time."""

    def restart(self, timeout: float = WITHIN_S) -> None:
        """SIGTERM, wait, start anew."""
        self.kill("SIGTERM")
        self.wait(timeout)
        self.start()
        self.ready()

    def teardown(self) -> None:
        """End it, whatever state it is in: a stopped process too."""
        if self.status == "running":
            self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()
