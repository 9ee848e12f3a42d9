"""The limiter's scripts, with the policy they go by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from gateway.breaker.breakers import PARTS
from gateway.redis_script import Script

if TYPE_CHECKING:
    from gateway.limits.policy import Policy


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

    def read(*paths: str) -> Script:
        return Script.read(*PARTS, *paths, policy=constants)

    return Scripts(
        reserve=read("limits/overload.lua", "limits/retries.lua", "limits/money.lua", "limits/reserve.lua"),
        settle=read(
            "breaker/counts.lua",
            "breaker/outcome.lua",
            "limits/open.lua",
            "limits/overload.lua",
            "limits/retries.lua",
            "limits/money.lua",
            "limits/settle.lua",
        ),
        renew=Script.read("limits/time.lua", "limits/money.lua", "limits/renew.lua"),
        state=read("limits/open.lua", "limits/overload.lua", "limits/state.lua"),
        tighten=Script.read("limits/time.lua", "limits/tighten.lua"),
        seed=Script.read("limits/time.lua", "limits/seed.lua"),
    )
