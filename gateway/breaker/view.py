"""One process's picture of an account's breaker: pybreaker's `CircuitBreaker` over a storage that Redis's replies feed.

It is what a process looks at: `current_state`, `is_system_error`, listeners, `open()` and `close()`. Nothing in it asks
the network, and it decides nothing: the scripts do. `call()` is never used. It holds a lock for the whole call, so two
hundred calls of a second take two hundred seconds, and it reports a late outcome as news.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pybreaker import (
    STATE_CLOSED,
    STATE_HALF_OPEN,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerListener,
    CircuitBreakerState,
    CircuitBreakerStorage,
)

from gateway.breaker.health import Health, health_of
from gateway.breaker.policy import SECOND_US

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.breaker.account import Account

log = logging.getLogger(__name__)

ORDERED_HERE = "ordered here"
"""Why a breaker changed, where its process has not been told yet: somebody called its `open()` or `close()`."""
HELD_OPEN = "held open by an operator"
"""Why a breaker is open, in the words of `force.lua`: it says so exactly as long as an operator's order holds."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a breaker stands, as a reply says.

    state: closed, open or half-open. epoch: it rises with each change; of the time of the last one, in microseconds.
    again_s: seconds until a call could be let in, from the reply on; 0 for now. reason: of the last change.
    failures: since the last success.
    """

    state: str = STATE_CLOSED
    epoch: int = 0
    again_s: float = 0.0
    reason: str = ""
    failures: int = 0

    @property
    def closed(self) -> bool:
        """Whether it keeps nothing out."""
        return self.state == STATE_CLOSED

    @property
    def half_open(self) -> bool:
        """Whether one call may go, to see how things are."""
        return self.state == STATE_HALF_OPEN

    @property
    def held_open(self) -> bool:
        """Whether an operator holds it open: time alone lets no call in."""
        return self.state == STATE_OPEN and self.reason in (HELD_OPEN, ORDERED_HERE)

    @property
    def keeps_out(self) -> bool:
        """Whether no call at all may go now."""
        return self.held_open or (not self.closed and self.again_s > 0)

    def again_in(self, seconds: float) -> Standing:
        """Return the same, for whoever is to ask again in so many seconds."""
        return replace(self, again_s=seconds)

    def later(self, seconds: float) -> Standing:
        """Return how one that nobody holds stands so much later, for somebody who has heard nothing since."""
        if self.closed:
            return self
        again_s = max(0.0, self.again_s - seconds)
        return replace(self, state=self.state if again_s else STATE_HALF_OPEN, again_s=again_s)


ALL_WELL = Standing()


def read_standing(reply: Sequence[Any]) -> Standing:
    """Read what `breaker_standing` returns."""
    state, epoch, again_us, reason, failures = reply
    return Standing(state.decode(), int(epoch), again_us / SECOND_US, reason.decode(), failures)


class Mirror(CircuitBreakerStorage):
    """What this process was told last. To set its state is an order for all, taken for done until a reply says more."""

    def __init__(self, account: Account, order: Callable[[str], None]) -> None:
        super().__init__("mirror")
        self.account = account
        self.standing = ALL_WELL
        self._order = order

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        return self.standing.state

    @state.setter
    def state(self, state: str) -> None:
        self._order(state)
        self.standing = replace(self.standing, state=state, reason=ORDERED_HERE)

    @property
    def counter(self) -> int:
        """Failures since the last success, over all processes."""
        return self.standing.failures

    @property
    def success_counter(self) -> int:
        """Always 0: one probe decides."""
        return 0

    @property
    def opened_at(self) -> datetime | None:
        """Since when it is open, by Redis's clock."""
        return (
            datetime.fromtimestamp(self.standing.epoch / SECOND_US, UTC) if self.standing.state == STATE_OPEN else None
        )

    @opened_at.setter
    def opened_at(self, _: datetime) -> None:
        """The script says when, by its own clock."""


class Changes(CircuitBreakerListener):
    """Tells each change in one log line, and counts them by `(provider/account, from, to)`."""

    def __init__(self) -> None:
        self.counted: Counter[tuple[str, str, str]] = Counter()

    def state_change(
        self, cb: CircuitBreaker, old_state: CircuitBreakerState | None, new_state: CircuitBreakerState
    ) -> None:
        """See `CircuitBreakerListener`."""
        mirror = cb._state_storage
        assert isinstance(mirror, Mirror)
        before = old_state.name if old_state is not None else STATE_CLOSED
        self.counted[str(mirror.account), before, new_state.name] += 1
        log.log(
            logging.INFO if new_state.name == STATE_CLOSED else logging.WARNING,
            "a breaker is %s now",
            new_state.name,
            extra={
                "provider": mirror.account.provider,
                "account": mirror.account.name,
                "was": before,
                "reason": mirror.standing.reason if mirror.state == new_state.name else ORDERED_HERE,
            },
        )


def breaker_view(mirror: Mirror, failures_in_a_row: int, listeners: Sequence[CircuitBreakerListener]) -> CircuitBreaker:
    """Make a process's breaker over its mirror. `is_system_error` says whether an error is counted as a failure."""
    return CircuitBreaker(
        fail_max=failures_in_a_row,
        exclude=[_no_failure],
        listeners=listeners,
        state_storage=mirror,
        name=str(mirror.account),
    )


def _no_failure(error: BaseException) -> bool:
    return health_of(error) not in (Health.FAILS, Health.OVERLOADED)
