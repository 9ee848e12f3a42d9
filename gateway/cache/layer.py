"""The port of a layer that remembers answers: the process's memory, or the Redis that all processes share.

A layer does two things at once, because they must not fall apart: it remembers entries, and it lets one asker at a
time lead, that is, go and fetch the answer that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry that was found, as bytes, and the seconds it may still be used."""

    raw: bytes
    ttl_s: float


class Layer(Protocol):
    """Entries by key, and at most one leader for each key that has none."""

    async def take(self, key: str, lead_s: float) -> Kept | None:
        """Return the entry of a key, or None: the caller leads, and ends that by `keep` or `give_up`.

        Waits while somebody else leads; a lead that ends without an entry goes to one of those who wait. A caller
        that is cancelled neither leads nor stands in anybody's way.

        Args:
            key: 64 hex digits.
            lead_s: how long the caller will wait and lead together, at most.

        Raises:
            RedisAway: the layer cannot say; the caller is on its own.
        """
        ...

    def keep(self, key: str, raw: bytes, ttl_s: float) -> None:
        """Remember an entry for so many seconds, end the lead, and hand the entry to those who wait."""
        ...

    def give_up(self, key: str) -> None:
        """End the lead without an entry: the next one leads."""
        ...
