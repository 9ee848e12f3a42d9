"""Of whom it can be asked: providers, as the catalog has them and as they fare right now. No key is ever told."""

from __future__ import annotations

from datetime import UTC, date, datetime

from fastapi import APIRouter, Depends

from api.openapi import answers
from api.problems import INVALID
from api.provider_answers import (
    AccountAnswer,
    LongPriceAnswer,
    ModelAnswer,
    ProviderAnswer,
    ProvidersAnswer,
    TrafficAnswer,
    WholePriceAnswer,
)
from api.services import Here, Services, no_parameters
from gateway.catalog_entries import ModelEntry, Price, ProviderEntry
from gateway.limits.limiter import Limiter
from gateway.redis_line import RedisAway
from gateway.traffic import AccountTraffic, ProviderTraffic, traffic

router = APIRouter(tags=["reference"], dependencies=[Depends(no_parameters)])


@router.get(
    "/v1/providers",
    summary="List the providers",
    responses=answers({200: (ProvidersAnswer, "All of the catalog")}, INVALID),
    response_model=ProvidersAnswer,
)
async def providers(here: Here) -> ProvidersAnswer:
    """Which providers there are, what they lack to be used, how they fare, their models and what those cost today."""
    today = datetime.now(UTC).date()
    now = await _traffic(here)
    found = [_provider(here, name, entry, today, now.get(name)) for name, entry in here.catalog.providers.items()]
    return ProvidersAnswer(providers=found, warnings=list(here.catalog.warnings(today)))


async def _traffic(here: Services) -> dict[str, TrafficAnswer]:
    try:
        found = await traffic(here.catalog, Limiter(here.line, "api", tells=False))
    except RedisAway:
        return {}
    return {one.provider: _fares(one) for one in found}


def _fares(one: ProviderTraffic) -> TrafficAnswer:
    return TrafficAnswer.model_validate(
        {
            "role": one.role,
            "current": one.current,
            "available": one.available,
            "ready_in_s": one.ready_in_s,
            "accounts": [_account_fares(account) for account in one.accounts],
        }
    )


def _account_fares(account: AccountTraffic) -> dict[str, object]:
    report = account.breaker
    breaker = {
        "state": report.standing.state,
        "reason": report.standing.reason,
        "since": report.since,
        "forced": report.forced,
        "failures": report.standing.failures,
        "next_probe_s": report.next_probe_s,
    }
    groups = [
        {
            "group": one.group.name,
            "open_calls": one.open,
            "used": dict(one.used),
            "ready_in_s": one.ready_in_s,
            "spent_usd": one.spent_usd,
            "usd_per_day": one.usd_per_day,
            "available": one.available,
            "reason": one.reason,
        }
        for one in account.groups
    ]
    return {"name": account.name, "available": account.available, "breaker": breaker, "groups": groups}


def _provider(
    here: Services, name: str, entry: ProviderEntry, today: date, now: TrafficAnswer | None
) -> ProviderAnswer:
    missing = entry.missing(here.env)
    return ProviderAnswer(
        name=name,
        dialect=entry.dialect,
        configured=not missing,
        missing=list(missing),
        account=here.catalog.account(name),
        accounts=[AccountAnswer(name=one.name, zone=one.zone, limits=one.limits) for one in entry.accounts],
        chosen_model=here.catalog.chosen_model(name),
        timeout_s=entry.timeout_s,
        models=[_model(f"{name}/{model}", found, today) for model, found in here.catalog.models_of(name).items()],
        traffic=now,
    )


def _model(name: str, entry: ModelEntry, today: date) -> ModelAnswer:
    price = entry.price_on(today)
    return ModelAnswer(
        name=name,
        context_window=entry.context_window,
        max_output_tokens=entry.max_output_tokens,
        capabilities=sorted(entry.capabilities),
        price=None if price is None else _price(price),
        limit_group=entry.limit_group,
        deprecated_on=entry.deprecated_on,
        replacement=entry.replacement,
        source=entry.source,
        checked=entry.checked,
        note=entry.note,
    )


def _price(price: Price) -> WholePriceAnswer:
    said = price.model_dump()
    long = said.pop("long_context")
    return WholePriceAnswer(**said, long_context=None if long is None else LongPriceAnswer(**long))
