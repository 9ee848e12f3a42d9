"""The entries of the catalog: a provider, its accounts and their limits, its models, their prices, a route.

Data and what follows from one entry alone; how entries hang together is `gateway.catalog`'s business. Knows which
environment variables a provider needs, and reads them only in the environment it is handed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.messages import ModelRef
from gateway.settings import flag, secret, text

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
"""A provider's or analysis's name: it becomes part of queue names and metric labels."""

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")


def _check_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(f"a name is lower-case letters, digits, _ and -, at most 32, not {value!r}")
    return value


def _check_variable(value: str) -> str:
    # The value is not shown: somebody may have written the key itself.
    if not VARIABLE.fullmatch(value):
        raise ValueError("the name of an environment variable is capitals, digits and _")
    return value


def _parse_ref(value: object) -> object:
    return ModelRef.parse(value) if isinstance(value, str) else value


Name = Annotated[str, AfterValidator(_check_name)]
Variable = Annotated[str, AfterValidator(_check_variable)]
Ref = Annotated[ModelRef, BeforeValidator(_parse_ref)]
Usd = Annotated[Decimal, Field(ge=0, max_digits=20)]
Tokens = Annotated[int, Field(gt=0)]


class Lane(StrEnum):
    """Who waits: a person (`interactive`) or nobody in particular (`bulk`)."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Capability(StrEnum):
    """What a model can do, as far as the gateway must know."""

    STRUCTURED_OUTPUT = "structured_output"
    """It answers by a JSON schema."""
    BOUNDS = "bounds"
    """Its server enforces, in a schema, `minimum` and `maximum` of integers and `minLength` of strings."""
    TEMPERATURE = "temperature"
    """It accepts a temperature."""


class Entry(BaseModel):
    """Base of all entries: closed, unchangeable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Rates(Entry):
    """US dollars per million tokens.

    Tokens read from the provider's cache, and tokens written to it, cost what input costs where they have no price
    of their own.
    """

    input_per_mtok_usd: Usd
    output_per_mtok_usd: Usd
    cached_input_per_mtok_usd: Usd | None = None
    cache_write_per_mtok_usd: Usd | None = None


class LongContextRates(Rates):
    """The rates of a whole call whose input is longer than `above_input_tokens`."""

    above_input_tokens: Tokens


class Price(Rates):
    """What a model costs."""

    long_context: LongContextRates | None = None


class PriceChange(Entry):
    """A price that comes into force on a day (UTC)."""

    since: date
    price: Price


class ModelEntry(Entry):
    """One model of one provider.

    price: None is unknown, never free. price_changes: announced ones, in the order of their days.
    capabilities: what requests may ask of it.
    thinking_tokens: what it may write before its answer and what its provider counts as output: room for so many is
        added to what an answer may take.
    extra_body: further fields of each request, in the provider's own words, such as a reasoning effort.
    limit_group: models that share one rate limit share this name.
    deprecated_on: the day the provider stops serving it. replacement: the provider's model to take then.
    source, checked: where the figures come from, and the day somebody looked.
    """

    context_window: Tokens
    max_output_tokens: Tokens
    capabilities: frozenset[Capability]
    price: Price | None
    source: str
    checked: date
    note: str | None = None
    price_changes: tuple[PriceChange, ...] = ()
    thinking_tokens: Annotated[int, Field(ge=0)] = 0
    extra_body: dict[str, Any] = Field(default_factory=dict)
    limit_group: Name = "default"
    deprecated_on: date | None = None
    replacement: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_output_tokens > self.context_window:
            raise ValueError("max_output_tokens is larger than context_window")
        priced = self.price is not None and (self.price.input_per_mtok_usd or self.price.output_per_mtok_usd)
        if not priced and not self.note:
            raise ValueError("a price that is unknown or 0 needs a note saying why")
        days = [change.since for change in self.price_changes]
        if days != sorted(set(days)):
            raise ValueError("price_changes are in the order of their days, one a day")
        return self

    def price_on(self, day: date) -> Price | None:
        """Return the price in force on a day."""
        changes = [change.price for change in self.price_changes if change.since <= day]
        return changes[-1] if changes else self.price

    def retired_on(self, day: date) -> bool:
        """Whether the provider has stopped serving the model by that day."""
        return self.deprecated_on is not None and self.deprecated_on <= day


class Limits(Entry):
    """What a provider allows one account for one group of models. None: no limit of this kind.

    `tokens_per_min` counts input and output together. `usd_per_day` is the operator's own bound, by calendar days of
    the account's zone.
    """

    requests_per_min: Annotated[int, Field(gt=0)] | None = None
    tokens_per_min: Tokens | None = None
    input_tokens_per_min: Tokens | None = None
    output_tokens_per_min: Tokens | None = None
    concurrent_calls: Annotated[int, Field(gt=0)] | None = None
    usd_per_day: Annotated[Decimal, Field(gt=0, max_digits=20)] | None = None


class OutputCounted(StrEnum):
    """What a provider counts of a call's output, and when."""

    PRODUCED = "produced"
    """What the model writes, as it writes it."""
    MAX_TOKENS = "max_tokens"
    """All that it may write, when the call arrives; what it does not write is not given back."""


