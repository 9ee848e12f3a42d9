"""The catalog: which providers, models, prices and chains there are, as validated values.

Loaded once at boot from YAML; every mistake is a `CatalogError` naming file, line and key. Knows
which environment variables a provider needs, and reads them only in the environment it is handed.
It must not know an SDK, an adapter or an analysis's content.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from gateway.errors import CatalogError, RequestError
from gateway.messages import ModelRef
from gateway.settings import flag, preferred_providers, secret, text
from gateway.yaml_source import KeyPath, YamlSource, read_yaml

SHIPPED_CATALOG = Path(__file__).with_name("catalog.yaml")

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
"""A provider's or analysis's name: it becomes part of queue names and metric labels."""


def _check_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(f"a name is lower-case letters, digits, _ and -, at most 32, not {value!r}")
    return value


def _parse_ref(value: object) -> object:
    return ModelRef.parse(value) if isinstance(value, str) else value


Name = Annotated[str, AfterValidator(_check_name)]
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
    INTEGER_RANGES = "integer_ranges"
    """Its server enforces `minimum` and `maximum` of integers in a schema."""
    TEMPERATURE = "temperature"
    """It accepts a temperature."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rates(_Entry):
    """US dollars per million tokens. Without a price of their own, cached tokens cost what input costs."""

    input_per_mtok_usd: Usd
    output_per_mtok_usd: Usd
    cached_input_per_mtok_usd: Usd | None = None


class LongContextRates(Rates):
    """The rates of a whole call whose input is longer than `above_input_tokens`."""

    above_input_tokens: Tokens


class Price(Rates):
    """What a model costs."""

    long_context: LongContextRates | None = None


class ModelEntry(_Entry):
    """One model of one provider. `price` None is unknown, never free; `checked` is the day somebody looked.

    `deprecated_on` is the day the provider stops serving it, `replacement` the model of the same provider to
    take then. `limit_group`: models that share one rate limit share this name.
    """

    context_window: Tokens
    max_output_tokens: Tokens
    capabilities: frozenset[Capability]
    price: Price | None
    source: str
    checked: date
    note: str | None = None
    deprecated_on: date | None = None
    replacement: str | None = None
    limit_group: Name = "default"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_output_tokens > self.context_window:
            raise ValueError("max_output_tokens is larger than context_window")
        priced = self.price is not None and (self.price.input_per_mtok_usd or self.price.output_per_mtok_usd)
        if not priced and not self.note:
            raise ValueError("a price that is unknown or 0 needs a note saying why")
        return self


class Limits(_Entry):
    """What a provider allows one account for one group of models. None: no limit of this kind.

    `usd_per_day` is the operator's own bound, by calendar days of `zone`.
    """

    requests_per_min: Annotated[int, Field(gt=0)] | None = None
    input_tokens_per_min: Tokens | None = None
    output_tokens_per_min: Tokens | None = None
    concurrent_calls: Annotated[int, Field(gt=0)] | None = None
    usd_per_day: Annotated[Decimal, Field(gt=0, max_digits=20)] | None = None


class AccountEntry(_Entry):
    """One account with a provider. Its name stands in the ledger beside each call made with it.

    `key_env` and `base_url_env`, where given, stand in place of the provider's. `limits` are by limit group.
    """

    name: Name = "default"
    key_env: str | None = None
    base_url_env: str | None = None
    zone: str = "UTC"
    limits: dict[Name, Limits] = Field(default_factory=dict)


class ProviderEntry(_Entry):
    """One provider: how to speak to it, which variables configure it, and its models.

    `slots` bounds the calls in flight in one worker process, `timeout_s` one call. `model_env` names a variable
    whose model takes the place of this provider's in every chain; `other_models` describes models that are not
    listed, where the provider serves what its operator installs. Of several accounts the first that the
    environment configures makes the calls.
    """

    dialect: str
    models: dict[str, ModelEntry] = Field(min_length=1)
    base_url: str | None = None
    base_url_env: str | None = None
    key_env: str | None = None
    enabled_env: str | None = None
    model_env: str | None = None
    other_models: ModelEntry | None = None
    slots: Annotated[int, Field(gt=0, le=10_000)] = 200
    timeout_s: Annotated[float, Field(gt=0, le=3_600)] = 120.0
    options: dict[str, Any] = Field(default_factory=dict)
    accounts: Annotated[tuple[AccountEntry, ...], Field(min_length=1, max_length=16)] = (AccountEntry(),)

    def missing(self, env: Mapping[str, str]) -> tuple[str, ...]:
        """Return the variables that would have to be set for this provider to be configured."""
        found = {
            self.enabled_env: self.enabled_env and flag(env, self.enabled_env),
            self.key_env: self.key_env and secret(env, self.key_env),
            self.base_url_env: self.base_url_env and self.url(env),
        }
        return tuple(name for name, value in found.items() if name and not value)

    def url(self, env: Mapping[str, str]) -> str | None:
        """Return the base URL in force: the environment's, else the catalog's."""
        return (text(env, self.base_url_env) if self.base_url_env else None) or self.base_url


