"""The limiter's scripts, with the policy they go by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from gateway.breaker.breakers import PARTS
from gateway.redis_script import Script

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.limits.policy import Policy


FILES: Mapping[str, Sequence[str]] = {
    "reserve": (
        *PARTS,
        "limits/slots.lua",
        "limits/held.lua",
        "limits/overload.lua",
        "limits/retries.lua",
        "limits/money.lua",
        "limits/gcra.lua",
        "limits/ahead.lua",
        "limits/reserve.lua",
    ),
    "settle": (
        *PARTS,
        "breaker/counts.lua",
        "breaker/outcome.lua",
        "limits/slots.lua",
        "limits/held.lua",
        "limits/overload.lua",
        "limits/retries.lua",
        "limits/money.lua",
        "limits/gcra.lua",
        "limits/settle.lua",
    ),
    "renew": ("limits/time.lua", "limits/slots.lua", "limits/held.lua", "limits/money.lua", "limits/renew.lua"),
    "state": (*PARTS, "limits/slots.lua", "limits/overload.lua", "limits/state.lua"),
    "tighten": ("limits/time.lua", "limits/tighten.lua"),
    "seed": ("limits/time.lua", "limits/seed.lua"),
}
"""What each is made of: first those whose functions the others call."""


@dataclass(frozen=True, slots=True)
class Scripts:
    """One for each thing a limiter says or asks."""

    reserve: Script
    settle: Script
    renew: Script
    state: Script
    tighten: Script
    seed: Script


@cache
def scripts(policy: Policy) -> Scripts:
    """Read them; they are made once for each policy."""
    constants = policy.constants()
    return Scripts(**{name: Script.read(*paths, policy=constants) for name, paths in FILES.items()})
