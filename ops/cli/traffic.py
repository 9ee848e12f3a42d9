"""How providers fare, for `assayline providers`, and its orders to their breakers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
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
    from rich.table import Table
    from rich.text import Text

UNKNOWN = "how providers fare is not known"
HEADINGS = ("provider", "role", "account", "breaker", "limits", "open", "used in the last minute", "spent today")
NEXT = "next call"
HOURS_FROM_S, MINUTES_FROM_S = 7_200, 120
COLOURS = {"closed": "green", "open": "red", "half-open": "yellow"}


class Order(StrEnum):
    """What an operator tells a breaker."""

    OPEN = "open"
    CLOSE = "close"


def found_traffic(
    catalog: Catalog, env: Mapping[str, str], directory: Path
) -> tuple[dict[str, ProviderTraffic], str | None]:
    """How each configured provider fares, and why that is not known where it is not."""
    url = Settings.from_env(env).redis_url
    if not url:
        return {}, f"{target.REDIS} is not set and no `assayline up` runs in {directory}: {UNKNOWN}"

    async def found() -> list[ProviderTraffic]:
        line = RedisLine.from_url(url, tells=False)
        try:
            return await traffic(catalog, Limiter(line, "cli", tells=False))
        finally:
            await line.aclose()

    try:
        return {one.provider: one for one in asyncio.run(found())}, None
    except RedisAway:
        return {}, f"Redis is away: {UNKNOWN}"


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
    line = RedisLine.from_url(url, tells=False)
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
        "available": account.available,
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
                "available": one.available,
                "reason": one.reason,
            }
            for one in account.groups
        ],
    }


def traffic_table(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """One line for each limit group of each account; None where nothing is known. A name stands once."""
    from rich.table import Table
    from rich.text import Text

    lines = [
        (row if place == number == 0 else {}, account if not number else {}, account, group)
        for row in rows
        for place, account in enumerate(row["accounts"])
        for number, group in enumerate(account["groups"])
    ]
    if not lines:
        return None
    table = Table(*HEADINGS, NEXT, box=None, pad_edge=False)
    for row, first, account, group in lines:
        table.add_row(
            Text(row.get("provider", ""), "bold"),
            _role(row),
            first.get("name", ""),
            Text(_breaker(first), COLOURS[first["breaker"]]) if first else "",
            group["group"],
            str(group["open"]),
            ", ".join(f"{kind.replace('_', ' ')} {share:.0%}" for kind, share in group["used"].items()),
            _money(group),
            Text(_next(account, group), "" if account["breaker"] == "closed" and group["available"] else "yellow"),
        )
    return table


def _role(row: Mapping[str, Any]) -> Text:
    from rich.text import Text

    role = row.get("role") or ""
    return Text(f"{role}, asked now", "bold") if row.get("current") else Text(role)


def _breaker(account: Mapping[str, Any]) -> str:
    if account["breaker"] == "closed" and not account["forced"]:
        return "closed"
    return f"{account['breaker']} ({account['reason']})"


def _money(group: Mapping[str, Any]) -> str:
    """US dollars of the day's bound; nothing without one."""
    if group["usd_per_day"] is None:
        return ""
    spent = "not known yet," if group["spent_usd"] is None else _usd(group["spent_usd"])
    return f"{spent} of {_usd(group['usd_per_day'])} USD"


def _usd(amount: float) -> str:
    return f"{amount:,.4f}".rstrip("0").rstrip(".")


def _next(account: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    """When a call could go, and what keeps it."""
    if account["forced"] == "open":
        return "after `assayline providers close`"
    ready_in_s = group["ready_in_s"]
    if ready_in_s is None:
        return "once an open call has ended"
    when = "now" if ready_in_s <= 0 else f"in {_lasting(ready_in_s)}"
    return when if group["reason"] is None else f"{when}: {group['reason']}"


def _lasting(seconds: float) -> str:
    """A time to wait in the unit that a reader thinks in."""
    if seconds >= HOURS_FROM_S:
        return f"{seconds / 3_600:.1f} h"
    return f"{math.ceil(seconds / 60)} min" if seconds >= MINUTES_FROM_S else f"{math.ceil(seconds)} s"
