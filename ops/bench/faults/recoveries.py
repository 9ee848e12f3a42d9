"""How long it took until work went on: after a worker's death, a broker's return, a dispatcher's death. Pure.

Times are seconds since 1970. What is measured begins with the fault, or with the end of the last outage of a server
that came before the work went on: with no Postgres nobody can take a job, however well he is.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ops.bench.faults.judge import Move
from tasks.states import TERMINAL


@dataclass(frozen=True, slots=True)
class Outage:
    """A server was away, for the workers or for all."""

    since_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Life:
    """One worker incarnation. ended_s: when it was killed, or ended; stopped_s: when it was stopped. Infinite: no."""

    incarnation: str
    began_s: float
    ended_s: float = math.inf
    stopped_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Wait:
    """How long something took: from the fault, and from the last outage's end where there was one meanwhile."""

    whole_s: float
    own_s: float


def reruns(moves: Mapping[str, Sequence[Move]], lives: Iterable[Life], outages: Sequence[Outage]) -> list[Wait]:
    """Of each attempt that died with its worker: how long until the job's next claim. Infinite: there was none.

    moves: of each job, in their order. A job that ended before another attempt began is left out.
    """
    killed_s = {life.incarnation: life.ended_s for life in lives if life.ended_s < math.inf}
    found: list[Wait] = []
    for own in moves.values():
        for place, move in enumerate(own):
            at_s = killed_s.get(move.incarnation or "", -math.inf)
            if move.is_claim and move.at_s < at_s and (place + 1 == len(own) or own[place + 1].at_s > at_s):
                later = own[place + 1 :]
                again_s = next((other.at_s for other in later if other.is_claim), math.inf)
                if not (again_s == math.inf and later and later[-1].now in TERMINAL):
                    found.append(_wait(at_s, again_s, outages))
    return found


def consuming(
    claims: Iterable[Move], lives: Iterable[Life], backs_s: Iterable[float], outages: Sequence[Outage], most_s: float
) -> list[Wait]:
    """Of each worker, after each return of the broker: how long until it took a job.

    Where it was killed or stopped, or the broker went again, before it had taken one, that says nothing, unless it had
    more than `most_s` seconds: then it took so long at least. Infinite: others took jobs to the end, and it took none.

    claims: in the order of time; while they last there is work.
    """
    taken: defaultdict[str, list[float]] = defaultdict(list)
    last_s = -math.inf
    for claim in claims:
        taken[claim.incarnation or ""].append(claim.at_s)
        last_s = claim.at_s
    returns = [*sorted(backs_s), last_s]
    found: list[Wait] = []
    for life in lives:
        for back_s, next_s in pairwise(returns):
            gone_s = min(life.ended_s, life.stopped_s)
            if not life.began_s < back_s < gone_s:
                continue
            first_s = _first_since(back_s, taken[life.incarnation])
            watched = _wait(back_s, min(first_s, gone_s, next_s), outages)
            if first_s <= min(gone_s, next_s):
                found.append(watched)
            elif watched.own_s > most_s:
                found.append(Wait(math.inf, math.inf) if next_s == last_s < gone_s else watched)
    return found


def releasing(releases: Sequence[float], killed_s: Iterable[float], outages: Sequence[Outage]) -> list[Wait]:
    """After each dispatcher's death: how long until the next release by whomever, of a job in the order of time."""
    found: list[Wait] = []
    for at_s in killed_s:
        place = bisect_right(releases, at_s)
        if place < len(releases):
            found.append(_wait(at_s, releases[place], outages))
    return found


def _wait(since_s: float, until_s: float, outages: Sequence[Outage]) -> Wait:
    ends = (outage.until_s for outage in outages if since_s < outage.until_s <= until_s)
    return Wait(until_s - since_s, until_s - max([since_s, *ends]))


def _first_since(since_s: float, times_s: Sequence[float]) -> float:
    place = bisect_left(times_s, since_s)
    return times_s[place] if place < len(times_s) else math.inf