class Route(_Entry):
    """Where an analysis goes by default: its chain of models, and its lane."""

    chain: Annotated[tuple[Ref, ...], Field(min_length=1)]
    lane: Lane = Lane.BULK


class Catalog(_Entry):
    """Everything the file says, and which of its providers the environment configures.

    `chain`, `queues` and `unrunnable` answer for the environment the catalog was loaded with.
    """

    providers: dict[Name, ProviderEntry] = Field(min_length=1)
    defaults: Route
    analyses: dict[Name, Route] = Field(default_factory=dict)

    _source: YamlSource = PrivateAttr()
    _configured: frozenset[str] = PrivateAttr(default=frozenset())
    _preferred: tuple[str, ...] = PrivateAttr(default=())

    def configured(self, env: Mapping[str, str]) -> dict[str, ProviderEntry]:
        """Return the providers whose keys, URLs and switches are all set in `env`."""
        return {name: entry for name, entry in self.providers.items() if not entry.missing(env)}

    def queues(self) -> tuple[str, ...]:
        """Return the queue names of the configured providers: `<provider>.<lane>`."""
        return tuple(f"{name}.{lane}" for name in self.providers if name in self._configured for lane in Lane)

    def route(self, analysis: str) -> Route:
        """Return an analysis's route as written, the defaults if it has none of its own."""
        return self.analyses.get(analysis, self.defaults)

    def chain(self, analysis: str) -> tuple[ModelRef, ...]:
        """Return an analysis's hops at configured providers, preferred providers first. May be empty."""
        hops = [hop for hop in self.route(analysis).chain if hop.provider in self._configured]
        rank = {provider: place for place, provider in enumerate(self._preferred)}
        return tuple(sorted(hops, key=lambda hop: rank.get(hop.provider, len(rank))))

    def unrunnable(self, analyses: Collection[str]) -> tuple[str, ...]:
        """Return those of `analyses` that no configured provider can run."""
        return tuple(name for name in analyses if not self.chain(name))

    def model(self, ref: ModelRef) -> ModelEntry:
        """Return a model's entry.

        Raises:
            RequestError: the catalog has no such provider or model.
        """
        provider = self.providers.get(ref.provider)
        if provider is None:
            raise RequestError(f"no provider {ref.provider!r}; the catalog has {', '.join(self.providers)}")
        if ref.model not in provider.models:
            raise RequestError(f"no model {ref.model!r} at {ref.provider}; it has {', '.join(provider.models)}")
        return provider.models[ref.model]

    def check_analyses(self, registered: Collection[str]) -> None:
        """Refuse entries for analyses that do not exist.

        Raises:
            CatalogError: an entry under `analyses` names none of `registered`.
        """
        for name in self.analyses:
            if name not in registered:
                raise self._source.error(("analyses", name), f"no such analysis; there are {', '.join(registered)}")


def load_catalog(path: Path | None, env: Mapping[str, str]) -> Catalog:
    """Read the catalog at `path` (None: the shipped one) for the environment `env`.

    Raises:
        CatalogError: the file does not hold together.
        ConfigurationError: a variable it names, or LLM_PROVIDER and its kin, is unusable.
    """
    return build_catalog(read_yaml(path or SHIPPED_CATALOG, CatalogError), env)


def build_catalog(source: YamlSource, env: Mapping[str, str]) -> Catalog:
    """Make a catalog of a parsed source; raises as `load_catalog`."""
    try:
        catalog = Catalog.model_validate(source.data)
    except ValidationError as error:
        raise source.validation_error(error) from error
    for key, ref in _references(catalog):
        try:
            catalog.model(ref)
        except RequestError as error:
            raise source.error(key, str(error)) from error
    catalog._source = source
    catalog._configured = frozenset(catalog.configured(env))
    catalog._preferred = _preferred(catalog, env)
    return catalog


def _references(catalog: Catalog) -> Iterator[tuple[KeyPath, ModelRef]]:
    """Yield every model that a chain names, with its key."""
    routes: dict[KeyPath, Route] = {("defaults",): catalog.defaults}
    routes |= {("analyses", name): route for name, route in catalog.analyses.items()}
    for key, route in routes.items():
        for index, ref in enumerate(route.chain):
            yield (*key, "chain", index), ref


def _preferred(catalog: Catalog, env: Mapping[str, str]) -> tuple[str, ...]:
    preferred = preferred_providers(env)
    unknown = [name for name in preferred if name not in catalog.providers]
    if unknown:
        raise CatalogError(
            f"LLM_PROVIDER / LLM_FALLBACK_PROVIDERS: the catalog has no provider {unknown[0]!r};"
            f" it has {', '.join(catalog.providers)}"
        )
    return preferred
