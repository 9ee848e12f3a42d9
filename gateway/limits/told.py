"""What a provider says of its own limits, with an answer or a refusal: plain values, as it told them.

Told is not true for us. An answer that took long carries old numbers, which `at` shows. And over which period an amount
holds is not said: in the header of a minute's requests OpenAI and Groq give a day's where those are nearer, Azure those
of ten seconds. `limit` shows it, to whoever knows the minute's. Nothing here is checked against any clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.limits.kinds import LimitKind

MOST_TOLD = 10**12
"""A count beyond this is a fault of the server; the largest limits sold are a ten-thousandth of it."""

LONGEST_RESET_S = 86_400.0
"""A limit that is not whole again within a day is none of ours, or a fault of the server."""


@dataclass(frozen=True, slots=True)
class ToldLimit:
    """One limit: how much of it was left (0 to `MOST_TOLD`; Anthropic rounds tokens to 1,000).

    `limit` is the whole, `reset_s` how many seconds after the answer it is whole again (0 to `LONGEST_RESET_S`), if
    nothing else is asked meanwhile; each is None where it was not told, or not readably.
    """

    remaining: int
    limit: int | None = None
    reset_s: float | None = None


@dataclass(frozen=True, slots=True)
class ToldLimits:
    """All that came with one answer or refusal.

    `limits` has the kinds of which something was told. `at` is the server's own date, in seconds since 1970, to the
    second; None where it sent none: then nobody can tell which of two answers is the newer. `retry_after_s` is for how
    long it wants to be left alone, 0 to a day; it counts with a refusal that says nothing of that itself.
    """

    limits: Mapping[LimitKind, ToldLimit]
    at: float | None = None
    retry_after_s: float | None = None
