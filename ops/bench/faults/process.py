"""Starts an `assayline` process whose wall clock can be set.

`python -m ops.bench.faults.process CLOCK MECHANISM FIGURES worker …`: CLOCK is a file of `ops.bench.faults.clock`;
MECHANISM is switched off (`ops.bench.without`), "" for none; FIGURES stand in for a dispatcher's own
(`tasks.dispatch_policy`), a JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ops.bench.faults.clock import reader
from ops.bench.skewed import shift_by

if __name__ == "__main__":
    clock, mechanism, figures = (sys.argv.pop(1) for _ in range(3))
    shift_by(reader(Path(clock)))
    if mechanism:
        from ops.bench.without import MECHANISMS

        MECHANISMS[mechanism]()
    if stated := json.loads(figures):
        from functools import partial

        from tasks import dispatch_policy

        dispatch_policy.Policy = partial(dispatch_policy.Policy, **stated)  # type: ignore[assignment, misc]
    from ops.cli.main import main

    main()
