"""What comes back of providers, as the OpenAPI document describes it: what the catalog has, and how each fares now."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from api.answers import Answer
from gateway.catalog_entries import Capability, Limits

Usd = Annotated[Decimal, PlainSerializer(float, return_type=float)]
"""Dollars as a JSON number: six decimals survive a float."""


class PriceAnswer(Answer):
    """US dollars for a million tokens."""

    input_per_mtok_usd: Usd
    output_per_mtok_usd: Usd
    cached_input_per_mtok_usd: Usd | None
    cache_write_per_mtok_usd: Usd | None


class LongPriceAnswer(PriceAnswer):
    """The rates of calls with a longer input."""

    above_input_tokens: int


class WholePriceAnswer(PriceAnswer):
    """What a model costs today (UTC)."""

    long_context: LongPriceAnswer | None


class ModelAnswer(Answer):
    """A model."""

    name: str = Field(description="As a job's `model` names it: `provider/model`")
    context_window: int
    max_output_tokens: int
    capabilities: list[Capability]
    price: WholePriceAnswer | None = Field(description="null: unknown, which is not free")
    limit_group: str
    deprecated_on: date | None = Field(description="The day its provider stops serving it")
    replacement: str | None
    source: str = Field(description="Where the figures come from")
    checked: date = Field(description="The day somebody looked")
    note: str | None


class AccountAnswer(Answer):
    """An account with a provider, and its limits by limit group."""

    name: str
    zone: str
    limits: dict[str, Limits]


class BreakerAnswer(Answer):
    """An account's breaker: whether its calls lately failed, as all workers see it."""

    state: Literal["closed", "open", "half-open"]
    reason: str = Field(description="Of the last change; empty where there was none")
    since: datetime | None = Field(description="When it changed last")
    forced: Literal["open", "closed"] | None = Field(description="How an operator holds it")
    failures: int = Field(description="Since the last success")
    next_probe_s: float | None = Field(description="In how many seconds one call may try whether the provider is well")


class GroupTrafficAnswer(Answer):
    """A limit group right now."""

    group: str
    open_calls: int
    used: dict[str, float] = Field(description="Share of each rate used in about the last minute; 1 is all of it")
    ready_in_s: float | None = Field(
        description="When an interactive call could go; 0 is now; null: once an open call has ended"
    )
    spent_usd: float | None = Field(
        description="Today, in the account's zone, with open calls at their worst; null: not asked yet, or no bound"
    )
    usd_per_day: float | None = Field(description="What it may spend in a day; null: no bound")
    available: bool = Field(description="Whether it makes calls, as far as the breaker lets it")
    reason: str | None = Field(description="Why not: its day's money is spent, or its provider asks to wait")


class AccountTrafficAnswer(Answer):
    """An account right now."""

    name: str
    available: bool = Field(description="Whether its breaker lets calls in, and some group makes them")
    breaker: BreakerAnswer
    groups: list[GroupTrafficAnswer]


class TrafficAnswer(Answer):
    """A configured provider right now."""

    role: Literal["primary", "fallback"] | None = Field(
        description="In the chain of an analysis without one of its own"
    )
    current: bool = Field(description="Whether it has the first model of that chain that can be called")
    available: bool = Field(description="Whether any account is")
    ready_in_s: float | None = Field(description="The earliest of its accounts' groups")
    accounts: list[AccountTrafficAnswer]


class ProviderAnswer(Answer):
    """A provider. Keys and addresses are not told."""

    name: str
    dialect: str
    configured: bool = Field(description="As this process sees its environment")
    missing: list[str] = Field(description="Names of the variables that are not set")
    account: str = Field(description="The account that makes the calls")
    accounts: list[AccountAnswer]
    chosen_model: str | None = Field(description="What the provider's own variable names, in place of its models")
    timeout_s: float
    models: list[ModelAnswer]
    traffic: TrafficAnswer | None = Field(description="Null where it is not configured, and while Redis is away")


class ProvidersAnswer(Answer):
    """All providers of the catalog, and what somebody should see to."""

    providers: list[ProviderAnswer]
    warnings: list[str]
