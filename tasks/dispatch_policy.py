"""The dispatcher's figures, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """The dispatcher's figures. Seconds unless the name says otherwise.

    `listen` and `rescue` exist so that benches can show what they are worth.
    """

    poll_s: float = 1.0
    busy_poll_s: float = 0.05
    """Pause after a pass that left something due behind: finished calls free slots long before the next second."""
    most_per_pass: int = 500
    most_promoted: int = 2_000
    """Jobs whose time has come that one statement makes due."""
    backlog_share: float = 0.25
    least_backlog: int = 4
    """Messages allowed to lie in a queue beyond the live slots: a share of them, but at least so many."""
    bulk_share: float = 0.8
    """Bulk's part of a provider's live slots, so that an interactive job always finds one."""
    dead_after_s: float = 20.0
    republish_after_s: float = 15.0
    rescue_every_s: float = 2.0
    republish_every_s: float = 2.0
    expire_every_s: float = 30.0
    replay_every_s: float = 1.0
    replay_portion: int = 200
    """New jobs of a replay in one transaction: a tenth of a second, or 200 MiB where each has all it may have."""
    listen: bool = True
    rescue: bool = True

    @property
    def chores_s(self) -> Mapping[str, float]:
        """Every how many seconds each chore is done, by name."""
        chores = {
            "republish": self.republish_every_s,
            "expire": self.expire_every_s,
            "replay": self.replay_every_s,
            "rescue": self.rescue_every_s,
        }
        return chores if self.rescue else {name: every_s for name, every_s in chores.items() if name != "rescue"}

    def periods_s(self, providers: Iterable[str]) -> Mapping[str, float]:
        """Every how many seconds each piece of a dispatcher's work is done at least, by name."""
        releases = dict.fromkeys((f"release {provider}" for provider in providers), self.poll_s)
        return {**releases, "promote": self.poll_s, **self.chores_s}
