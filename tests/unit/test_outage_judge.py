"""The judge of the failover bench: what it makes of outages whose course is known."""

from __future__ import annotations

import pytest

from ops.bench.outage.judge import PRIMARY, SECONDARY, Asked, Call, Outage, last_done_s, most_at_once

PER_S = 10
OUTAGE = Outage(failed_s=100.0, recovered_s=130.0, per_s=PER_S, hold_s=5.0, settled_s=5.0)


def arrivals(since_s: float, until_s: float) -> list[float]:
    return [since_s + n / PER_S for n in range(round((until_s - since_s) * PER_S))]


def jobs(since_s: float, until_s: float, at: str, *, not_before_s: float = 0.0, took_s: float = 0.3) -> list[Asked]:
    """Ten a second, each done `took_s` after it was asked for, none before `not_before_s`."""
    return [Asked(asked_s, max(asked_s, not_before_s) + took_s, at) for asked_s in arrivals(since_s, until_s)]


def test_the_rate_is_back_when_what_piled_up_begins_to_go() -> None:
    first_s, rate_back_s = OUTAGE.elsewhere(jobs(100, 130, SECONDARY, not_before_s=103.5))
    assert first_s == pytest.approx(3.8)
    assert rate_back_s == pytest.approx(3.8)


def test_jobs_that_are_done_late_but_as_fast_as_they_come_have_their_rate() -> None:
    assert OUTAGE.elsewhere(jobs(100, 130, SECONDARY, took_s=4.0)) == pytest.approx((4.0, 4.0))


def test_a_first_job_alone_is_no_rate() -> None:
    early, *others = jobs(100, 130, SECONDARY, not_before_s=110.0)
    first_s, rate_back_s = OUTAGE.elsewhere([Asked(early.asked_s, 101.0, SECONDARY), *others])
    assert first_s == pytest.approx(1.0)
    assert rate_back_s == pytest.approx(9.8, abs=1.0)


def test_half_the_rate_is_not_the_rate() -> None:
    done = jobs(100, 130, SECONDARY)
    every_other = [job if n % 2 else Asked(job.asked_s, None, PRIMARY) for n, job in enumerate(done)]
    first_s, rate_back_s = OUTAGE.elsewhere(every_other)
    assert first_s == pytest.approx(0.4)
    assert rate_back_s is None


def test_what_waited_for_the_recovery_was_not_done_elsewhere() -> None:
    assert OUTAGE.elsewhere(jobs(100, 130, SECONDARY, not_before_s=130.0)) == (None, None)
    assert OUTAGE.elsewhere(jobs(100, 130, PRIMARY)) == (None, None)
    assert OUTAGE.elsewhere(jobs(90, 100, SECONDARY)) == (None, None)


def test_the_primary_is_back_with_the_first_job_since_which_it_answers_all() -> None:
    after = [*jobs(130, 137, SECONDARY), *jobs(137, 150, PRIMARY)]
    assert OUTAGE.back(after) == pytest.approx(7.3)
    probe = [Asked(131.0, 131.3, PRIMARY)]
    assert OUTAGE.back([*probe, *after]) == pytest.approx(7.3)


def test_the_primary_is_not_back_before_it_has_held() -> None:
    assert OUTAGE.back([*jobs(130, 137, SECONDARY), *jobs(137, 141, PRIMARY)]) is None
    assert OUTAGE.back(jobs(130, 150, SECONDARY)) is None
    assert OUTAGE.back(jobs(90, 130, PRIMARY)) is None
    assert OUTAGE.back([]) is None


def test_calls_at_a_dark_primary_are_wasted_and_the_late_ones_probes() -> None:
    calls = [Call("", at, at + 1.0, 500) for at in (99.0, 100.0, 104.9, 105.0, 129.0, 130.0)]
    assert OUTAGE.wasted(calls) == 4
    assert [call.arrived_s for call in OUTAGE.late(calls)] == [105.0, 129.0]


def test_how_long_jobs_took_is_told_of_those_of_the_outage_alone() -> None:
    told = OUTAGE.waits([*jobs(90, 100, PRIMARY), *jobs(100, 130, SECONDARY, took_s=2.0), *jobs(130, 140, PRIMARY)])
    assert [told[name] for name in ("p50_s", "p95_s", "longest_s")] == pytest.approx([2.0] * 3)


def test_a_job_that_has_not_ended_took_longer_than_all() -> None:
    done = jobs(100, 130, SECONDARY, took_s=2.0)
    told = OUTAGE.waits([*done, *(Asked(job.asked_s, None, PRIMARY) for job in done[::10])])
    assert told["p50_s"] == pytest.approx(2.0)
    assert (told["p95_s"], told["longest_s"]) == (None, None)


def test_the_last_is_done_where_all_are() -> None:
    done = jobs(90, 150, SECONDARY, took_s=4.0)
    assert last_done_s(done, OUTAGE) == pytest.approx(3.9)
    assert last_done_s([*done, Asked(100.0, None, PRIMARY)], OUTAGE) is None
    assert last_done_s([*done, Asked(140.0, None, PRIMARY)], OUTAGE) == pytest.approx(3.9)
    assert last_done_s([], OUTAGE) is None


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        ([], 0),
        ([(1.0, 2.0), (2.0, 3.0)], 1),
        ([(1.0, 3.0), (2.0, 4.0), (2.5, 2.7)], 3),
        ([(1.0, None), (5.0, 6.0)], 2),
    ],
)
def test_calls_at_once(spans: list[tuple[float, float | None]], most: int) -> None:
    assert most_at_once([Call("", *span) for span in spans]) == most
