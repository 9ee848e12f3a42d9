"""What the embedded services share: a directory owned by one process, a port, a secret, a start and a stop.

Two ways to run one. A supervisor calls `prepare()`, runs `command()` with the service's signals and waits for
`is_ready()`. A test calls `start()` and `stop()`.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from ops.supervisor import ports, tether
from ops.supervisor.lock import AlreadyOwned, DirectoryLock

POLL_S = 0.02
LEFTOVER_GRACE_S = 15.0
"""How long a server left over from a killed owner may take to stop before it is killed."""
TAIL_LINES = 15


class EmbeddedServiceError(RuntimeError):
    """An embedded service cannot run here. The message says which, why, and what its log said last."""


class EmbeddedService(ABC):
    """One server process on loopback, its data below `directory`."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    death_signal: ClassVar[signal.Signals] = signal.SIGTERM
    """What the server gets when its owner dies without a word."""
    identity: str = tether.SELF

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).resolve()
        self.port = 0
        self._lock = DirectoryLock(self.directory / "owner.lock")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, password included. Meaningful after `prepare`."""

    @abstractmethod
    def command(self) -> list[str]:
        """The server's argv. Meaningful after `prepare`."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the server answers our password now. Blocks for at most two seconds."""

    @abstractmethod
    def _prepare_data(self) -> None:
        """Make the data directory and configuration, and end what a killed owner left running."""

    def prepare(self) -> None:
        """Own the directory, end leftovers, choose the port.

        Raises:
            EmbeddedServiceError: the directory is in use, or the binaries do not run here.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._lock.acquire()
        except AlreadyOwned as owned:
            raise EmbeddedServiceError(f"{self.name}: {owned}") from owned
        try:
            self._prepare_data()
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Give the directory back, once the server has stopped."""
        self._lock.release()

    def start(self, timeout_s: float = 60.0) -> str:
        """Start the server, wait until it answers, return its URL. Its output goes to `<name>.log`.

        Raises:
            EmbeddedServiceError: it died, or did not answer within `timeout_s`; the log's tail is in the message.
        """
        self.prepare()
        argv = tether.wrap(self.command(), death_signal=self.death_signal, identity=self.identity)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own argv
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._await_ready(self._process, timeout_s)
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self, timeout_s: float = 15.0) -> None:
        """Stop the server cleanly, or hard after `timeout_s`; a second call is no trouble."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(self.stop_signal)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.release()

    @property
    def log_path(self) -> Path:
        """Where `start` sends the server's output."""
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """The process that `start` made, None when there is none."""
        return self._process.pid if self._process else None

    def _await_ready(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if process.poll() is not None:
                raise self._failure(f"ended with code {process.returncode} while starting")
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer on port {self.port} within {timeout_s:g} s")
            time.sleep(POLL_S)

    def _failure(self, what: str) -> EmbeddedServiceError:
        return EmbeddedServiceError(f"{self.name} {what}\n{tail(self.log_path)}")

    def _choose_port(self) -> None:
        """Take last time's port if it is free, else another, and write it down."""
        kept = self.directory / "port"
        text = kept.read_text().strip() if kept.exists() else ""
        self.port = ports.pick(int(text) if text.isdigit() else None)
        kept.write_text(str(self.port))

    def _secret(self) -> str:
        """The service's password: made once, kept in a file only its owner can read."""
        return kept_secret(self.directory / "password")


def kept_secret(path: Path) -> str:
    """Read the secret at `path`, or make one (192 bits, URL-safe) in a file of mode 0600."""
    if path.exists() and (text := path.read_text().strip()):
        return text
    made = secrets.token_urlsafe(24)
    unfinished = path.with_name(path.name + ".new")  # a crash in mid-write must not leave half a password behind
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123  born 0600
        file.write(made)
    unfinished.replace(path)
    return made


def tail(log: Path) -> str:
    """The last lines of a log, or a sentence saying there are none."""
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if log.exists() else []
    return "\n".join(lines) or f"({log.name} is empty)"


def package_directory(package: str, extra: str) -> Path:
    """Where an installed package lies, without importing it.

    Raises:
        EmbeddedServiceError: it is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedServiceError(f"the package {package} is not installed: pip install {extra}")
    return Path(spec.origin).parent


def end_leftover(pid: int, mark: str, stop_signal: signal.Signals) -> bool:
    """Stop process `pid` if its command line holds `mark`, else leave it alone: the pid may be somebody else's by now.

    Returns whether there was one to stop. It gets `stop_signal`, and SIGKILL after 15 s.
    """
    if mark not in command_line(pid):
        return False
    os.kill(pid, stop_signal)
    deadline = time.monotonic() + LEFTOVER_GRACE_S
    while mark in command_line(pid):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)
    return True


def command_line(pid: int) -> str:
    """The command line of a living process, "" for none (a zombie counts as none)."""
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    argv = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout  # noqa: S603  fixed program
