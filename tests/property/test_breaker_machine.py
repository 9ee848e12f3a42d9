"""A breaker in any order of events, on a real Valkey under a clock of the test's, beside a model that knows no Redis.

Processes call and report, late or never; they stall, die and are replaced; operators give orders, Redis forgets. After
each step the breaker is what the model says, and no slot has leaked; at the end a provider that is well gets its calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from limitworld import Admitted, LimitWorld

from gateway.breaker.health import Health
from gateway.breaker.policy import SECOND_US, BreakerPolicy
from gateway.catalog_entries import Lane, Limits
from gateway.errors import BreakerOpen, LimitReached
from gateway.limits.limiter import LEASE_S
from gateway.limits.policy import OverloadPolicy
from gateway.limits.rates import Need

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICY, OVERLOAD = BreakerPolicy(), OverloadPolicy()
LEASE_US, SPAN_US = round(LEASE_S * SECOND_US), round(POLICY.window_s / 2 * SECOND_US)
OUT_S = {Health.REJECTED: POLICY.rejected_s, Health.EXHAUSTED: POLICY.exhausted_s}
PICK = st.integers(0, 1_000)
"""Which of several, modulo their number."""
HEALTH = st.sampled_from([*Health, Health.FAILS, Health.FAILS])
RENEWED_EVERY_S = 15.0
"""Less than a lease."""


@dataclass(slots=True)
class Model:
    """What the breaker should be. `outcomes`: when each came that counts, and whether it failed."""

    state: str = "closed"
    forced: str | None = None
    changes: int = 0
    open_s: float = 0.0
    probe_at_us: int = 0
    probe: Admitted | None = None
    probe_until_us: int = 0
    outcomes: list[tuple[int, bool]] = field(default_factory=list)

    def at(self, now_us: int) -> str:
        if self.forced or self.state == "closed":
            return self.forced or self.state
        return "open" if now_us < self.probe_at_us else "half-open"

    def probed(self, now_us: int) -> bool:
        return self.probe is not None and now_us < self.probe_until_us

    def change(self, state: str) -> None:
        self.state, self.probe, self.outcomes = state, None, []
        self.changes += 1

    def open(self, now_us: int, seconds: float) -> None:
        self.change("open")
        self.open_s, self.probe_at_us = seconds, now_us + round(seconds * SECOND_US)

    def failures(self) -> int:
        row = 0
        while row < len(self.outcomes) and self.outcomes[-1 - row][1]:
            row += 1
        return row

    def counted(self, now_us: int) -> list[bool]:
        return [failed for at, failed in self.outcomes if now_us // SPAN_US - at // SPAN_US <= 1]

    def hear(self, now_us: int, failed: bool) -> None:
        self.outcomes.append((now_us, failed))
        counted = self.counted(now_us)
        in_a_row = self.failures() >= POLICY.failures_in_a_row
        too_many = len(counted) >= POLICY.least_calls and sum(counted) >= POLICY.failure_rate * len(counted)
        if failed and (in_a_row or too_many):
            self.open(now_us, POLICY.open_s)

    def hear_probe(self, now_us: int, health: Health) -> None:
        if health in OUT_S:
            self.open(now_us, OUT_S[health])
        elif health is Health.SILENT:
            self.probe = None
        elif health is Health.WORKS:
            self.change("closed")
        else:
            self.open(now_us, min(POLICY.longest_open_s, max(POLICY.open_s, POLICY.growth * self.open_s)))


class BreakerMachine(RuleBasedStateMachine):
    """`url` is set by the test."""

    url = ""

    @initialize()
    def start(self) -> None:
        self.world = LimitWorld(self.url, Limits())
        self.world.flush()
        self.processes = [self.world.process() for _ in range(3)]
        self.stalled: set[int] = set()
        self.admitted: list[Admitted] = []
        self.model, self.epoch, self.cut_us = Model(), 0, 0

    # What happens -----------------------------------------------------------------------------------------------------

    @rule(which=PICK)
    def call(self, which: int) -> None:
        self.ask(which)

    @precondition(lambda self: any(self.reportable()))
    @rule(which=PICK, health=HEALTH)
    def end(self, which: int, health: Health) -> None:
        """At once or late: of an old epoch it changes nothing."""
        held = list(self.reportable())
        self.settle(held[which % len(held)], health)

    @rule(which=PICK, healths=st.lists(HEALTH, min_size=1, max_size=25), apart_s=st.floats(0, 3))
    def calls(self, which: int, healths: list[Health], apart_s: float) -> None:
        """One after the other, as far as they are let in."""
        for health in healths:
            one = self.ask(which)
            if one is not None:
                self.settle(one, health)
                self.it_is_what_the_model_says()
            self.time_passes(apart_s)

    @rule(seconds=st.floats(0, RENEWED_EVERY_S))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_s(seconds)
        for number in range(3):
            if number not in self.stalled:
                self.renew(number)

    @rule(which=PICK)
    def stall(self, which: int) -> None:
        """It neither renews nor reports for a while."""
        self.stalled.add(which % 3)

    @precondition(lambda self: self.stalled)
    @rule(which=PICK)
    def wake(self, which: int) -> None:
        number = sorted(self.stalled)[which % len(self.stalled)]
        self.stalled.remove(number)
        self.renew(number)

    @rule(which=PICK)
    def die(self, which: int) -> None:
        """With its calls open; another process comes in its place."""
        number = which % 3
        self.stalled.discard(number)
        self.processes[number].alive = False
        self.processes[number].limiter.close()
        self.processes[number] = self.world.process()

    @rule(order=st.sampled_from(["open", "closed", None, None]))
    def order(self, order: str | None) -> None:
        model, before = self.model, self.model.forced
        self.world.do(self.processes[0].limiter.breakers.force(self.world.group.owner, order))
        if order == before:
            return
        model.forced = order
        if order is None and before == "open":
            model.open(self.world.now_us, 0)
        else:
            model.change(order or "closed")

    @rule()
    def flush(self) -> None:
        self.world.flush()
        self.model, self.epoch, self.cut_us = Model(), 0, 0
        for number in range(3):
            if number not in self.stalled:
                self.renew(number)
        for process in {one.process for one in self.admitted} - {self.processes[n] for n in self.awake_numbers()}:
            process.lapses_us = 0

    # How it is done ---------------------------------------------------------------------------------------------------

    def awake_numbers(self) -> list[int]:
        return [number for number in range(3) if number not in self.stalled]

    def awake(self, which: int) -> int | None:
        awake = self.awake_numbers()
        return awake[which % len(awake)] if awake else None

    def reportable(self) -> Iterator[Admitted]:
        living = [self.processes[number] for number in self.awake_numbers()]
        return (one for one in self.admitted if one.open and one.process in living)

    def renew(self, number: int) -> None:
        process, probe = self.processes[number], self.model.probe
        self.world.renew(process)
        if probe is not None and probe.process is process and probe.open:
            self.model.probe_until_us = self.world.now_us + LEASE_US

    def ask(self, which: int) -> Admitted | None:
        """Let in exactly when the model says so; where it is half-open, one is, and that is the probe."""
        number = self.awake(which)
        if number is None:
            return None
        now_us, model = self.world.now_us, self.model
        state, probed = model.at(now_us), model.at(now_us) == "half-open" and model.probed(now_us)
        outcome = self.world.reserve(self.processes[number], Need(), Lane.INTERACTIVE)
        self.world.pass_s(0.001)
        if isinstance(outcome, LimitReached):
            assert self.cut_us, "only a ceiling has a say here"
            return None
        if isinstance(outcome, BreakerOpen):
            assert state == "open" or probed
            assert outcome.retry_after_s is not None
            assert 0 < outcome.retry_after_s <= max(POLICY.longest_open_s, *OUT_S.values())
            return None
        assert state != "open"
        assert not probed
        assert outcome.reservation.epoch == self.epoch
        assert outcome.reservation.probe == (state == "half-open")
        if outcome.reservation.probe:
            model.probe, model.probe_until_us = outcome, now_us + LEASE_US
        self.admitted.append(outcome)
        return outcome

    def settle(self, one: Admitted, health: Health) -> None:
        now_us, model = self.world.now_us, self.model
        one.open = False
        self.world.settle(one, Need(), health)
        if one is model.probe:
            model.hear_probe(now_us, health)
            return
        if health is Health.OVERLOADED:
            in_force = self.cut_us and now_us - self.cut_us < OVERLOAD.forget_s * SECOND_US
            if in_force and one.reservation.admitted_us <= self.cut_us:
                return
            self.cut_us = now_us
        counts = model.at(now_us) == "closed" and not model.forced and one.reservation.epoch == self.epoch
        if counts and health in OUT_S:
            model.open(now_us, OUT_S[health])
        elif counts and health is not Health.SILENT:
            model.hear(now_us, health is not Health.WORKS)

    # What must hold ---------------------------------------------------------------------------------------------------

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        if not hasattr(self, "world"):
            return
        now_us, model = self.world.now_us, self.model
        report = self.world.breaker(self.processes[0])
        counted = model.counted(now_us)
        assert (report.standing.state, report.forced, report.changes) == (model.at(now_us), model.forced, model.changes)
        assert (report.standing.failures, report.calls, report.failed) == (model.failures(), len(counted), sum(counted))
        assert report.probing == (model.at(now_us) == "half-open" and model.probed(now_us))
        assert report.standing.epoch >= self.epoch
        self.epoch = report.standing.epoch

    @invariant()
    def no_slot_leaks(self) -> None:
        if not hasattr(self, "world"):
            return
        held = [one for one in self.admitted if one.open and one.process.lapses_us > self.world.now_us]
        assert self.world.state(self.processes[0]).open == len(held)

    @invariant()
    def every_key_goes_away_but_an_operators_order(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            staying = [key for key in client.keys("*") if client.pttl(key) < 0]
        ordered = [self.world.group.owner.key("breaker").encode()] if getattr(self, "model", Model()).forced else []
        assert staying == ordered

    def teardown(self) -> None:
        """The provider is well, and what was open has ended or lapsed: at most one probe later all is as ever."""
        if not hasattr(self, "world"):
            return
        try:
            process = self.world.process()
            self.world.do(process.limiter.breakers.force(self.world.group.owner, None))
            self.world.pass_s(LEASE_S + max(POLICY.longest_open_s, *OUT_S.values()))
            first = self.world.reserve(process, Need(), Lane.INTERACTIVE)
            assert isinstance(first, Admitted)
            self.world.settle(first, Need(), Health.WORKS)
            assert self.world.breaker(process).standing.closed
            second = self.world.reserve(process, Need(), Lane.INTERACTIVE)
            assert isinstance(second, Admitted)
            assert not second.reservation.probe
        finally:
            self.world.close()


def test_a_breaker_is_what_it_should_be_whatever_happens(redis_url: str) -> None:
    class OnThisServer(BreakerMachine):
        url = redis_url

    run_state_machine_as_test(
        OnThisServer,
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
