"""`assayline providers` and `models`: what the catalog says, and what of it the environment puts in force."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.catalog import Catalog, load_catalog
from gateway.messages import ModelRef
from gateway.settings import Settings
from ops.cli import target
from ops.cli.exit_codes import CONFIGURATION, OK
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen
from ops.cli.traffic import Order, found_traffic, ordered, traffic_row, traffic_table
from ops.cli.troubles import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from gateway.catalog_entries import ModelEntry, ProviderEntry

SOON_DAYS = 90
"""A model that goes away sooner is worth a colour."""


def providers(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|open|close",
            help="Only this provider; or an order: let no calls go, or let them go again.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="After open or close: of this provider.", show_default=False)
    ] = None,
    account: Annotated[str | None, typer.Option(help="Of this account alone.", show_default=False)] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """List the catalog's providers: what each still needs, how it fares; or hold a breaker open, or close it.

    `open` lets no worker call the provider until `close` (or until Redis is flushed, which forgets it); jobs with a
    fallback go there, the others wait. `close` also closes a breaker that failures have opened. Exit code 2 where none
    is configured.

    Example: [bold]assayline providers[/bold], [bold]assayline providers claude[/bold],
    [bold]assayline providers open claude[/bold]
    """
    screen = Screen(as_json=as_json)
    env = target.environment(directory)
    catalog = _catalog(env)
    order, shown = _asked(catalog, what, name)
    if order is not None:
        ordered(catalog, env, directory, order, name, account)
    elif account is not None:
        raise BadInput("--account goes with open or close")
    now, unknown = found_traffic(catalog, env, directory)
    rows = [{**_provider_row(one, catalog.providers[one], catalog, env), **traffic_row(now.get(one))} for one in shown]
    for row in rows:
        screen.document(row)
    screen.show(_providers_table(rows))
    if (faring := traffic_table(rows)) is not None:
        screen.show("")
        screen.show(faring)
    for warning in catalog.warnings(_today()):
        screen.say(warning)
    if not catalog.queues():
        screen.say("none is configured: set the variables of one, or let `assayline up` start a small local model")
        return CONFIGURATION
    if unknown is not None:
        screen.say(unknown)
    return OK


def _asked(catalog: Catalog, what: str | None, name: str | None) -> tuple[Order | None, list[str]]:
    """Return the order, if it is one, and the providers to show."""
    if what in set(Order):
        return Order(what), list(catalog.providers)
    if name is not None:
        first, second = (name, what) if name in set(Order) else (Order.OPEN, name)
        raise BadInput(f"no order {what!r}: write `assayline providers {first} {second}`")
    if what is not None and what not in catalog.providers:
        raise BadInput(
            f"no provider {what!r}, and no order; the catalog has {', '.join(catalog.providers)}, and the orders are"
            f" {' and '.join(Order)}"
        )
    return None, list(catalog.providers) if what is None else [what]


def models(
    provider: Annotated[str | None, typer.Argument(help="Only this provider's.", show_default=False)] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    """List the catalog's models: window, price in US dollars per million tokens, who uses them, when they go away.

    Example: [bold]assayline models claude[/bold]
    """
    screen = Screen(as_json=as_json)
    catalog = _catalog(target.environment(directory))
    if provider is not None and provider not in catalog.providers:
        raise BadInput(f"no provider {provider!r}; the catalog has {', '.join(catalog.providers)}")
    names = [provider] if provider else list(catalog.providers)
    rows = [
        _model_row(ModelRef(name, model), entry, catalog)
        for name in names
        for model, entry in catalog.models_of(name).items()
    ]
    for row in rows:
        screen.document(row)
    screen.show(_models_table(rows))
    return OK


def _catalog(env: Mapping[str, str]) -> Catalog:
    return load_catalog(Settings.from_env(env).catalog_path, env)


def _today() -> date:
    return datetime.now(UTC).date()


def _provider_row(name: str, entry: ProviderEntry, catalog: Catalog, env: Mapping[str, str]) -> dict[str, Any]:
    missing = entry.missing(env)
    account = entry.account(env)
    limits = {group: limit.model_dump(exclude_none=True) for group, limit in account.limits.items()}
    return {
        "provider": name,
        "configured": not missing,
        "missing": list(missing),
        "dialect": entry.dialect,
        "url": entry.address(env),
        "account": account.name,
        "limits": limits,
        "slots": entry.slots,
        "timeout_s": entry.timeout_s,
        "models": len(entry.models),
        "chosen_model": catalog.chosen_model(name),
    }


def _providers_table(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("provider", "state", "speaks", "at", "account", "slots", "models", box=None, pad_edge=False)
    for row in rows:
        needs = f"set {' and '.join(row['missing'])}"
        table.add_row(
            Text(row["provider"], "bold"),
            Text("configured", "green") if row["configured"] else Text(needs, "dim"),
            row["dialect"],
            row["url"] or "",
            row["account"],
            str(row["slots"]),
            row["chosen_model"] or str(row["models"]),
        )
    return table


def _model_row(ref: ModelRef, entry: ModelEntry, catalog: Catalog) -> dict[str, Any]:
    price = entry.price_on(_today())
    return {
        "model": str(ref),
        "configured": ref in catalog.models(),
        "context_window": entry.context_window,
        "max_output_tokens": entry.max_output_tokens,
        "thinking_tokens": entry.thinking_tokens,
        "capabilities": sorted(entry.capabilities),
        "price": price.model_dump(exclude_none=True) if price else None,
        "price_changes": [
            {"since": change.since.isoformat(), "price": change.price.model_dump(exclude_none=True)}
            for change in entry.price_changes
            if change.since > _today()
        ],
        "used_by": _used_by(ref, catalog),
        "deprecated_on": entry.deprecated_on.isoformat() if entry.deprecated_on else None,
        "replacement": entry.replacement,
        "source": entry.source,
        "checked": entry.checked.isoformat(),
        "note": entry.note,
    }


def _used_by(ref: ModelRef, catalog: Catalog) -> dict[str, int]:
    """Which analyses have the model in their chain now, and as which choice (1 is the first)."""
    chains = {name: catalog.chain(name) for name in (*catalog.analyses, "defaults")}
    return {name: chain.index(ref) + 1 for name, chain in chains.items() if ref in chain}


def _models_table(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    headings = ("model", "window", "output", "in", "cached", "out", "used by", "goes away")
    table = Table(*headings, box=None, pad_edge=False)
    for column in table.columns[1:6]:
        column.justify = "right"
    for row in rows:
        table.add_row(
            Text(row["model"], "bold" if row["configured"] else "dim"),
            _short(row["context_window"]),
            _short(row["max_output_tokens"]),
            *_rates(row["price"]),
            ", ".join(f"{name} ({place})" for name, place in row["used_by"].items()),
            _end(row),
        )
    return table


def _short(tokens: int) -> str:
    return f"{tokens / 1_000_000:g}M" if tokens >= 1_000_000 else f"{tokens / 1_000:.0f}k"


def _rates(price: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if price is None:
        return "?", "?", "?"
    cached = price.get("cached_input_per_mtok_usd")
    return _usd(price["input_per_mtok_usd"]), _usd(cached), _usd(price["output_per_mtok_usd"])


def _usd(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount.normalize():f}"


def _end(row: Mapping[str, Any]) -> Any:
    from rich.text import Text

    if row["deprecated_on"] is None:
        return ""
    soon = (date.fromisoformat(row["deprecated_on"]) - _today()).days < SOON_DAYS
    advice = f", then {row['replacement']}" if row["replacement"] else ""
    return Text(f"{row['deprecated_on']}{advice}", "bold red" if soon else "yellow")
