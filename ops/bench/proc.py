"""What the kernel says of a process: CPU, memory, children. Linux; see proc(5)."""

from __future__ import annotations

import os
import re
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
"""The unit of CPU times in /proc/PID/stat."""
UTIME, STIME = 11, 12
"""Places of user and system time after the command's closing parenthesis; all threads, ended ones included."""

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its living children have used."""
    return sum(_own_cpu_s(member) for member in family(pid))


def peak_mb(pid: int) -> float:
    """Most resident memory that a process has had, in MB of 10^6 bytes; its living children's summed up with it."""
    return sum(_own_peak_mb(member) for member in family(pid))


def family(pid: int) -> list[int]:
    """A process and its living descendants."""
    return [pid, *(member for child in _children(pid) for member in family(child))]


class Cores:
    """How busy the machine's cores are from now on, whoever keeps them so."""

    def __init__(self) -> None:
        self._busy_s, self._all_s = _cores_s()

    def busy_percent(self) -> float:
        """Since it was made: 100 where no core was ever idle."""
        busy_s, all_s = _cores_s()
        return 100 * (busy_s - self._busy_s) / max(TICK_S, all_s - self._all_s)


def _cores_s() -> tuple[float, float]:
    """Seconds of all cores together: not idle, and in all. The first line of /proc/stat; guests count as users."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) * TICK_S, sum(ticks) * TICK_S


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _own_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[UTIME]) + int(fields[STIME])) * TICK_S


def _own_peak_mb(pid: int) -> float:
    found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0
