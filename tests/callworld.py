"""One process that makes calls: its limiter is told what to say, its provider calls nobody, its clock stands still."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from gateway.breaker.breakers import Breakers
from gateway.breaker.health import Health
from gateway.breaker.policy import SECOND_US
from gateway.calls.admission import Admission
from gateway.calls.answered import Answered
from gateway.calls.call import Caller
from gateway.calls.hop import Hop, Seat
from gateway.calls.terms import Terms
from gateway.catalog_entries import Counting, Lane, Limits, ModelEntry, Price
from gateway.errors import BreakerOpen, GatewayError, LimitReached
from gateway.ledger import CallKind, CallOutcome, MemoryLedger
from gateway.limits.group import LimitGroup
from gateway.limits.rates import Need
from gateway.limits.reservation import Reservation
from gateway.limits.told import ToldLimits
from gateway.messages import Completion, CompletionRequest, FinishReason, Message, ModelRef, Usage
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import Answer, FakeProvider

GROUP = LimitGroup("openai", "default", "default", Limits(requests_per_min=60))
ENTRY = ModelEntry(
    context_window=10_000,
    max_output_tokens=2_000,
    capabilities=frozenset(),
    price=Price(input_per_mtok_usd=Decimal(1), output_per_mtok_usd=Decimal(1)),
    source="made up",
    checked=date(2026, 11, 21),
)
USAGE = Usage(input_tokens=100, output_tokens=50, cached_tokens=40)
TIMEOUT_S = 20.0


@dataclass(slots=True)
class Clock:
    """Stands still until somebody moves it."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(slots=True)
class Told:
    """A limiter that is told what to say, and remembers what it heard. Says `wait_s` when nothing else is due."""

    wait_s: float = 0.0
    says: list[Exception] = field(default_factory=list)
    asked: list[tuple[Need, Lane, bool]] = field(default_factory=list)
    settled: list[Need | None] = field(default_factory=list)
    healths: list[Health] = field(default_factory=list)
    news: list[tuple[ToldLimits | None, GatewayError | None]] = field(default_factory=list)
    opened_meanwhile: bool = False
    processes: int = 4
    retries: list[bool] = field(default_factory=list)
    probe: bool = False
    clock: Clock = field(default_factory=Clock)
    breakers: Breakers = field(init=False)

    def __post_init__(self) -> None:
        self.breakers = Breakers(None, now_us=lambda: round(self.clock.now_s * SECOND_US))  # type: ignore[arg-type]

    async def reserve(
        self, group: LimitGroup, need: Need, lane: Lane, *, may_wait: bool = True, retry: bool = False
    ) -> Reservation:
        self.asked.append((need, lane, may_wait))
        self.retries.append(retry)
        if self.says:
            raise self.says.pop(0)
        return Reservation(str(len(self.asked)), group, (), 0, self.wait_s, probe=self.probe)

    def settle(self, reservation: Reservation, used: Need | None, health: Health = Health.SILENT) -> None:
        self.settled.append(used)
        self.healths.append(health)

    def confirm(self, reservation: Reservation) -> None:
        if self.opened_meanwhile:
            raise BreakerOpen("it has opened")

    def tighten(self, reservation: Reservation, told: ToldLimits | None, error: GatewayError | None = None) -> None:
        self.news.append((told, error))


@dataclass(slots=True)
class Sleep:
    """Time that passes when somebody sleeps; `held`: nobody wakes before it is set."""

    slept: list[float] = field(default_factory=list)
    asleep: asyncio.Event = field(default_factory=asyncio.Event)
    held: asyncio.Event | None = None

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.asleep.set()
        if self.held is not None:
            await self.held.wait()


@dataclass(slots=True)
class World:
    """One process: what its limiter says, what its provider answers, what its ledger holds."""

    limiter: Told = field(default_factory=Told)
    sleep: Sleep = field(default_factory=Sleep)
    slots: int | None = None
    counting: Counting = field(default_factory=Counting)
    script: Any = None
    group: LimitGroup = GROUP
    limited: bool = True
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    timeouts: list[float] = field(default_factory=list)
    admission: Admission = field(init=False)

    def __post_init__(self) -> None:
        limiter = self.limiter if self.limited else None
        clock = self.limiter.clock
        self.admission = Admission(limiter, slots=self.slots, sleep=self.sleep, clock=clock)  # type: ignore[arg-type]

    async def call(self, terms: Terms | None = None, *, max_tokens: int = 500, usage: Usage = USAGE) -> Answered:
        def answer(request: CompletionRequest) -> Answer:
            self.timeouts.append(request.timeout_s)
            return self.script or Completion("fine", FinishReason.STOP, usage, "m")

        hop = self.hop(FakeProvider(ProviderConfig("openai", "fake"), script=answer))
        request = CompletionRequest("m", (Message("user", "x" * 30),), max_tokens, timeout_s=TIMEOUT_S)
        caller = Caller(self.admission, clock=self.limiter.clock)
        return await caller.call(hop, request, self.ledger, CallKind.ANSWER, terms or Terms())

    def hop(self, provider: FakeProvider) -> Hop:
        return Hop(ModelRef("openai", "m"), ENTRY, (Seat(self.group, provider),), TIMEOUT_S, self.counting)

    def outcomes(self) -> list[CallOutcome]:
        return [item.end.outcome for item in self.ledger.calls if item.end is not None]


def reached(retry_after_s: float = 3.0) -> LimitReached:
    return LimitReached("no room", retry_after_s=retry_after_s)
