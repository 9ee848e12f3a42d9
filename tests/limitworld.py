"""Processes that share the limits of one account: real limiters over a real Valkey, under a clock of the test's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import redis

from gateway.breaker.breakers import BreakerReport
from gateway.breaker.health import Health
from gateway.breaker.policy import SECOND_US
from gateway.catalog_entries import Lane
from gateway.errors import BreakerOpen, DayBudgetSpent, LimitReached, RetriesSpent
from gateway.limits.group import LimitGroup
from gateway.limits.group_state import GroupState, unused
from gateway.limits.limiter import LEASE_S, Limiter
from gateway.limits.rates import Need, buckets, rates
from gateway.limits.reservation import Reservation
from gateway.redis_line import RedisAway, RedisLine

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from gateway.catalog_entries import Limits
    from gateway.limits.money import Spending
    from gateway.redis_line import Command

START_US = 1_700_000_000 * SECOND_US


class FickleLine(RedisLine):
    """A line that breaks. gone: Redis is away. loses: what is posted never arrives. repeats: all is sent twice."""

    gone = False
    loses = False
    repeats = False

    @property
    def away(self) -> bool:
        return self.gone or super().away

    def post(self, *commands: Command) -> None:
        if not self.loses:
            super().post(*commands)

    def _admit(self) -> None:
        if self.gone:
            raise RedisAway("Redis is away")
        super()._admit()

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        replies = await super()._exchange(commands)
        return await super()._exchange(commands) if self.repeats else replies


@dataclass(eq=False, slots=True)
class Process:
    """A worker's limiter, its line, and when its slots lapse."""

    limiter: Limiter
    line: FickleLine
    alive: bool = True
    lapses_us: int = 0


@dataclass(eq=False, slots=True)
class Admitted:
    """A reservation as the test knows it."""

    process: Process
    lane: Lane
    need: Need
    reservation: Reservation
    open: bool = True
    given_back: Need = field(default_factory=lambda: Need(0))
    given_back_us: int = 0

    def date_us(self) -> int:
        return self.reservation.date_us

    def ends(self, used: Need | None, now_us: int) -> None:
        """Note what it leaves of what it reserved. A request is spent either way, and what it takes more is a debt."""
        self.open, self.given_back_us = False, now_us
        used = used or Need()
        self.given_back = Need(
            0,
            max(0, self.need.input_tokens - used.input_tokens),
            max(0, self.need.output_tokens - used.output_tokens),
        )


Outcome = Admitted | LimitReached | BreakerOpen | RetriesSpent | DayBudgetSpent


@dataclass(slots=True)
class LimitWorld:
    """Processes that share a server and a clock."""

    url: str
    limits: Limits
    now_us: int = START_US
    name: str = "default"
    zone: str = "UTC"
    spending: Spending | None = None
    loop: asyncio.Runner = field(default_factory=asyncio.Runner)
    lines: list[FickleLine] = field(default_factory=list)

    @property
    def group(self) -> LimitGroup:
        return LimitGroup("openai", "default", self.name, self.limits, self.zone)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work)

    def process(self) -> Process:
        line = FickleLine.from_url(self.url)
        assert isinstance(line, FickleLine)
        self.lines.append(line)
        name = f"holder-{len(self.lines)}"
        limiter = Limiter(
            line,
            name,
            spending=self.spending,
            now_us=lambda: self.now_us,
            clock=lambda: self.now_us / SECOND_US,
            wall_clock=lambda: self.now_us / SECOND_US,
        )
        return Process(limiter, line)

    def reserve(self, process: Process, need: Need, lane: Lane = Lane.BULK, *, retry: bool = False) -> Outcome:
        try:
            reservation = self.do(process.limiter.reserve(self.group, need, lane, retry=retry))
        except (LimitReached, BreakerOpen, RetriesSpent, DayBudgetSpent) as reached:
            return reached
        process.lapses_us = self.now_us + round(LEASE_S * SECOND_US)
        return Admitted(process, lane, need, reservation)

    def saturate(self, need: Need, seconds: float) -> list[float]:
        """Two processes ask as soon as they are told they may; the dates they get, in seconds from now."""
        began, dates, processes = self.now_us, list[float](), [self.process(), self.process()]
        while self.now_us - began < seconds * SECOND_US:
            processes.reverse()
            outcome = self.reserve(processes[0], need)
            if isinstance(outcome, Admitted):
                dates.append((outcome.date_us() - began) / SECOND_US)
                self.settle(outcome, need)
            else:
                assert outcome.retry_after_s is not None
                self.pass_s(outcome.retry_after_s + 1e-6)
        return dates

    def settle(self, admitted: Admitted, used: Need | None, health: Health = Health.SILENT) -> None:
        self.said(admitted.process, lambda: admitted.process.limiter.settle(admitted.reservation, used, health))

    def renew(self, process: Process) -> None:
        self.said(process, process.limiter._renewals.renew)
        process.lapses_us = self.now_us + round(LEASE_S * SECOND_US)

    def largest(self, process: Process, need: Need) -> Need:
        """The largest calls that this process knows of, one of `need` among them."""
        return process.limiter._largest.with_this(self.group, need)

    def state(self, process: Process) -> GroupState:
        state: GroupState = self.do(process.limiter.state(self.group))
        return state

    def breaker(self, process: Process) -> BreakerReport:
        report: BreakerReport = self.do(process.limiter.breakers.describe(self.group.owner))
        return report

    def admits(self, process: Process, need: Need, lane: Lane, at_most: int) -> int:
        """What the state says of calls of this size, whatever calls lately were."""
        state, largest = self.state(process), self.largest(process, need)
        sizes = {
            bucket.kind: replace(
                state.rates.get(bucket.kind, unused(bucket, state.now_us)),
                cost_us=bucket.us(bucket.amount),
                slack_us=bucket.slack_us,
            )
            for bucket in buckets(self.limits, need, largest)
            if bucket.amount
        }
        unneeded = {f"{kind}_per_min": None for kind in rates(self.limits) if kind not in sizes}
        drawn_on = replace(self.group, limits=self.limits.model_copy(update=unneeded))
        return replace(state, group=drawn_on, rates=sizes).admits(lane, at_most)

    def flush(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()

    def pass_s(self, seconds: float) -> None:
        self.now_us += round(seconds * SECOND_US)

    def close(self) -> None:
        async def closed() -> None:
            for line in self.lines:
                await line.aclose()

        self.do(closed())
        self.loop.close()

    def said(self, process: Process, post: Callable[[], None]) -> None:
        """Post something, and let it reach the server."""

        async def posted() -> None:
            post()
            if not process.line.gone:
                await process.line.ask(("PING",))

        self.do(posted())


def admitted(outcome: Outcome) -> Admitted:
    assert isinstance(outcome, Admitted), outcome
    return outcome


def refused(outcome: Outcome) -> LimitReached:
    assert isinstance(outcome, LimitReached), outcome
    return outcome


def no_retry_left(outcome: Outcome) -> RetriesSpent:
    assert isinstance(outcome, RetriesSpent), outcome
    return outcome


def kept_out(outcome: Outcome) -> BreakerOpen:
    assert isinstance(outcome, BreakerOpen), outcome
    return outcome


def spent_up(outcome: Outcome) -> DayBudgetSpent:
    assert isinstance(outcome, DayBudgetSpent), outcome
    return outcome