class Counting(Entry):
    """What a provider counts against its token limits. `cached_input`: whether input read from its cache counts."""

    output: OutputCounted = OutputCounted.PRODUCED
    cached_input: bool = True


def _check_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"no time zone {value!r}; one is written like Europe/Berlin") from error
    return value


class AccountEntry(Entry):
    """One account with a provider. Its name stands in the ledger beside each call made with it.

    `key_env` and `base_url_env`, where given, stand in place of the provider's. `limits` are by limit group;
    `zone` says when a day of money begins.
    """

    name: Name = "default"
    key_env: Variable | None = None
    base_url_env: Variable | None = None
    zone: Annotated[str, AfterValidator(_check_zone)] = "UTC"
    limits: dict[Name, Limits] = Field(default_factory=dict)


class ProviderEntry(Entry):
    """One provider: how to speak to it, which variables configure it, and its models.

    dialect: its adapter; options: the adapter's own.
    base_url, base_url_env, key_env, enabled_env: its address, and the variables that configure it.
    model_env: a variable whose model takes the place of this provider's models in every chain.
    other_models: what holds for models that are not listed, where the provider serves what its operator installs.
    slots: calls in flight in one worker process; timeout_s: longest time of one call.
    counting: what it counts against its token limits.
    accounts: of several that the environment configures, the first that has room in its limits makes a call.
    """

    dialect: str
    models: dict[str, ModelEntry] = Field(default_factory=dict)
    base_url: str | None = None
    base_url_env: Variable | None = None
    key_env: Variable | None = None
    enabled_env: Variable | None = None
    model_env: Variable | None = None
    other_models: ModelEntry | None = None
    slots: Annotated[int, Field(gt=0, le=10_000)] = 200
    timeout_s: Annotated[float, Field(gt=0, le=3_600)] = 120.0
    options: dict[str, Any] = Field(default_factory=dict)
    counting: Counting = Counting()
    accounts: Annotated[tuple[AccountEntry, ...], Field(min_length=1, max_length=16)] = (AccountEntry(),)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [account.name for account in self.accounts]
        if len(set(names)) < len(names):
            raise ValueError("two accounts have one name: the ledger could not tell them apart")
        if not self.models and self.other_models is None:
            raise ValueError("it has neither models nor other_models")
        for name, model in self.models.items():
            if model.replacement is not None and model.replacement not in self.models:
                raise ValueError(f"{name}: its replacement {model.replacement!r} is not among the models")
        return self

    def missing(self, env: Mapping[str, str]) -> tuple[str, ...]:
        """Return the variables that would have to be set for this provider to be configured."""
        return self._missing(self.account(env), env)

    def account(self, env: Mapping[str, str]) -> AccountEntry:
        """Return the account that makes the calls first: the first whose variables are set, else the first."""
        return next(iter(self.configured_accounts(env)), self.accounts[0])

    def configured_accounts(self, env: Mapping[str, str]) -> tuple[AccountEntry, ...]:
        """Return the accounts whose variables are set, in the order in which they are asked."""
        return tuple(account for account in self.accounts if not self._missing(account, env))

    def url(self, env: Mapping[str, str], account: AccountEntry | None = None) -> str | None:
        """Return the base URL in force of an account (None: the first): the environment's, else the catalog's."""
        name = self._url_env(account or self.account(env))
        return (text(env, name) if name else None) or self.base_url

    def address(self, env: Mapping[str, str], account: AccountEntry | None = None) -> str | None:
        """Return an account's base URL in force as it may be shown: without user, password and query."""
        url = self.url(env, account)
        if url is None:
            return None
        scheme, separator, rest = url.rpartition("://")
        host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
        return scheme + separator + host.rpartition("@")[2] + slash + path

    def key(self, env: Mapping[str, str], account: AccountEntry | None = None) -> str | None:
        """Return the key in force of an account (None: the first), None where there is none.

        Raises:
            ConfigurationError: its file cannot be read.
        """
        name = (account or self.account(env)).key_env or self.key_env
        return secret(env, name) if name else None

    def listed(self, model: str) -> ModelEntry | None:
        """Return a model's entry; `other_models` stands for those that are not listed."""
        return self.models.get(model, self.other_models)

    def _url_env(self, account: AccountEntry) -> str | None:
        return account.base_url_env or self.base_url_env

    def _missing(self, account: AccountEntry, env: Mapping[str, str]) -> tuple[str, ...]:
        key_env, url_env = account.key_env or self.key_env, self._url_env(account)
        found = {
            self.enabled_env: self.enabled_env and flag(env, self.enabled_env),
            key_env: key_env and secret(env, key_env),
            url_env: url_env and (text(env, url_env) or self.base_url),
        }
        return tuple(name for name, value in found.items() if name and not value)


class Route(Entry):
    """Where an analysis goes by default: its chain of models, and its lane."""

    chain: Annotated[tuple[Ref, ...], Field(min_length=1)]
    lane: Lane = Lane.BULK


class TenantEntry(Entry):
    """What an operator grants a tenant. weight: how many jobs it has in its turn, where others have one."""

    weight: Annotated[int, Field(ge=1, le=1_000)] = 1
