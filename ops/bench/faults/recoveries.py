"""How long it took until work went on: after a worker's death, a broker's return, a dispatcher's death. Pure.

Times are seconds since 1970. The time in which a server was away is none of ours: with no Redis nobody can take a job,
however well he is. And with Postgres's own restart all begins anew: for twenty seconds nobody is taken for dead.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ops.bench.faults.judge import Move
from tasks.states import TERMINAL


@dataclass(frozen=True, slots=True)
class Outage:
    """A server was away, for the workers or for all. anew: with its end all waiting begins anew."""

    since_s: float
    until_s: float
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Life:
    """One worker incarnation, and whom it serves.

    ended_s: when it was killed, or ended; stopped_s: when it was stopped. Infinite: no.
    """

    incarnation: str
    began_s: float
    ended_s: float = math.inf
    stopped_s: float = math.inf
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """How long something took: from the fault, and without what outages made of it. told: whose it was, and how.

    hit_again: another fault may have taken a job's message meanwhile; that wait is no measure of the first one.
    apart: the job is a suspect, for this was not the first worker in a row that died with it: it comes back when others
    like it have run, by intent (`docs/adr/0014-poison.md`).
    """

    whole_s: float
    own_s: float
    hit_again: bool = False
    apart: bool = False
    told: str = field(default="", compare=False)


def reruns(
    moves: Mapping[str, Sequence[Move]], lives: Iterable[Life], outages: Sequence[Outage], losses: Sequence[Outage]
) -> list[Wait]:
    """Of each attempt that died with its worker: how long until the job's next claim. Infinite: there was none.

    moves: of each job, in their order. A job that ended before another attempt began is left out.
    losses: when messages may have been lost, in the broker, on their way or in a worker's hands. One that is sent again
        for no loss at all (nobody took it) counts in full.
    """
    killed_s = {life.incarnation: life.ended_s for life in lives if life.ended_s < math.inf}
    found: list[Wait] = []
    for job, own in moves.items():
        for place, move in enumerate(own):
            at_s = killed_s.get(move.incarnation or "", -math.inf)
            if move.is_claim and move.at_s < at_s and (place + 1 == len(own) or own[place + 1].at_s > at_s):
                later = own[place + 1 :]
                again_s = next((other.at_s for other in later if other.is_claim), math.inf)
                if not (again_s == math.inf and later and later[-1].now in TERMINAL):
                    way = [other for other in later if other.at_s <= again_s]
                    steps = ", ".join(f"{other.reason} +{other.at_s - at_s:.1f}" for other in way)
                    wait = _wait(at_s, again_s, outages, f"job {job}: {steps}")
                    before = next((other for other in reversed(own[:place]) if not other.is_sent), None)
                    suspect = before is not None and before.reason == "rescue"
                    found.append(replace(wait, hit_again=_lost_again(way, losses), apart=suspect))
    return found


def _lost_again(way: Sequence[Move], losses: Sequence[Outage]) -> bool:
    """Whether a message may have been lost on the way: it was sent again, and something happened since it was sent."""
    return any(
        again.reason == "republish" and any(loss.since_s <= again.at_s and sent.at_s <= loss.until_s for loss in losses)
        for sent, again in pairwise(way)
    )


def consuming(
    moves: Iterable[Move], lives: Iterable[Life], backs_s: Iterable[float], outages: Sequence[Outage], most_s: float
) -> list[Wait]:
    """Of each worker, after each return of the broker: how long until it took a job, there being one for it.

    The wait begins with the first message that is sent to its provider since: while that is out of order, jobs go
    elsewhere. Where it was killed or stopped, or the broker went again, before it had taken one, that says nothing,
    unless it had more than `most_s` seconds: then it took so long at least. Infinite: others took jobs to the end, and
    it took none.

    moves: in the order of time.
    """
    taken: defaultdict[str, list[float]] = defaultdict(list)
    sent: defaultdict[str, list[float]] = defaultdict(list)
    last_s = -math.inf
    for move in moves:
        if move.is_claim:
            taken[move.incarnation or ""].append(move.at_s)
            last_s = move.at_s
        elif move.is_sent:
            sent[move.provider].append(move.at_s)
    returns = [*sorted(backs_s), last_s]
    found: list[Wait] = []
    for life in lives:
        for back_s, next_s in pairwise(returns):
            gone_s = min(life.ended_s, life.stopped_s, next_s)
            begins_s = _first_since(back_s, sent[life.provider])
            if not (life.began_s < back_s and begins_s < gone_s):
                continue
            first_s = _first_since(back_s, taken[life.incarnation])
            watched = _wait(begins_s, max(begins_s, min(first_s, gone_s)), outages, f"worker {life.incarnation}")
            if first_s <= gone_s:
                found.append(watched)
            elif watched.own_s > most_s:
                found.append(replace(watched, own_s=math.inf) if gone_s == next_s == last_s else watched)
    return found


def releasing(releases: Sequence[float], killed_s: Iterable[float], outages: Sequence[Outage]) -> list[Wait]:
    """After each dispatcher's death: how long until the next release by whomever, of a job in the order of time."""
    found: list[Wait] = []
    for at_s in killed_s:
        place = bisect_right(releases, at_s)
        if place < len(releases):
            found.append(_wait(at_s, releases[place], outages, f"killed {at_s - releases[0]:.1f} s after the first"))
    return found


def _wait(since_s: float, until_s: float, outages: Sequence[Outage], told: str = "") -> Wait:
    anew_s = (outage.until_s for outage in outages if outage.anew and since_s < outage.until_s <= until_s)
    begun_s = reached_s = max([since_s, *anew_s])
    away_s = 0.0
    for outage in sorted(outages, key=lambda one: one.since_s):
        ended_s = min(outage.until_s, until_s)
        away_s += max(0.0, ended_s - max(outage.since_s, reached_s))
        reached_s = max(reached_s, ended_s)
    return Wait(until_s - since_s, until_s - begun_s - away_s, told=told)


def _first_since(since_s: float, times_s: Sequence[float]) -> float:
    place = bisect_left(times_s, since_s)
    return times_s[place] if place < len(times_s) else math.inf
