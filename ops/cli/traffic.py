"""How providers fare, for `assayline providers`, and its orders to their breakers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.breaker.account import Account
from gateway.breaker.breakers import Breakers
from gateway.catalog import Catalog
from gateway.errors import ConfigurationError
from gateway.limits.limiter import Limiter
from gateway.redis_line import RedisAway, RedisLine
from gateway.settings import Settings
from gateway.traffic import AccountTraffic, ProviderTraffic, traffic
from ops.cli import target
from ops.cli.troubles import BadInput

if TYPE_CHECKING:
    from rich.text import Text

TRAFFIC_HEADINGS = ("role", "breaker", "open", "used", "ready")
COLOURS = {"closed": "green", "open": "red", "half-open": "yellow"}


class Order(StrEnum):
    """What an operator tells a breaker."""

    OPEN = "open"
    CLOSE = "close"


def found_traffic(catalog: Catalog, env: Mapping[str, str]) -> dict[str, ProviderTraffic]:
    """How each configured provider fares; nothing where no Redis is named, or it is away."""
    url = Settings.from_env(env).redis_url
    if not url:
        return {}

    async def found() -> list[ProviderTraffic]:
        line = RedisLine.from_url(url)
        try:
            return await traffic(catalog, Limiter(line, "cli"))
        except RedisAway:
            return []
        finally:
            await line.aclose()

    return {one.provider: one for one in asyncio.run(found())}


def ordered(
    catalog: Catalog, env: Mapping[str, str], directory: Path, order: Order, name: str | None, account: str | None
) -> None:
    """Hold a provider's breakers open for all processes, or close them.

    Raises:
        BadInput: no provider is named, or there is no such provider or account.
        ConfigurationError: Redis is not named, or away.
    """
    if name is None:
        raise BadInput(
            f"`assayline providers {order}` wants a provider; the catalog has {', '.join(catalog.providers)}"
        )
    if name not in catalog.providers:
        raise BadInput(f"no provider {name!r}; the catalog has {', '.join(catalog.providers)}")
    known = [one.name for one in catalog.providers[name].accounts]
    if account is not None and account not in known:
        raise BadInput(f"{name} has no account {account!r}; it has {', '.join(known)}")
    url = target.checked(Settings.from_env(env).redis_url, target.REDIS, directory)
    asyncio.run(_order(url, [Account(name, one) for one in ([account] if account else known)], order))


async def _order(url: str, accounts: list[Account], order: Order) -> None:
    line = RedisLine.from_url(url)
    breakers = Breakers(line)
    try:
        for account in accounts:
            if order is Order.OPEN:
                await breakers.force(account, "open")
            else:
                # Held closed and let go again, it is closed and goes by how calls end.
                await breakers.force(account, "closed")
                await breakers.force(account, None)
    except RedisAway as away:
        raise ConfigurationError("Redis is away: nobody was told") from away
    finally:
        await line.aclose()


def traffic_row(one: ProviderTraffic | None) -> dict[str, Any]:
    """The fields of `--json`; null and empty where nothing is known."""
    if one is None:
        return {"role": None, "current": None, "available": None, "ready_in_s": None, "accounts": []}
    return {
        "role": one.role,
        "current": one.current,
        "available": one.available,
        "ready_in_s": one.ready_in_s,
        "accounts": [_account_row(account) for account in one.accounts],
    }


def _account_row(account: AccountTraffic) -> dict[str, Any]:
    report = account.breaker
    return {
        "name": account.name,
        "breaker": report.standing.state,
        "reason": report.standing.reason,
        "since": report.since.isoformat() if report.since else None,
        "forced": report.forced,
        "failures": report.standing.failures,
        "next_probe_s": report.next_probe_s,
        "groups": [
            {
                "group": one.group.name,
                "open": one.open,
                "used": dict(one.used),
                "ready_in_s": one.ready_in_s,
                "spent_usd": one.spent_usd,
                "usd_per_day": one.usd_per_day,
            }
            for one in account.groups
        ],
    }


def traffic_cells(row: Mapping[str, Any]) -> tuple[Text, ...]:
    """Role, breaker, calls open, the most used of the limits, and when a call could go."""
    from rich.text import Text

    if not row["accounts"]:
        return (Text(""),) * len(TRAFFIC_HEADINGS)
    groups = [group for account in row["accounts"] for group in account["groups"]]
    used = max((share for group in groups for share in group["used"].values()), default=None)
    several = len(row["accounts"]) > 1
    breakers = Text(", ").join(
        Text(f"{one['name']} " if several else "").append(_word(one), COLOURS[one["breaker"]])
        for one in row["accounts"]
    )
    ready = "now" if row["ready_in_s"] <= 0 else f"in {row['ready_in_s']:.0f} s"
    if all(one["forced"] == "open" for one in row["accounts"]):
        ready = "when closed"
    return (
        Text(row["role"] or "", "bold" if row["current"] else ""),
        breakers,
        Text(str(sum(group["open"] for group in groups))),
        Text("" if used is None else f"{used:.0%}"),
        Text(ready),
    )


def _word(account: Mapping[str, Any]) -> str:
    if account["breaker"] == "closed" and not account["forced"]:
        return "closed"
    return f"{account['breaker']} ({account['reason']})"
