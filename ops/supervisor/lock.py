"""One process at a time may own a directory: a lock the kernel gives back when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class AlreadyOwned(RuntimeError):
    """Another living process owns the directory. `pid` is its process id, None if it could not be read."""

    def __init__(self, path: Path, pid: int | None) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"{path.parent} is in use by {who}: stop it first, or choose another directory")
        self.pid = pid


class DirectoryLock:
    """`flock` on a file that holds its owner's pid. The descriptor is not inherited across exec."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock; a second call is no trouble.

        Raises:
            AlreadyOwned: somebody else has it.
        """
        if self._fd is not None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(fd, 20)
            os.close(fd)
            raise AlreadyOwned(self._path, int(text) if text.isdigit() else None) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Give it back. The file stays: deleting it would let two processes lock two files of one name."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)  # the pid may be a stranger's tomorrow
            os.close(self._fd)
            self._fd = None
