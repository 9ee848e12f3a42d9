"""The catalog: which providers, models, prices and chains there are, as validated values.

Loaded once at boot from YAML; every mistake is a `CatalogError` naming file, line and key. Knows
which environment variables a provider needs, and reads them only in the environment it is handed.
It must not know an SDK, an adapter or an analysis's content.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr, ValidationError

from gateway.catalog_entries import Entry, Lane, ModelEntry, Name, ProviderEntry, Route, TenantEntry
from gateway.errors import CatalogError, RequestError
from gateway.messages import ModelRef
from gateway.settings import preferred_providers, text
from gateway.yaml_source import KeyPath, YamlSource, read_yaml

DEFAULTS = "defaults"
"""Stands for an analysis without an entry of its own."""

TenantName = Annotated[str, Field(min_length=1, max_length=200)]

SHIPPED_CATALOG = Path(__file__).with_name("catalog.yaml")


class Catalog(Entry):
    """Everything the file says, and which of its providers the environment configures.

    `chain`, `queues`, `account` and `unrunnable` answer for the environment the catalog was loaded with.
    """

    providers: dict[Name, ProviderEntry] = Field(min_length=1)
    defaults: Route
    analyses: dict[Name, Route] = Field(default_factory=dict)
    tenants: dict[TenantName, TenantEntry] = Field(default_factory=dict)

    _source: YamlSource = PrivateAttr()
    _configured: frozenset[str] = PrivateAttr(default=frozenset())
    _preferred: tuple[str, ...] = PrivateAttr(default=())
    _accounts: dict[str, tuple[str, ...]] = PrivateAttr(default_factory=dict)
    _chosen: dict[str, str] = PrivateAttr(default_factory=dict)
    _unusable: dict[str, tuple[str, ...]] = PrivateAttr(default_factory=dict)

    def configured(self, env: Mapping[str, str]) -> dict[str, ProviderEntry]:
        """Return the providers whose keys, URLs and switches are all set in `env`."""
        return {name: entry for name, entry in self.providers.items() if not entry.missing(env)}

    def queues(self) -> tuple[str, ...]:
        """Return the queue names of the configured providers: `<provider>.<lane>`."""
        return tuple(f"{name}.{lane}" for name in self.providers if name in self._configured for lane in Lane)

    def weights(self) -> dict[str, int]:
        """Return how many jobs each named tenant has in its turn; all others have one."""
        return {name: entry.weight for name, entry in self.tenants.items()}

    def route(self, analysis: str) -> Route:
        """Return an analysis's route as written, the defaults if it has none of its own."""
        return self.analyses.get(analysis, self.defaults)

    def account(self, provider: str) -> str:
        """Return the name of the account that makes a provider's calls as long as it has room."""
        return self._accounts[provider][0]

    def accounts(self, provider: str) -> tuple[str, ...]:
        """Return the names of a provider's configured accounts, in the order in which they are asked."""
        return self._accounts[provider]

    def chosen_model(self, provider: str) -> str | None:
        """Return the model that the provider's `model_env` names, None where it names none."""
        return self._chosen.get(provider)

    def chain(self, analysis: str) -> tuple[ModelRef, ...]:
        """Return an analysis's hops at configured providers, preferred providers first. May be empty.

        A provider whose `model_env` is set is asked for that model, once.
        """
        hops = [self._in_force(hop) for hop in self.route(analysis).chain if hop.provider in self._configured]
        rank = {provider: place for place, provider in enumerate(self._preferred)}
        return tuple(sorted(dict.fromkeys(hops), key=lambda hop: rank.get(hop.provider, len(rank))))

    def _in_force(self, hop: ModelRef) -> ModelRef:
        return ModelRef(hop.provider, self._chosen.get(hop.provider, hop.model))

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
        found = provider.listed(ref.model)
        if found is None:
            raise RequestError(f"no model {ref.model!r} at {ref.provider}; it has {', '.join(provider.models)}")
        return found

    def models(self) -> tuple[ModelRef, ...]:
        """Return the models of the configured providers: those that are listed, and those that variables name."""
        names = [name for name in self.providers if name in self._configured]
        return tuple(ModelRef(name, model) for name in names for model in self.models_of(name))

    def models_of(self, provider: str) -> dict[str, ModelEntry]:
        """Return a provider's models: those that are listed, and the one that its variable names."""
        chosen = self._chosen.get(provider)
        named = {} if chosen is None else {chosen: self.model(ModelRef(provider, chosen))}
        return {**self.providers[provider].models, **named}

    def warnings(self, today: date) -> tuple[str, ...]:
        """Return what somebody should see to: preferred providers that cannot be used, models in use that go away."""
        hops = {hop for name in (*self.analyses, DEFAULTS) for hop in self.chain(name)}
        found = ((hop, self.model(hop)) for hop in sorted(hops, key=str))
        return (
            *(_unusable(name, missing) for name, missing in self._unusable.items()),
            *(_deprecation(hop, entry, today) for hop, entry in found if entry.deprecated_on),
        )

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
    catalog._unusable = {
        name: missing for name in catalog._preferred if (missing := catalog.providers[name].missing(env))
    }
    catalog._accounts = {
        name: tuple(account.name for account in entry.configured_accounts(env)) or (entry.accounts[0].name,)
        for name, entry in catalog.providers.items()
    }
    catalog._chosen = dict(_chosen(catalog, env))
    return catalog


def _references(catalog: Catalog) -> Iterator[tuple[KeyPath, ModelRef]]:
    """Yield every model that a chain names, with its key."""
    routes: dict[KeyPath, Route] = {("defaults",): catalog.defaults}
    routes |= {("analyses", name): route for name, route in catalog.analyses.items()}
    for key, route in routes.items():
        for index, ref in enumerate(route.chain):
            yield (*key, "chain", index), ref


def _chosen(catalog: Catalog, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each provider with the model that its variable names."""
    for name, entry in catalog.providers.items():
        model = text(env, entry.model_env) if entry.model_env else None
        if model is not None:
            if entry.listed(model) is None:
                raise CatalogError(
                    f"{entry.model_env}: no model {model!r} at {name}; the catalog has {', '.join(entry.models)}"
                )
            yield name, model


def _unusable(provider: str, missing: tuple[str, ...]) -> str:
    return f"LLM_PROVIDER / LLM_FALLBACK_PROVIDERS name {provider}, which needs {', '.join(missing)}"


def _deprecation(hop: ModelRef, entry: ModelEntry, today: date) -> str:
    fate = "is gone since" if entry.retired_on(today) else "goes on"
    advice = f"; take {hop.provider}/{entry.replacement}" if entry.replacement else ""
    return f"{hop} {fate} {entry.deprecated_on}{advice}"


def _preferred(catalog: Catalog, env: Mapping[str, str]) -> tuple[str, ...]:
    preferred = preferred_providers(env)
    unknown = [name for name in preferred if name not in catalog.providers]
    if unknown:
        raise CatalogError(
            f"LLM_PROVIDER / LLM_FALLBACK_PROVIDERS: the catalog has no provider {unknown[0]!r};"
            f" it has {', '.join(catalog.providers)}"
        )
    return preferred
