"""Which jobs a replay means, which it leaves out and why, where the new ones would run and what they may cost.

All of it within one transaction, over a table of its own that ends with it: what is planned is what is made.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.analyses.registry import AnalysisRegistry
from gateway.errors import PromptError
from tasks.producer.errors import InvalidJob, UnknownModel, translated
from tasks.replay.costs import SAMPLE_CALLS, Estimate, Group, Priced, estimate
from tasks.replay.request import MAX_JOBS, ReplayChanges, ReplayRequest
from tasks.sql import statement

LEFT_OUT: Mapping[str, str] = MappingProxyType(
    {
        "replayed": "replayed already, or being replayed: a replay of it waits, runs or has succeeded",
        "superseded": "replayed, and that failed too: its latest replay is meant instead",
        "erased": "its content is no longer kept",
        "unknown_analysis": "its analysis is not in the catalog any more",
        "other_state": "ended otherwise than asked for",
        "not_ended": "has not ended",
        "over_limit": "beyond the limit",
    }
)
"""Why a job that was found is not meant."""

MOST_NAMED = 10
"""Ids or models that a refusal names."""


@dataclass(frozen=True, slots=True)
class Bearings:
    """What a plan needs to know beside the store: today's prices, and the prompts of the analyses."""

    priced: Priced
    analyses: AnalysisRegistry


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay would do.

    jobs: how many are meant. left_out: how many others were found, by why not (`LEFT_OUT`). under_way: replays that
    have some of those in hand. spent_usd, unpriced_calls: what the meant jobs' calls did cost, and of how many calls
    nobody knows it. estimate: what the new jobs may cost.
    """

    jobs: int
    left_out: Mapping[str, int]
    under_way: tuple[UUID, ...]
    spent_usd: Decimal
    unpriced_calls: int
    estimate: Estimate

    @property
    def found(self) -> int:
        """How many jobs fit the filter."""
        return self.jobs + sum(self.left_out.values())

    @property
    def fields(self) -> dict[str, Any]:
        """It as plain values; money as floats, which six decimals survive, None where it is unknown."""
        return {
            "found": self.found,
            "jobs": self.jobs,
            "left_out": dict(self.left_out),
            "under_way": list(self.under_way),
            "spent_usd": float(self.spent_usd),
            "unpriced_calls": self.unpriced_calls,
            "estimated_usd": _float(self.estimate.usd),
            "unpriced_jobs": self.estimate.unpriced_jobs,
            "groups": [
                {"analysis": one.analysis, "model": one.model, "jobs": one.jobs, "usd": _float(one.usd), "by": one.by}
                for one in self.estimate.groups
            ],
        }

    @classmethod
    def from_fields(cls, kept: Mapping[str, Any]) -> Plan:
        """Read `fields` that were written down as JSON."""
        groups = [Group(**{**one, "usd": _decimal(one["usd"])}) for one in kept["groups"]]
        return cls(
            jobs=kept["jobs"],
            left_out=kept["left_out"],
            under_way=tuple(UUID(one) for one in kept["under_way"]),
            spent_usd=Decimal(str(kept["spent_usd"])),
            unpriced_calls=kept["unpriced_calls"],
            estimate=Estimate(tuple(groups)),
        )


async def plan(connection: AsyncConnection, wanted: ReplayRequest, bearings: Bearings) -> Plan:
    """Find and judge the jobs of a replay, within the caller's transaction, which may plan once.

    Raises:
        InvalidJob: a named job does not exist; a change is not what an option may be; the prompt has no such version.
        UnknownModel: a model that the new jobs would run on is not configured.
    """
    await _check_named(connection, wanted)
    await _find(connection, wanted)
    judged = {row["left_out"]: row for row in await _rows(connection, "replay_judged")}
    meant = judged.pop(None, None)
    jobs = await _destinations(connection, wanted.changes, bearings.analyses) if meant else Counter[tuple[str, str]]()
    names = {"most": SAMPLE_CALLS, "analyses": sorted({analysis for analysis, _ in jobs})}
    ledger = await _rows(connection, "replay_costs", **names) if jobs else []
    [spent] = await _rows(connection, "replay_spent")
    return Plan(
        jobs=meant["jobs"] if meant else 0,
        left_out={why: judged[why]["jobs"] for why in LEFT_OUT if why in judged},
        under_way=tuple(judged["replayed"]["under_way"]) if "replayed" in judged else (),
        spent_usd=spent["usd"],
        unpriced_calls=spent["unpriced_calls"],
        estimate=estimate(jobs, ledger, bearings.priced),
    )


async def _check_named(connection: AsyncConnection, wanted: ReplayRequest) -> None:
    ids = wanted.filter.parameters()["ids"]
    if not ids:
        return
    there = {row["id"] for row in await _rows(connection, "replay_named", ids=ids, tenant=wanted.filter.tenant)}
    if missing := [str(one) for one in dict.fromkeys(ids) if one not in there]:
        raise InvalidJob("filter.ids", f"no such job: {_some(missing)}")


async def _find(connection: AsyncConnection, wanted: ReplayRequest) -> None:
    await connection.execute(statement("replay_table"))
    await connection.execute(
        statement("replay_candidates"),
        {
            **wanted.filter.parameters(),
            "again": wanted.again,
            "most": wanted.limit or MAX_JOBS,
            "changes": json.dumps(wanted.changes.said),
        },
    )


async def _destinations(
    connection: AsyncConnection, changes: ReplayChanges, analyses: AnalysisRegistry
) -> Counter[tuple[str, str]]:
    """How many new jobs there would be, by analysis and by the model they begin on."""
    groups = await _rows(connection, "replay_groups")
    if not changes.moves:
        known = {row["name"] for row in await _rows(connection, "replay_models")}
        _check_models(groups, known)
    _check_prompts(groups, changes, analyses)
    found = Counter[tuple[str, str]]()
    for analysis, chain, jobs in _asked(groups, changes):
        options = {**changes.options, **({} if changes.moves else {"chain": list(chain)})}
        [first, *_] = await _resolved(connection, analysis, options)
        found[analysis, first] += jobs
    return found


def _check_models(groups: list[RowMapping], known: set[str]) -> None:
    """Refuse chains that hold a model of no configured provider: such jobs would wait for ever, or go elsewhere."""
    missing = Counter[str]()
    for group in groups:
        for model in dict.fromkeys(group["chain"]):
            if model not in known:
                missing[model] += group["jobs"]
    if missing:
        told = _some([f"{model} ({jobs} jobs)" for model, jobs in missing.most_common()])
        raise UnknownModel(
            "changes",
            f"not in the catalog of configured providers: {told}. Say where the new jobs run: a model, a provider, a"
            " chain, or the current chain of their analysis",
        )


def _check_prompts(groups: list[RowMapping], changes: ReplayChanges, analyses: AnalysisRegistry) -> None:
    """Refuse a prompt version that an analysis does not have; one that only the workers know is theirs to judge."""
    for name in dict.fromkeys(group["analysis"] for group in groups):
        entry = analyses.entries.get(name)
        if entry is None or changes.prompt_version is None:
            continue
        try:
            entry.prompts.version(changes.prompt_version)
        except PromptError as error:
            raise InvalidJob("changes.prompt_version", str(error)) from error


def _asked(groups: list[RowMapping], changes: ReplayChanges) -> list[tuple[str, tuple[str, ...], int]]:
    """What has to be resolved: each analysis with each of its chains, or once where the old chains do not matter."""
    asked = Counter[tuple[str, tuple[str, ...]]]()
    for group in groups:
        asked[group["analysis"], () if changes.moves else tuple(group["chain"])] += group["jobs"]
    return [(analysis, chain, jobs) for (analysis, chain), jobs in asked.items()]


async def _resolved(connection: AsyncConnection, analysis: str, options: Mapping[str, Any]) -> list[str]:
    """The chain of a new job. A refusal names the change that it is about."""
    try:
        with translated():
            [row] = await _rows(connection, "replay_resolve", analysis=analysis, options=json.dumps(options))
    except InvalidJob as refused:
        if refused.field in ReplayChanges.model_fields:
            raise type(refused)(f"changes.{refused.field}", refused.problem) from refused
        raise
    return list(row["chain"])


async def _rows(connection: AsyncConnection, name: str, **parameters: Any) -> list[RowMapping]:
    return list((await connection.execute(statement(name), parameters)).mappings().all())


def _float(usd: Decimal | None) -> float | None:
    return None if usd is None else float(usd)


def _decimal(usd: float | None) -> Decimal | None:
    return None if usd is None else Decimal(str(usd))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
