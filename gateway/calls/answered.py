"""What a call brought, for whoever reads it, keeps it or writes it down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

    from gateway.messages import Completion


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that was answered: what came, what it cost (None: unknown), how long it took, how long it had waited."""

    completion: Completion
    cost_usd: Decimal | None
    latency_s: float
    waited_s: float = 0.0
