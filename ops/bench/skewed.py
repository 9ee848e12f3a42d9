"""Starts an `assayline` process whose wall clock is wrong: `python -m ops.bench.skewed SECONDS worker …`.

`time.time` and `datetime.now` are shifted before anything else is imported. That is Python's clock of one process, as
a machine whose clock is off would show it; the monotonic clock, by which timers run, is right on such a machine too.
"""

from __future__ import annotations

import copyreg
import datetime
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

REAL = datetime.datetime


class _Instances(type):
    """What C code makes are real datetimes: they are instances too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, REAL)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, REAL)


def shift(skew_s: float) -> None:
    """Shift this process's wall clock, for all that is imported from now on."""
    shift_by(lambda: skew_s)


def _as_plain(real: datetime.datetime) -> tuple[Any, tuple[Any, ...]]:
    return datetime.datetime, tuple(real.__reduce_ex__(pickle.DEFAULT_PROTOCOL)[1])


def shift_by(skew_s: Callable[[], float]) -> None:
    """Shift it by what `skew_s` says each time the clock is looked at: a clock that is set while the process runs."""
    time_s, time_ns = time.time, time.time_ns

    class Skewed(REAL, metaclass=_Instances):
        """A datetime whose now is another."""

        __slots__ = ()  # of the same size: extensions check it

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            """The shifted time, as a real datetime."""
            return REAL.now(tz) + datetime.timedelta(seconds=skew_s())

        @classmethod
        def utcnow(cls) -> Any:
            """The shifted time, as a real datetime without a zone."""
            return REAL.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=skew_s())

    # Pickled, all of them are `datetime.datetime`: what one process has written, any other can read.
    Skewed.__module__, Skewed.__name__, Skewed.__qualname__ = REAL.__module__, REAL.__name__, REAL.__qualname__
    copyreg.pickle(REAL, _as_plain)
    time.time = lambda: time_s() + skew_s()
    time.time_ns = lambda: time_ns() + int(skew_s() * 1e9)
    datetime.datetime = Skewed  # type: ignore[misc]


if __name__ == "__main__":
    shift(float(sys.argv.pop(1)))
    from ops.cli.main import main

    main()
