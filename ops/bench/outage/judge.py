"""What an outage looked like, from who asked for what, who answered when, and what the primary wrote down. Pure.

All times are seconds since 1970.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from ops.bench.report import Figures, quantile

PRIMARY, SECONDARY = "primary", "secondary"
MOST = 0.9
"""Of a stretch's jobs so many count as all: a probe is a job, too."""
STEP_S = 0.05
SLACK_S = 0.5
"""Arrivals and ends are not in step: of so many seconds' jobs nothing is made."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call at an endpoint. `ended_s` None: nobody has seen its end; `how`: the HTTP status, 0 for none."""

    marker: str
    arrived_s: float
    ended_s: float | None = None
    how: int = 0

    @property
    def answered(self) -> bool:
        """Whether it was."""
        return self.how == HTTPStatus.OK


@dataclass(frozen=True, slots=True)
class Asked:
    """One job. `at`: who answered, or where it stands; `ended_s` None: it has not ended well."""

    asked_s: float
    ended_s: float | None
    at: str


@dataclass(frozen=True, slots=True)
class Outage:
    """When it was, and by which measure it is judged.

    per_s: jobs asked for in a second. hold_s: how long something must stay to count as reached. settled_s: from so long
    after the failure on, a call at the primary is a probe.
    """

    failed_s: float
    recovered_s: float
    per_s: float
    hold_s: float
    settled_s: float

    def elsewhere(self, jobs: Sequence[Asked]) -> tuple[float | None, float | None]:
        """Seconds from the failure until the first job asked for after it was done elsewhere, and until the rate was.

        The rate is back where jobs are done as fast as they are asked for: where, and this holds, no more of them wait
        than then, but for `SLACK_S`' worth.
        """
        since = [job for job in jobs if self.failed_s <= job.asked_s < self.recovered_s]
        ends = sorted(job.ended_s for job in since if job.ended_s is not None and job.at == SECONDARY)
        if not ends or ends[0] >= self.recovered_s:
            return None, None
        return ends[0] - self.failed_s, self._rate_back(since, ends[0] - self.failed_s)

    def back(self, jobs: Iterable[Asked]) -> float | None:
        """Seconds from the recovery until the primary has answered the first job since which it answers them all."""
        since = sorted((job for job in jobs if job.asked_s >= self.recovered_s), key=lambda job: job.asked_s)
        last_s = since[-1].asked_s if since else -math.inf
        for place, job in enumerate(since):
            if job.at != PRIMARY or job.ended_s is None:
                continue
            if job.asked_s + self.hold_s > last_s:
                return None
            held = [other for other in since[place:] if other.asked_s < job.asked_s + self.hold_s]
            if sum(other.at == PRIMARY and other.ended_s is not None for other in held) >= MOST * len(held):
                return job.ended_s - self.recovered_s
        return None

    def wasted(self, calls: Iterable[Call]) -> int:
        """Calls at the primary while it was dark."""
        return sum(self.failed_s <= call.arrived_s < self.recovered_s for call in calls)

    def late(self, calls: Iterable[Call]) -> list[Call]:
        """Those of them that came when the failure was known."""
        return [call for call in calls if self.failed_s + self.settled_s <= call.arrived_s < self.recovered_s]

    def waits(self, jobs: Iterable[Asked]) -> Figures:
        """How long jobs took that were asked for while it was dark; None: one that has not ended decides it."""
        dark = [job for job in jobs if self.failed_s <= job.asked_s < self.recovered_s]
        took = [math.inf if job.ended_s is None else job.ended_s - job.asked_s for job in dark]
        found = {"p50_s": quantile(took, 0.5), "p95_s": quantile(took, 0.95), "longest_s": quantile(took, 1.0)}
        return {name: None if value == math.inf else value for name, value in found.items()}

    def _rate_back(self, since: Sequence[Asked], first_s: float) -> float | None:
        asked = sorted(job.asked_s - self.failed_s for job in since)
        ends = sorted(job.ended_s - self.failed_s for job in since if job.ended_s is not None)
        steps = [first_s + step * STEP_S for step in range(int((self.recovered_s - self.failed_s - first_s) / STEP_S))]
        waiting = [bisect_right(asked, at) - bisect_right(ends, at) for at in steps]
        held = round(self.hold_s / STEP_S)
        for place in range(len(steps) - held):
            if max(waiting[place : place + held + 1]) <= waiting[place] + SLACK_S * self.per_s:
                return steps[place]
        return None


def last_done_s(jobs: Iterable[Asked], outage: Outage) -> float | None:
    """Seconds from the recovery until the last job was done that had been asked for before it; None: one never was."""
    ends = [job.ended_s for job in jobs if job.asked_s < outage.recovered_s]
    known = [end for end in ends if end is not None]
    return max(known) - outage.recovered_s if ends and len(known) == len(ends) else None


def most_at_once(calls: Iterable[Call]) -> int:
    """How many were open at once."""
    edges = sorted(
        edge for call in calls for edge in ((call.arrived_s, 1), (call.ended_s or math.inf, -1))
    )  # at the same instant an end comes first
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most
