"""All breakers as one process sees them, and what an operator may do with them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Literal

from pybreaker import STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker

from gateway.breaker.policy import SECOND_US, BreakerPolicy
from gateway.breaker.view import Changes, Mirror, Standing, breaker_view, read_standing
from gateway.redis_script import Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.breaker.account import Account
    from gateway.redis_line import RedisLine

Order = Literal["open", "closed"]
"""How an operator holds a breaker."""
PARTS = ("limits/time.lua", "breaker/breaker.lua")
"""What every script needs that looks at a breaker, with a policy."""


@dataclass(frozen=True, slots=True)
class BreakerReport:
    """All that is known of a breaker.

    standing: see there. since: when it changed last; None where it never did. probing: whether a probe is under way.
    calls, failed: that count for the rate. forced: how an operator holds it. changes: how often it has changed.
    """

    account: Account
    standing: Standing
    since: datetime | None
    probing: bool
    calls: int
    failed: int
    forced: str | None
    changes: int

    @property
    def next_probe_s(self) -> float | None:
        """In how many seconds a probe may go; None where none is needed, or none may."""
        return None if self.standing.closed or self.forced else self.standing.again_s


class Breakers:
    """One process's. Lives on one event loop."""

    def __init__(
        self,
        line: RedisLine,
        *,
        policy: BreakerPolicy | None = None,
        now_us: Callable[[], int] | None = None,
        tells: bool = True,
    ) -> None:
        """Make them.

        Args:
            line: the process's line to Redis.
            policy: see there.
            now_us: the time, for tests; None: Redis's own, and a monotonic clock for how long ago something was heard.
            tells: whether the log says what changes; not where somebody only looks on, to whom all is new.
        """
        self._line = line
        self._policy = policy or BreakerPolicy()
        self._now_us = now_us
        self._clock = time.monotonic if now_us is None else lambda: now_us() / SECOND_US
        self._views: dict[Account, tuple[Mirror, CircuitBreaker]] = {}
        self._heard_s: dict[Account, float] = {}
        self.changes = Changes()
        self._listeners = [self.changes] if tells else []

    def view(self, account: Account) -> CircuitBreaker:
        """Return this process's view. Its `open()` and `close()` are orders for all; `half_open()` takes them back."""
        return self._view(account)[1]

    def standing(self, account: Account) -> Standing:
        """Return how it stood when this process heard of it last."""
        return self._view(account)[0].standing

    def standing_by_now(self, account: Account) -> Standing:
        """Return how it stands by now, as far as this process can tell while it hears nothing more.

        What was open when it was heard of is half-open once the time that it was to stay so has passed. What an
        operator holds open stays open; who is kept out is to ask again as late as if Redis had said so.
        """
        standing = self.standing(account)
        if standing.held_open:
            return standing.again_in(self._policy.forced_again_s)
        return standing.later(self._clock() - self._heard_s.get(account, 0.0))

    def hear(self, account: Account, standing: Standing) -> None:
        """Take over what a reply says; the first that says something new fires the listeners."""
        mirror, breaker = self._view(account)
        self._heard_s[account] = self._clock()
        if standing != mirror.standing:
            mirror.standing = standing
            _ = breaker.state  # compares, and notifies

    def may_let_in(self, account: Account) -> bool:
        """Return whether a call could be let in, as far as this process knows.

        It was open when it was heard of last, and the time it was to stay so has not passed: that alone says no. Of an
        account that has not been asked since, there is no news.
        """
        standing = self.standing(account)
        waited_s = self._clock() - self._heard_s.get(account, 0.0)
        return standing.state != STATE_OPEN or waited_s >= standing.again_s

    async def describe(self, account: Account) -> BreakerReport:
        """Look at a breaker; nothing changes.

        Raises:
            RedisAway: nobody knows.
        """
        stands, probing, calls, failed, kept = await self._run(_describe(self._policy), account, self._now())
        fields = dict(zip(kept[::2], kept[1::2], strict=True))
        standing, forced = read_standing(stands), fields.get(b"forced")
        return BreakerReport(
            account=account,
            standing=standing,
            since=datetime.fromtimestamp(standing.epoch / SECOND_US, UTC) if standing.epoch else None,
            probing=bool(probing),
            calls=calls,
            failed=failed,
            forced=None if forced is None else forced.decode(),
            changes=int(fields.get(b"changes", 0)),
        )

    async def force(self, account: Account, order: Order | None) -> Standing:
        """Hold a breaker open or closed for all processes, across restarts, until it is taken back.

        Args:
            account: whose.
            order: None takes it back: what was held closed is closed, what was held open lets a probe decide.

        Returns:
            How it is now.

        Raises:
            RedisAway: nobody knows whether it was done.
        """
        standing = read_standing(await self._run(_force(self._policy), account, order or "", self._now()))
        self.hear(account, standing)
        return standing

    def _view(self, account: Account) -> tuple[Mirror, CircuitBreaker]:
        if account not in self._views:
            mirror = Mirror(account, lambda state: self._post_order(account, state))
            self._views[account] = mirror, breaker_view(mirror, self._policy.failures_in_a_row, self._listeners)
        return self._views[account]

    def _post_order(self, account: Account, state: str) -> None:
        """Send an order without waiting. Raises RedisAway where it cannot be sent."""
        order = "" if state == STATE_HALF_OPEN else state
        self._line.post(_force(self._policy).whole([account.key("breaker")], (order, self._now())))

    async def _run(self, script: Script, account: Account, *arguments: str | int) -> list:  # type: ignore[type-arg]
        reply: list = await script.run(self._line, [account.key("breaker")], arguments)  # type: ignore[type-arg]
        return reply

    def _now(self) -> int | str:
        return "" if self._now_us is None else self._now_us()


@cache
def _describe(policy: BreakerPolicy) -> Script:
    return Script.read(*PARTS, "breaker/counts.lua", "breaker/describe.lua", policy=policy.constants())


@cache
def _force(policy: BreakerPolicy) -> Script:
    return Script.read(*PARTS, "breaker/force.lua", policy=policy.constants())
