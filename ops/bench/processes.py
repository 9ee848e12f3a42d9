"""The processes a bench starts: each tied to the bench's life, its output in a log file that errors quote."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.embedded.service import tail
from ops.supervisor import tether
from ops.supervisor.ports import LOOPBACK

ASSAYLINE = (sys.executable, "-m", "ops.cli.main")
"""The command line that `assayline up` starts its processes with."""
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONPATH", "VIRTUAL_ENV")
"""What processes see of our environment. No key and no URL: a bench cannot reach a paid provider."""
STOP_S = 15.0
POLL_S = 0.05


class BenchFailure(RuntimeError):
    """A bench could not be run to its end. The message says what was awaited and what the logs said last."""


class Running:
    """One started process."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                tether.wrap(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(env),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id: the tether becomes the command."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Raise if it has ended unasked.

        Raises:
            BenchFailure: it has.
        """
        if (code := self._process.poll()) is not None:
            raise BenchFailure(f"{self.name} ended with code {code}\n{tail(self.log)}")

    def kill(self) -> None:
        """SIGKILL, to it and to whatever it started."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()


class Endpoint:
    """The provider that benches call, and its control: see `ops.bench.endpoint`."""

    def __init__(self, env: Mapping[str, str], directory: Path) -> None:
        self._running = Running("endpoint", [sys.executable, "-m", "ops.bench.endpoint"], env, directory)
        until(lambda: self._running.log.read_bytes().endswith(b"\n"), 30.0, "the endpoint's port", [self._running])
        self.port = int(self._running.log.read_text())
        self.pid = self._running.pid
        self._control = http.client.HTTPConnection(LOOPBACK, self.port)

    @property
    def base_url(self) -> str:
        """What an OpenAI client is given."""
        return f"http://{LOOPBACK}:{self.port}/v1"

    def ask(self, what: str) -> Any:
        """Send one control request; the answer's JSON."""
        self._control.request("GET", f"/control/{what}")
        return json.load(self._control.getresponse())

    def arrivals(self) -> dict[str, list[int]]:
        """When each marker's calls arrived: nanoseconds of the wall clock, in order."""
        found: dict[str, list[int]] = {}
        for marker, at in self.ask("records"):
            found.setdefault(marker, []).append(at)
        return found

    def stop(self) -> None:
        """End it."""
        self._control.close()
        self._running.stop()


def clean_env(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a bench's processes."""
    return {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | dict(extra)


def until(done: Callable[[], bool], timeout_s: float, what: str, watched: Sequence[Running] = ()) -> None:
    """Look until `done` says so.

    Raises:
        BenchFailure: a watched process ended, or the time was up.
    """
    deadline = time.monotonic() + timeout_s
    while not done():
        for running in watched:
            running.check()
        if time.monotonic() > deadline:
            logs = "\n".join(f"--- {running.name}\n{tail(running.log)}" for running in watched)
            raise BenchFailure(f"waited {timeout_s:g} s in vain for {what}\n{logs}")
        time.sleep(POLL_S)


def run_json(argv: Sequence[str], question: Any, env: Mapping[str, str], timeout_s: float) -> Any:
    """Run a program to its end with `question` as JSON on stdin; the JSON of its stdout.

    Raises:
        BenchFailure: it failed, or took too long; the message ends with its stderr.
    """
    try:
        done = subprocess.run(
            argv,
            input=json.dumps(question),
            capture_output=True,
            text=True,
            env=dict(env),
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchFailure(f"{argv[-1]} took longer than {timeout_s:g} s") from error
    if done.returncode != 0:
        raise BenchFailure(f"{argv[-1]} ended with code {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)
