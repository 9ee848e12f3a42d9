"""How providers fare, as operators see it and as they order it: `assayline providers`, `GET /v1/providers`."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from api.providers import _fares
from gateway.breaker.health import Health
from gateway.catalog import load_catalog
from gateway.catalog_entries import Lane
from gateway.errors import BreakerOpen
from gateway.limits.groups import LimitGroups
from gateway.limits.limiter import Limiter
from gateway.limits.rates import Need
from gateway.messages import ModelRef
from gateway.redis_line import RedisLine
from gateway.traffic import ProviderTraffic, traffic
from ops.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from gateway.limits.group import LimitGroup

HAIKU = ModelRef("claude", "claude-haiku-5-5")
KEYS = {"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k"}
CATALOG = load_catalog(None, KEYS)
CLAUDE = LimitGroups(CATALOG).of(HAIKU, "default")


async def on_line(url: str, work: Callable[[RedisLine], Any]) -> Any:
    line = RedisLine.from_url(url)
    try:
        return await work(line)
    finally:
        await line.aclose()


async def with_limiter(url: str, work: Callable[[Limiter], Any]) -> Any:
    return await on_line(url, lambda line: work(Limiter(line, "test")))


def called(url: str, *healths: Health) -> None:
    """Calls of claude that end so."""

    async def work(limiter: Limiter) -> None:
        for health in healths:
            reservation = await limiter.reserve(CLAUDE, Need(1, 1_000, 10), Lane.INTERACTIVE)
            limiter.settle(reservation, Need(1, 1_000, 10), health)
        await limiter.state(CLAUDE)  # the settlements have arrived

    asyncio.run(with_limiter(url, work))


def faring(url: str) -> dict[str, ProviderTraffic]:
    async def work(limiter: Limiter) -> list[ProviderTraffic]:
        return await traffic(CATALOG, limiter)

    return {one.provider: one for one in asyncio.run(with_limiter(url, work))}


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Callable[..., Any]:
    for name in ("ASSAYLINE_CATALOG", "LLM_PROVIDER", "LLM_FALLBACK_PROVIDERS", "ASSAYLINE_LOCAL_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    env = {**KEYS, "ASSAYLINE_REDIS_URL": redis_url, "COLUMNS": "200"}
    return lambda *args, **more: CliRunner().invoke(main.app, ["providers", *args], env={**env, **more})


def rows(result: Any) -> dict[str, Any]:
    return {row["provider"]: row for row in map(json.loads, result.stdout.splitlines())}


def test_the_first_available_provider_of_the_chain_is_the_current_one(redis_url: str) -> None:
    before = faring(redis_url)
    assert [(one.provider, one.role, one.current) for one in before.values()] == [
        ("claude", "primary", True),
        ("openai", "fallback", False),
    ]
    called(redis_url, *[Health.FAILS] * 5)
    after = faring(redis_url)
    assert [(one.available, one.current) for one in after.values()] == [(False, False), (True, True)]
    assert 0 < after["claude"].ready_in_s <= 5.0


def test_what_is_used_and_when_a_call_could_go(redis_url: str) -> None:
    called(redis_url, *[Health.WORKS] * 4)
    [account] = faring(redis_url)["claude"].accounts
    [group] = account.groups
    assert group.used["requests"] == pytest.approx(4 / 50, rel=0.1)
    assert 0 < group.used["input_tokens"] < 0.1
    assert (group.open, group.ready_in_s) == (0, 0.0)


def test_the_days_money_is_shown_once_somebody_has_asked(
    cli: Callable[..., Any], redis_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(
        """
providers:
  house:
    dialect: fake
    accounts: [{limits: {default: {usd_per_day: "2.5"}}}]
    models: {m: {context_window: 9, max_output_tokens: 9, capabilities: [], price: null, note: n, source: s,
                 checked: 2026-11-21}}
defaults: {chain: [house/m]}
"""
    )
    catalog = load_catalog(path, {})
    [group] = LimitGroups(catalog).at("house")[0].groups

    class Books:
        async def spent_usd(self, group: LimitGroup, since: datetime) -> Decimal:
            return Decimal("0.75")

    async def reserve(line: RedisLine) -> list[ProviderTraffic]:
        limiter = Limiter(line, "test", spending=Books())
        await limiter.reserve(group, Need(cost_usd=Decimal("0.25")), Lane.INTERACTIVE)
        return await traffic(catalog, limiter)

    def shown() -> tuple[float | None, float | None]:
        [said] = rows(cli("--json", ASSAYLINE_CATALOG=str(path)))["house"]["accounts"][0]["groups"]
        return said["spent_usd"], said["usd_per_day"]

    assert shown() == (None, 2.5)
    [fares] = asyncio.run(on_line(redis_url, reserve))
    assert shown() == (1.0, 2.5)
    [answered] = _fares(fares).accounts[0].groups
    assert (answered.spent_usd, answered.usd_per_day) == (1.0, 2.5)


def test_an_operator_opens_and_closes(cli: Callable[..., Any], redis_url: str) -> None:
    assert rows(cli("--json"))["claude"]["accounts"][0]["breaker"] == "closed"
    opened = rows(cli("open", "claude", "--json"))["claude"]
    assert (opened["accounts"][0]["breaker"], opened["accounts"][0]["forced"]) == ("open", "open")
    assert (opened["available"], opened["current"]) == (False, False)
    with pytest.raises(BreakerOpen, match="held open by an operator"):
        called(redis_url, Health.WORKS)
    closed = rows(cli("close", "claude", "--json"))["claude"]
    assert (closed["accounts"][0]["breaker"], closed["accounts"][0]["forced"]) == ("closed", None)
    called(redis_url, Health.WORKS)


def test_close_mends_a_breaker_that_failures_opened(cli: Callable[..., Any], redis_url: str) -> None:
    called(redis_url, *[Health.FAILS] * 5)
    shown = cli()
    assert "open (5 failures in a row)" in shown.stdout
    assert "primary" in shown.stdout
    assert rows(cli("close", "claude", "--json"))["claude"]["available"] is True


@pytest.mark.parametrize(("args", "says"), [
    (("open",), "wants a provider"),
    (("open", "nobody"), "no provider 'nobody'"),
    (("close", "claude", "--account", "spare"), "no account 'spare'"),
    (("--account", "default"), "goes with open or close"),
])  # fmt: skip
def test_an_order_that_makes_no_sense_is_refused(cli: Callable[..., Any], args: tuple[str, ...], says: str) -> None:
    result = cli(*args)
    assert result.exit_code == 3
    assert says in result.stderr


def test_without_redis_the_catalog_is_listed_and_orders_are_refused(cli: Callable[..., Any]) -> None:
    away = {"ASSAYLINE_REDIS_URL": "redis://127.0.0.1:1/0"}
    assert rows(cli("--json", **away))["claude"]["available"] is None
    refused = cli("open", "claude", **away)
    assert refused.exit_code == 2
    assert "nobody was told" in refused.stderr
