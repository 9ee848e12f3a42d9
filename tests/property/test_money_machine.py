"""A day's money in any order of events, on a real Valkey: whatever comes, no more is spent than the budget.

Processes reserve, settle, freeze, die and are replaced; Redis goes, forgets all, loses what is sent or hears it twice;
calls cost at most what they may at worst. The model keeps the books: what calls have cost, and, of those that are open
or of whose end nobody knows, what they may.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from limitworld import Admitted, LimitWorld, Process

from gateway.catalog_entries import Lane, Limits
from gateway.errors import DayBudgetSpent, LimitReached
from gateway.limits.limiter import LEASE_S
from gateway.limits.rates import Need

if TYPE_CHECKING:
    from datetime import datetime

    from gateway.limits.group import LimitGroup

MICRO = Decimal("0.000001")
PICK = st.integers(0, 1_000)
"""Which of several, modulo their number."""
WORST = st.integers(0, 40)
BUDGET = st.integers(40, 150)


@dataclass(slots=True)
class Books:
    """What calls that have ended, or of whose end nobody knows, have cost; micro-dollars."""

    ended: int = 0
    calls: list[tuple[Admitted, int]] = field(default_factory=list)
    """Calls that are open, and what each may cost."""

    late: int = 0
    """Of calls that have ended, what was not written yet when the ledger was asked."""

    @property
    def open(self) -> int:
        return sum(worst for _, worst in self.calls)

    async def spent_usd(self, group: LimitGroup, since: datetime) -> Decimal:
        return self.ended * MICRO


class MoneyMachine(RuleBasedStateMachine):
    """`url` is set by the test."""

    url = ""

    @initialize(budget=BUDGET)
    def start(self, budget: int) -> None:
        self.budget, self.books = budget, Books()
        self.world = LimitWorld(self.url, Limits(usd_per_day=budget * MICRO), spending=self.books)
        self.world.flush()
        self.processes = [self.world.process() for _ in range(3)]
        self.silent = set[Admitted]()

    @rule(which=PICK, worst=WORST, lane=st.sampled_from(list(Lane)))
    def reserve(self, which: int, worst: int, lane: Lane) -> None:
        outcome = self.world.reserve(self.processes[which % 3], Need(cost_usd=worst * MICRO), lane)
        fits = self.books.ended + self.books.open + worst <= self.budget
        if isinstance(outcome, Admitted):
            assert fits
            self.books.calls.append((outcome, worst))
            return
        assert not fits, "what is left can be spent"
        hopeless = self.books.ended + self.lost() + worst > self.budget
        assert isinstance(outcome, DayBudgetSpent if hopeless else LimitReached)

    @rule(which=PICK, worst=WORST)
    def reserve_in_a_batch_that_goes_out_twice(self, which: int, worst: int) -> None:
        """A renewal before it: both are heard twice, in their order."""
        process = self.processes[which % 3]

        async def renewed() -> None:
            process.limiter._renewals.renew()

        process.line.repeats = True
        self.world.do(renewed())
        self.silent -= {call for call in self.silent if call.process is process}
        self.reserve(which, worst, Lane.INTERACTIVE)
        process.line.repeats = False

    @rule(which=PICK, share=st.floats(0, 1), known=st.booleans(), again=st.booleans(), away=st.booleans())
    def settle(self, which: int, share: float, known: bool, again: bool, away: bool) -> None:
        """away: Redis is not there then, and back with the next renewal."""
        if not self.books.calls:
            return
        call, worst = self.books.calls.pop(which % len(self.books.calls))
        cost = int(worst * share) if known else worst
        call.process.line.gone = away
        for _ in range(1 + again):
            self.world.settle(call, Need(cost_usd=cost * MICRO if known else None))
        call.process.line.gone = False
        if away:
            self.renewed(call.process)
        self.books.ended += cost

    @rule(which=PICK, share=st.floats(0, 1))
    def settle_in_a_batch_that_goes_out_twice(self, which: int, share: float) -> None:
        """A renewal behind it."""
        if not self.books.calls:
            return
        call, worst = self.books.calls.pop(which % len(self.books.calls))
        cost, process = int(worst * share), call.process

        def ended_and_renewed() -> None:
            process.limiter.settle(call.reservation, Need(cost_usd=cost * MICRO))
            process.limiter._renewals.renew()

        process.line.repeats = True
        self.world.said(process, ended_and_renewed)
        process.line.repeats = False
        self.silent -= {one for one in self.silent if one.process is process}
        self.books.ended += cost

    @rule(which=PICK)
    def lose_a_settlement(self, which: int) -> None:
        """Nobody ever says what it cost: its worst stays counted, and with the next renewal nobody waits for it."""
        if not self.books.calls:
            return
        call, worst = self.books.calls.pop(which % len(self.books.calls))
        call.process.line.loses = True
        self.world.settle(call, Need(cost_usd=Decimal(0)))
        call.process.line.loses = False
        self.renewed(call.process)
        self.books.ended += worst

    @rule(which=PICK)
    def give_back(self, which: int) -> None:
        if self.books.calls:
            call, _ = self.books.calls.pop(which % len(self.books.calls))
            self.world.settle(call, None)

    @rule(which=PICK)
    def die(self, which: int) -> None:
        """Its calls end somehow, and nobody ever says how."""
        dead = self.processes[which % 3]
        dead.alive = False
        self.processes[which % 3] = self.world.process()
        self.books.ended += sum(worst for call, worst in self.books.calls if call.process is dead)
        self.books.calls = [(call, worst) for call, worst in self.books.calls if call.process is not dead]
        self.world.pass_s(LEASE_S + 1)
        for process in self.processes:
            self.renewed(process)
        self.ask_for_nothing(which)

    @rule()
    def freeze(self) -> None:
        """All are silent for longer than a lease, and go on."""
        self.world.pass_s(LEASE_S + 1)
        self.silent = {call for call, _ in self.books.calls}

    @rule(which=PICK)
    def renew(self, which: int) -> None:
        self.renewed(self.processes[which % 3])

    @rule(which=PICK, ending=st.booleans())
    def flush(self, which: int, ending: bool) -> None:
        """Redis forgets all; the ledger is asked, and all renew. ending: a call ends, and Redis hears of it first."""
        self.world.flush()
        self.world.pass_s(1)
        if ending and self.books.calls:
            call, worst = self.books.calls.pop(which % len(self.books.calls))
            self.world.settle(call, Need(cost_usd=worst * MICRO))
            self.books.late = worst
        self.ask_for_nothing(which)
        self.books.ended, self.books.late = self.books.ended + self.books.late, 0
        for process in self.processes:
            self.renewed(process)

    def ask_for_nothing(self, which: int) -> None:
        """Whoever asks finds the day not begun, and the dead."""
        nothing = self.world.reserve(self.processes[which % 3], Need(cost_usd=Decimal(0)))
        if isinstance(nothing, Admitted):
            self.world.settle(nothing, None)

    def lost(self) -> int:
        """Of open calls, as long as their process has not renewed them after a silence."""
        return sum(worst for call, worst in self.books.calls if call in self.silent)

    def renewed(self, process: Process) -> None:
        self.world.renew(process)
        self.silent -= {call for call in self.silent if call.process is process}

    @invariant()
    def what_is_counted_is_what_there_is(self) -> None:
        money = self.world.state(self.processes[0]).money
        assert money is not None
        assert money.spent in (None, self.books.ended + self.books.open)
        assert money.spent is None or self.books.open - self.lost() <= money.open <= self.books.open
        assert self.books.ended + self.books.open <= self.budget

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.close()


def test_no_more_is_spent_than_the_day_has_whatever_happens(redis_url: str) -> None:
    class OnThisServer(MoneyMachine):
        url = redis_url

    run_state_machine_as_test(
        OnThisServer,
        settings=settings(
            max_examples=60,
            stateful_step_count=20,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
