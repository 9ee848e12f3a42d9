"""Ties a process's life to its parent's, gives a root's child an ordinary user's identity, then becomes the command.

Run as a script of its own (`python -I -S tether.py …`, standard library only), because the alternative, `preexec_fn`,
runs Python between fork and exec of a process that has threads, and deadlocks now and then.

Linux: PR_SET_PDEATHSIG. The kernel clears it when credentials change, so it is set after the change, right before
exec; an exec that only drops capabilities leaves it standing. Elsewhere: this process stays, passes signals on and
looks twice a second whether its parent is still there.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
"""`include/uapi/linux/prctl.h`."""
CLONE_NEWUSER = 0x10000000
"""`include/uapi/linux/sched.h`."""
NAMESPACE_UID = 1000
"""Who a root appears to be inside the user namespace. Any number but 0 serves."""
PARENT_GONE = 113
"""Exit code when the parent died before the tether was tied."""
CANNOT_EXECUTE = 127
"""Exit code when the command is missing or not executable, as a shell has it."""
NO_IDENTITY = 114
"""Exit code when the wanted identity cannot be taken here."""
POLL_S = 0.5

SELF, NAMESPACE, NOBODY = "self", "namespace", "nobody"
IDENTITIES = (SELF, NAMESPACE, NOBODY)


def wrap(command: Sequence[str], *, death_signal: int = signal.SIGKILL, identity: str = SELF) -> list[str]:
    """Return the argv that runs `command` tied to the calling process.

    The tie is to the THREAD that forks: start long-lived children from one that lives as long (the main thread does).

    Args:
        command: an absolute program and its arguments.
        death_signal: what the command gets when the caller dies, however it dies.
        identity: `self`; `namespace` (a root that sees itself as an ordinary user, with root's file rights); `nobody`.
    """
    tie = [f"--parent={os.getpid()}", f"--death-signal={int(death_signal)}", f"--identity={identity}", "--"]
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *tie, *command]


def take_identity(identity: str) -> None:
    """Become `identity`.

    Raises:
        OSError: this machine does not allow it.
    """
    if identity == NAMESPACE:
        _enter_user_namespace()
    elif identity == NOBODY:
        entry = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)


def _enter_user_namespace() -> None:
    """What `unshare -U --map-user=1000 --map-group=1000` does; user_namespaces(7)."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    # An unprivileged gid_map is accepted only once setgroups is given up.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NAMESPACE_UID} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NAMESPACE_UID} {gid} 1")


def _become(command: list[str], parent: int, death_signal: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:  # it died before the tie was made: no signal will ever come
        sys.exit(PARENT_GONE)
    try:
        os.execv(command[0], command)  # noqa: S606  becoming the given command is this file's one purpose
    except OSError as refused:
        sys.stderr.write(f"{command[0]}: {refused.strerror}\n")
        sys.exit(CANNOT_EXECUTE)


def watch(command: list[str], parent: int, death_signal: int) -> int:
    """Run `command` as a child; end it with `death_signal` once `parent` is gone. Returns its exit code."""
    child = subprocess.Popen(command)  # noqa: S603  the caller's own command
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, lambda n, _frame: child.send_signal(n))
    while True:
        try:
            code = child.wait(POLL_S)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                child.send_signal(death_signal)
        else:
            return code if code >= 0 else 128 - code


def main(argv: list[str]) -> int:
    """Tie, take the identity, become the command. Returns only where the platform has no PDEATHSIG."""
    parser = argparse.ArgumentParser(prog="tether")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--death-signal", type=int, default=int(signal.SIGKILL))
    parser.add_argument("--identity", choices=IDENTITIES, default=SELF)
    parser.add_argument("--watch", action="store_true", help="stay as a watching parent, as where PDEATHSIG is missing")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args(argv)
    try:
        take_identity(args.identity)
    except (OSError, KeyError) as refused:
        sys.stderr.write(f"cannot run as {args.identity}: {refused}\n")
        return NO_IDENTITY
    if sys.platform == "linux" and not args.watch:
        _become(args.command, args.parent, args.death_signal)
    return watch(args.command, args.parent, args.death_signal)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
