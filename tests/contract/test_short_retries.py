"""When the fleet's retries are spent: what it costs in claims until the jobs that wait for one have had it."""

from __future__ import annotations

import heapq
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

from limitworld import Admitted, LimitWorld, no_retry_left

from gateway.breaker.policy import SECOND_US
from gateway.limits.policy import RetryBudget
from gateway.limits.rates import Need
from gateway.messages import ModelRef
from tasks.job import Claim
from tasks.verdict import Rules, Snooze, verdict

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS, MINUTES = 200, 3
MOST_CLAIMS_PER_RETRY = 36
"""190 that wait 32.5 s in the mean make 5.8 claims a second, and a retry comes every six."""
JOB = Claim(
    id=UUID(int=1), claim_no=1, analysis="a", tenant="t", lane="bulk", model=ModelRef("openai", "m"),
    chain=("openai/m",), hop=0, prompt_version=None, output_format=None, max_tokens=None, temperature=None,
    max_cost_usd=None, max_attempts=4, attempts_used=1, use_cache=True, use_fallback=True, deadline_in_s=None,
    spent_usd=None, unpriced_calls=None, content="", context={}, messages=(), schema=None,
)  # fmt: skip


def test_a_claim_in_vain_is_rare_though_all_jobs_of_a_provider_failed_together(
    world: Callable[..., LimitWorld],
) -> None:
    """Nothing else goes that would pay for retries. Each job is claimed, asks, and snoozes as its verdict says."""
    here, rng, rules = world(), Random(7), Rules(window_tokens=lambda hop: 1)
    process = here.process()
    began, due, claims, admitted = here.now_us, [(0.0, number) for number in range(JOBS)], 0, 0
    while due[0][0] < MINUTES * 60:
        at_s, number = heapq.heappop(due)
        here.now_us = max(here.now_us, began + round(at_s * SECOND_US))
        outcome = here.reserve(process, Need(), retry=True)
        claims += at_s > 0
        if isinstance(outcome, Admitted):
            here.settle(outcome, Need())
            admitted += 1
            continue
        decided = verdict(no_retry_left(outcome), replace(JOB, attempts_used=1), rules, rng)
        assert isinstance(decided, Snooze)
        heapq.heappush(due, (at_s + decided.delay_s, number))
    with_time = admitted - RetryBudget().most
    assert with_time >= 0.9 * 10 * MINUTES, "ten a minute, and hardly one lies unused"
    assert claims / with_time <= MOST_CLAIMS_PER_RETRY
