"""How providers fare, as operators see it and as they order it: `assayline providers`, `GET /v1/providers`."""

from __future__ import annotations

import asyncio
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from api.providers import _fares
from gateway.breaker.health import Health
from gateway.catalog import load_catalog
from gateway.catalog_entries import Lane
from gateway.errors import BreakerOpen, Throttled
from gateway.limits.groups import LimitGroups
from gateway.limits.limiter import Limiter
from gateway.limits.rates import Need
from gateway.messages import ModelRef
from gateway.redis_line import RedisLine
from gateway.traffic import ASKED_TO_WAIT, MONEY_SPENT, ProviderTraffic, traffic
from ops.cli import main
from ops.cli.traffic import _lasting, _next

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


def test_where_every_slot_is_taken_nobody_knows_when_a_call_could_go(redis_url: str, tmp_path: Path) -> None:
    """It is not now, and no time is made up."""
    path = tmp_path / "catalog.yaml"
    slots = "limits: {default: {concurrent_calls: 1}}"
    path.write_text(HOUSE.replace('limits: {default: {requests_per_min: 60, usd_per_day: "2.5"}}', slots))

    async def one_open(limiter: Limiter, groups: dict[str, LimitGroup]) -> None:
        await limiter.reserve(groups[MAIN], Need(), Lane.INTERACTIVE)

    main_account, _ = worked(redis_url, path, one_open)["house"].accounts
    [group] = [one for one in main_account.groups if one.group.name == "default"]
    assert (group.open, group.ready_in_s) == (1, None)
    assert _next({"forced": None}, {"ready_in_s": None, "reason": None}) == "once an open call has ended"


HOUSE = """
providers:
  house:
    dialect: fake
    accounts:
      - {name: main, zone: Etc/GMT-14, limits: {default: {requests_per_min: 60, usd_per_day: "2.5"}}}
      - {name: spare, limits: {default: {requests_per_min: 60}}}
    models: {m: {MODEL}, rare: {MODEL, limit_group: rare}}
  other:
    dialect: fake
    models: {m: {MODEL}}
defaults: {chain: [house/m, other/m]}
""".replace(
    "MODEL",
    """context_window: 9, max_output_tokens: 9, capabilities: [], price: null, note: n, source: s,
        checked: 2026-11-21""",
)
MAIN, SPARE = "main", "spare"


class Books:
    """A ledger that has most of the day's money down as spent."""

    async def spent_usd(self, group: LimitGroup, since: datetime) -> Decimal:
        return Decimal("2.25")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.yaml"
    path.write_text(HOUSE)
    return path


def worked(url: str, path: Path, work: Callable[[Limiter, dict[str, LimitGroup]], Any]) -> dict[str, ProviderTraffic]:
    """How the providers of a catalog fare after some work with the house's accounts."""
    catalog = load_catalog(path, {})
    groups = {group.account: group for group in LimitGroups(catalog).at("house")[0].groups}

    async def look(line: RedisLine) -> list[ProviderTraffic]:
        limiter = Limiter(line, "test", spending=Books())
        await work(limiter, groups)
        await limiter.state(groups[MAIN])
        limiter.close()
        return await traffic(catalog, limiter)

    return {one.provider: one for one in asyncio.run(on_line(url, look))}


async def spend(limiter: Limiter, groups: dict[str, LimitGroup], usd: str = "0.125", account: str = MAIN) -> None:
    need = Need(cost_usd=Decimal(usd))
    limiter.settle(await limiter.reserve(groups[account], need, Lane.INTERACTIVE), need)


async def asked_to_wait(limiter: Limiter, groups: dict[str, LimitGroup], account: str = SPARE) -> None:
    reservation = await limiter.reserve(groups[account], Need(), Lane.INTERACTIVE)
    limiter.settle(reservation, Need())
    limiter.tighten(reservation, None, Throttled("", retry_after_s=300.0))


def lines(result: Any) -> list[str]:
    """Of the table of how they fare."""
    _, _, table = result.stdout.partition("next call")
    return [line for line in table.splitlines() if line.strip()]


def test_the_days_money_is_shown_once_somebody_has_asked(cli: Callable[..., Any], redis_url: str, house: Path) -> None:
    def shown() -> tuple[float | None, float | None]:
        said = rows(cli("--json", ASSAYLINE_CATALOG=str(house)))["house"]["accounts"][0]["groups"][0]
        return said["spent_usd"], said["usd_per_day"]

    assert shown() == (None, 2.5)
    assert "not known yet, of 2.5 USD" in cli(ASSAYLINE_CATALOG=str(house)).stdout
    fares = worked(redis_url, house, spend)["house"]
    assert shown() == (2.375, 2.5)
    answered = _fares(fares).accounts[0].groups[0]
    assert (answered.spent_usd, answered.usd_per_day) == (2.375, 2.5)
    assert "2.375 of 2.5 USD" in lines(cli(ASSAYLINE_CATALOG=str(house)))[0]


