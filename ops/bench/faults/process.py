"""Starts an `assayline` process whose wall clock can be set.

`python -m ops.bench.faults.process CLOCK MECHANISM worker …`: CLOCK is a file of `ops.bench.faults.clock`; MECHANISM is
switched off (`ops.bench.without`), "" for none.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ops.bench.faults.clock import reader
from ops.bench.skewed import shift_by

if __name__ == "__main__":
    clock, mechanism = sys.argv.pop(1), sys.argv.pop(1)
    shift_by(reader(Path(clock)))
    if mechanism:
        from ops.bench.without import MECHANISMS

        MECHANISMS[mechanism]()
    from ops.cli.main import main

    main()
