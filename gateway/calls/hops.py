"""From a model's name to where its calls go: the catalog's entry, the limit groups, the adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.calls.hop import Hop, Seat
from gateway.errors import ConfigurationError
from gateway.limits.groups import LimitGroups

if TYPE_CHECKING:
    from gateway.catalog import Catalog
    from gateway.messages import ModelRef
    from gateway.provider_set import ProviderSet


class Hops:
    """The hops of a catalog, over one process's adapters."""

    def __init__(self, catalog: Catalog, providers: ProviderSet) -> None:
        self._catalog = catalog
        self._providers = providers
        self._groups = LimitGroups(catalog)

    def first(self, analysis: str) -> Hop:
        """Return the first configured hop of an analysis's chain.

        Raises:
            ConfigurationError: no provider of the chain is configured.
        """
        chain = self._catalog.chain(analysis)
        if not chain:
            wanted = {hop.provider: None for hop in self._catalog.route(analysis).chain}
            raise ConfigurationError(f"no provider of {analysis}'s chain is configured: {', '.join(wanted)}")
        return self.of(chain[0])

    def of(self, ref: ModelRef) -> Hop:
        """Return where a model's calls go, with a seat for each account.

        Raises:
            RequestError: the catalog has no such provider or model.
            ConfigurationError: the provider is not configured, or its adapter cannot be made.
        """
        entry = self._catalog.model(ref)
        at = self._catalog.providers[ref.provider]
        seats = tuple(
            Seat(self._groups.of(ref, provider.config.account), provider)
            for provider in self._providers.get(ref.provider)
        )
        return Hop(ref, entry, seats, at.timeout_s, at.counting)