def test_an_account_whose_money_is_spent_is_not_available(cli: Callable[..., Any], redis_url: str, house: Path) -> None:
    """Another group of its own is; the chain's first model is not, with this account."""

    async def both(limiter: Limiter, groups: dict[str, LimitGroup]) -> None:
        await spend(limiter, groups, "0.1875")
        await asked_to_wait(limiter, groups)

    faring = worked(redis_url, house, both)
    main, spare = faring["house"].accounts
    assert [one.reason for account in (main, spare) for one in account.groups] == [
        MONEY_SPENT,
        None,
        ASKED_TO_WAIT,
        None,
    ]
    assert (main.available, main.serves("default"), main.serves("rare")) == (True, False, True)
    assert [(name, one.current) for name, one in faring.items()] == [("house", False), ("other", True)]
    told = _fares(faring["house"]).accounts[0].groups[0]
    assert (told.available, told.reason) == (False, MONEY_SPENT)
    assert (
        rows(cli("--json", ASSAYLINE_CATALOG=str(house)))["house"]["accounts"][1]["groups"][0]["reason"]
        == ASKED_TO_WAIT
    )
    first, _, third, _, last = lines(cli(ASSAYLINE_CATALOG=str(house)))
    assert re.search(
        r"^house +primary +main +closed .* 2.4375 of 2.5 USD +in [\d.]+ (h|min|s): the day's money is spent", first
    )
    assert re.search(r"^ +spare +closed .* in 5 min: the provider asks to wait", third)
    assert re.search(r"^other +fallback, asked now", last)


def test_each_account_and_group_has_its_own_share_and_its_own_calls(
    cli: Callable[..., Any], redis_url: str, house: Path
) -> None:
    async def calls(limiter: Limiter, groups: dict[str, LimitGroup]) -> None:
        await spend(limiter, groups, "0")
        for _ in range(3):
            await limiter.reserve(groups[SPARE], Need(), Lane.INTERACTIVE)

    worked(redis_url, house, calls)
    shown = lines(cli(ASSAYLINE_CATALOG=str(house)))
    assert [re.findall(r"default +(\d)|requests (\d)%", line) for line in (shown[0], shown[2])] == [
        [("0", ""), ("", "2")],
        [("3", ""), ("", "5")],
    ]


@pytest.mark.parametrize(("seconds", "said"), [
    (0.2, "1 s"), (119.0, "119 s"), (121.0, "3 min"), (7_000.0, "117 min"), (43_200.0, "12.0 h"),
])  # fmt: skip
def test_long_waits_are_said_in_hours(seconds: float, said: str) -> None:
    assert _lasting(seconds) == said


def test_one_provider_is_shown_by_its_name(cli: Callable[..., Any]) -> None:
    assert list(rows(cli("claude", "--json"))) == ["claude"]
    shown = cli("openai").stdout
    assert "fallback" in shown
    assert "claude" not in shown


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
    (("claude", "--account", "default"), "goes with open or close"),
    (("nobody",), "no provider 'nobody', and no order; the catalog has claude, "),
    (("claude", "open"), "write `assayline providers open claude`"),
    (("shut", "claude"), "no order 'shut': write `assayline providers open claude`"),
])  # fmt: skip
def test_an_order_that_makes_no_sense_is_refused(cli: Callable[..., Any], args: tuple[str, ...], says: str) -> None:
    result = cli(*args)
    assert result.exit_code == 3
    assert says in result.stderr


def test_without_redis_the_catalog_is_listed_and_orders_are_refused(
    cli: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    away = {"ASSAYLINE_REDIS_URL": "redis://127.0.0.1:1/0"}
    shown = cli("--json", **away)
    assert rows(shown)["claude"]["available"] is None
    assert "Redis is away: how providers fare is not known" in shown.stderr
    assert "no answer is remembered" not in shown.stderr + caplog.text, "it speaks of workers"
    refused = cli("open", "claude", **away)
    assert refused.exit_code == 2
    assert "nobody was told" in refused.stderr
    unnamed = cli("--dir", "/nowhere", ASSAYLINE_REDIS_URL="")
    assert unnamed.exit_code == 0
    assert "ASSAYLINE_REDIS_URL is not set and no `assayline up` runs in /nowhere: how providers" in unnamed.stderr
