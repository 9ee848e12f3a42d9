"""A wall clock that is set while its process runs, and the files that say how wrong it is."""

from __future__ import annotations

import json
import shelve
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ops.bench.faults.clock import reader, set_clock

if TYPE_CHECKING:
    from pathlib import Path

SET_WHILE_IT_RUNS = """
import json, sys, time
from pathlib import Path
real, file = time.time, Path(sys.argv[1])
from ops.bench.faults.clock import reader, set_clock
from ops.bench.skewed import shift_by
shift_by(reader(file))
from datetime import UTC, datetime
told = []
for wrong_by_s in (0.0, -3600.0, 90.0):
    set_clock(file, wrong_by_s)
    told.append([time.time() - real(), time.time_ns() / 1e9 - real(), datetime.now(UTC).timestamp() - real()])
print(json.dumps(told))
"""


def test_a_clock_is_set_while_its_process_runs(tmp_path: Path) -> None:
    set_clock(tmp_path / "clock", 0.0)
    argv = [sys.executable, "-c", SET_WHILE_IT_RUNS, str(tmp_path / "clock")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    for told, wrong_by_s in zip(json.loads(done.stdout), (0.0, -3600.0, 90.0), strict=True):
        assert told == pytest.approx([wrong_by_s] * 3, abs=1.0)


def test_each_process_has_a_clock_of_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        set_clock(tmp_path / name, 0.0)
    first, second = reader(tmp_path / "a"), reader(tmp_path / "b")
    set_clock(tmp_path / "a", 12.5)
    assert (first(), second()) == (12.5, 0.0)


KEPT = """
import pickle, shelve, sys
from pathlib import Path
from ops.bench.faults.clock import reader
from ops.bench.skewed import shift_by
shift_by(reader(Path(sys.argv[1])))
from datetime import UTC, datetime, timedelta
now = datetime.now(UTC)
ones = [now, now + timedelta(hours=1), now.replace(tzinfo=None), datetime(2026, 3, 29, 2, 30, fold=1)]
with shelve.open(sys.argv[2]) as kept:
    if "ones" in kept:
        assert all(isinstance(one, datetime) and one.fold == again.fold for one, again in zip(kept["ones"], ones))
        assert kept["ones"][3] == ones[3] and kept["ones"][1] - kept["ones"][0] == timedelta(hours=1)
    kept["ones"] = ones
    assert kept["ones"] == ones
for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    assert pickle.loads(pickle.dumps(ones, protocol)) == ones
print(repr(now))
"""


def test_times_are_kept_as_any_process_can_read_them(tmp_path: Path) -> None:
    """As beat does with its last runs: in a shelf that its successor opens."""
    set_clock(tmp_path / "clock", 3600.0)
    argv = [sys.executable, "-c", KEPT, str(tmp_path / "clock"), str(tmp_path / "shelf")]
    for _ in range(2):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    with shelve.open(str(tmp_path / "shelf")) as kept:
        ones = kept["ones"]
    assert all(type(one) is datetime for one in ones)
    assert 3500 < (ones[0] - datetime.now(UTC)).total_seconds() <= 3600
