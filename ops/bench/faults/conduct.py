"""How the provider of the bench `chaos` behaves at each call: drawn from the run's seed, the job and the call's number.

So Assayline's provider and the peer's, each a process of its own, treat the same job alike. A job's first two calls may
fail, its third never does: what still has not ended well then was not the provider's doing.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from ops.bench.endpoint import LABELS

LAST_THAT_FAILS = 2
RETRY_AFTER_S = 1


class Manner(StrEnum):
    """How a call is treated."""

    WELL = "well"
    INVALID = "invalid"
    """Answered, with JSON that does not satisfy the schema: to be asked once more."""
    CUT = "cut"
    """Answered, and the connection closed in the middle of the answer."""
    ERROR = "error"
    """500."""
    BUSY = "busy"
    """429, to come again in a second."""
    HANG = "hang"
    """Never answered."""


PAID = frozenset({Manner.WELL, Manner.INVALID, Manner.CUT})
"""The model has worked: it costs money, whether or not somebody was there to hear the answer."""

SHARES: Mapping[Manner, float] = {
    Manner.ERROR: 0.015,
    Manner.CUT: 0.01,
    Manner.INVALID: 0.01,
    Manner.HANG: 0.005,
    # Few: each closes its account to all calls for the second that it asks for.
    Manner.BUSY: 0.001,
}
"""Of calls that may fail; the rest are well."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """One call's treatment. takes_s: until it is answered or refused."""

    manner: Manner
    takes_s: float


def conduct(seed: int, marker: str, number: int, takes_s: tuple[float, float]) -> Conduct:
    """Draw how the `number`th call (from 1) for a job is treated; answers take from `takes_s[0]` to `takes_s[1]`."""
    rng = Random(f"{seed} {marker} {number}")
    return Conduct(_manner(rng.random(), number), rng.uniform(*takes_s))


def _manner(drawn: float, number: int) -> Manner:
    if number > LAST_THAT_FAILS:
        return Manner.WELL
    for manner, share in SHARES.items():
        if drawn < share:
            # A second invalid answer would be the end of its job.
            return Manner.WELL if manner is Manner.INVALID and number > 1 else manner
        drawn -= share
    return Manner.WELL


def answer_to(marker: str) -> dict[str, Any]:
    """Return the one right answer for a job: it names the job, so that another's is seen."""
    drawn = crc32(marker.encode())
    return {"evidence": f"marker-{marker}", "label": LABELS[drawn % len(LABELS)], "confidence_percent": drawn % 101}
