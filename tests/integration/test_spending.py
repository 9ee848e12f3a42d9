"""What the ledger says an account has spent: by group, by day, and never nothing where nobody knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from jobworld import JobWorld, job_world, raises

from gateway.catalog import build_catalog
from gateway.errors import CatalogError, Timeout
from gateway.limits.groups import LimitGroups
from gateway.limits.money import LedgerAway
from gateway.yaml_source import parse_yaml
from tasks.engine import create_engine
from tasks.spending import LedgerSpending
from tasks.sql import statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

ENTRY = (
    "context_window: 10, max_output_tokens: 5, capabilities: [], price: null, note: n, source: s, checked: 2026-01-01"
)
PRICED = "context_window: 1000, max_output_tokens: 500, capabilities: [], source: s, checked: 2026-01-01"
CATALOG = f"""
providers:
  one:
    dialect: fake
    accounts: [{{name: main}}, {{name: second}}]
    models:
      small: {{{ENTRY}}}
      wide: {{{ENTRY}}}
      rare: {{{ENTRY}, limit_group: rare}}
      cheap: {{{PRICED}, limit_group: dear, price: {{input_per_mtok_usd: 1, output_per_mtok_usd: 1}}}}
      dear: {{{PRICED}, limit_group: dear, price: {{input_per_mtok_usd: 1, output_per_mtok_usd: 2,
                                                    cache_write_per_mtok_usd: 3}}}}
    other_models: {{{ENTRY}, limit_group: rest}}
defaults: {{chain: [one/small]}}
"""
GROUPS = LimitGroups(build_catalog(parse_yaml(CATALOG, "c.yaml", CatalogError), {}))
BY_NAME = {(group.name, group.account): group for shared in GROUPS.at("one") for group in shared.groups}
MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)
CALL = """
    INSERT INTO assayline.calls (job_id, claim_no, call_no, kind, outcome, tenant, analysis, provider, account, model,
                                 incarnation, started_at, cost_usd)
    VALUES (assayline.uuid7(), 1, 1, 'answer', %s, 't', 'a', 'one', %s, %s, gen_random_uuid(), %s, %s)
"""


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[JobWorld]:
    async with job_world(database_url) as world:
        yield world


def called(
    world: JobWorld, cost: str | None, model: str = "small", *, account: str = "main", hours: float = 1.0,
    outcome: str = "succeeded",
) -> None:  # fmt: skip
    world.sql(CALL, outcome, account, model, MIDNIGHT + timedelta(hours=hours), cost)


async def spent(engine: AsyncEngine, group: str = "default", account: str = "main", since: datetime = MIDNIGHT) -> str:
    return str(await LedgerSpending(engine, GROUPS).spent_usd(BY_NAME[group, account], since))


async def test_calls_of_the_groups_models_since_midnight_with_the_account(world: JobWorld) -> None:
    called(world, "0.25")
    called(world, "0.5", "wide")
    called(world, "1", "rare")
    called(world, "2", "unlisted")
    called(world, "4", account="second")
    called(world, "8", hours=-0.1)
    called(world, "0.000001", hours=0.0, outcome="failed")
    assert await spent(world.engine) == "0.750001"
    assert await spent(world.engine, "rare") == "1.000000"
    assert await spent(world.engine, "rest") == "2.000000", "what no other group names"
    assert await spent(world.engine, account="second") == "4.000000"
    assert await spent(world.engine, "rare", "second") == "0"


async def test_a_call_of_unknown_cost_counts_as_the_dearest_known(world: JobWorld) -> None:
    called(world, "0.25")
    called(world, "0.5", outcome="abandoned")
    called(world, None, outcome="failed")
    called(world, None, outcome="unknown")
    called(world, None, outcome="not_called")
    called(world, None, outcome="cached")
    assert await spent(world.engine) == "1.750000"


async def test_where_no_cost_of_the_day_is_known_the_dearest_of_the_week_before_counts(world: JobWorld) -> None:
    """A morning of time-outs, and a flush: each of them may be billed, and a call that was refused cost nothing."""
    called(world, None, outcome="failed")
    called(world, None, outcome="unknown")
    called(world, "0", outcome="failed")
    called(world, "0.25", hours=-2)
    called(world, "0.5", "wide", hours=-6 * 24)
    called(world, "2", hours=-8 * 24)
    called(world, "4", account="second", hours=-2)
    called(world, "8", "rare", hours=-2)
    assert await spent(world.engine) == "1.000000"


async def test_where_none_was_ever_known_a_call_counts_at_its_worst(world: JobWorld) -> None:
    for model in ("cheap", "dear"):
        called(world, None, model, outcome="unknown")
    called(world, "0", "dear", outcome="failed")
    assert Decimal(await spent(world.engine, "dear")) == 2 * (1_000 * Decimal(3) + 500 * Decimal(2)) / 1_000_000


async def test_where_no_price_is_known_either_nobody_can_say(world: JobWorld) -> None:
    called(world, None)
    with pytest.raises(LedgerAway, match="nobody knows what a call of one/main/default costs"):
        await spent(world.engine)


async def test_a_call_under_way_is_none_of_them_and_one_that_is_over_is(world: JobWorld) -> None:
    """As jobs leave them: the limiter holds what is open at its worst, until its job has ended."""
    midnight = datetime.now(UTC) - timedelta(hours=1)
    called(world, "0.25", hours=(datetime.now(UTC) - MIDNIGHT) / timedelta(hours=1))
    _, incarnation, message = await world.released(max_attempts=1)
    seen: list[str] = []

    async def looks(claim: Any, ledger: Any) -> Any:
        seen.append(await spent(world.engine, since=midnight))
        return await raises(Timeout(""))(claim, ledger)

    await world.runner(incarnation, looks).run(message.id, message.release, message.provider)
    assert seen == ["0.250000"]
    assert await spent(world.engine, since=midnight) == "0.500000"


async def test_the_days_calls_are_found_without_reading_those_before(world: JobWorld) -> None:
    world.sql(
        CALL.replace("VALUES (assayline.uuid7()", "SELECT assayline.uuid7()").rstrip().removesuffix(")")
        + " FROM generate_series(1, 20000)",
        "succeeded", "main", "small", MIDNIGHT - timedelta(days=2), "0.01",
    )  # fmt: skip
    for _ in range(50):
        called(world, "0.01")
    world.sql("VACUUM ANALYZE assayline.calls")
    text = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement("spent_usd").text
    parameters = {"provider": "one", "account": "main", "since": MIDNIGHT, "models": ["small", "wide"], "others": [],
                  "days_before": 7, "worst_usd": None}  # fmt: skip
    async with world.engine.connect() as connection:
        [(plan,)] = (await connection.execute(statement("spent_usd").__class__(text), parameters)).all()
    [whole] = plan
    assert whole["Plan"]["Shared Hit Blocks"] + whole["Plan"]["Shared Read Blocks"] < 150, "of some 500"
    assert await spent(world.engine) == "0.500000"


async def test_a_ledger_that_is_away_says_nothing() -> None:
    engine = create_engine("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(LedgerAway, match="OperationalError"):
        await spent(engine)
    await engine.dispose()


async def test_a_cost_is_kept_to_the_micro_dollar(world: JobWorld) -> None:
    called(world, "0.0000015")
    assert Decimal(await spent(world.engine)) == Decimal("0.000002")
