"""A process's providers, each made at its first use: an SDK that no job needs is never imported."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.providers.base import Provider, ProviderConfig


class ProviderSet:
    """The configured providers by name, one adapter for each account. Lives on one event loop, as connections do."""

    def __init__(
        self, configs: Mapping[str, Sequence[ProviderConfig]], create: Callable[[ProviderConfig], Provider]
    ) -> None:
        """Make a set; no adapter is made yet.

        Args:
            configs: by provider, one for each account, in the order in which they are asked.
            create: makes an adapter.
        """
        self._configs = configs
        self._create = create
        self._made: dict[str, tuple[Provider, ...]] = {}

    def names(self) -> tuple[str, ...]:
        """Return the configured providers' names."""
        return tuple(self._configs)

    def get(self, name: str) -> tuple[Provider, ...]:
        """Return a provider's adapters, one for each account, making them if this is its first use.

        Raises:
            ConfigurationError: it is not configured, or an adapter cannot be made.
        """
        if name not in self._made:
            if name not in self._configs:
                configured = ", ".join(self._configs) or "none"
                raise ConfigurationError(f"provider {name!r} is not configured; configured: {configured}")
            self._made[name] = tuple(self._create(config) for config in self._configs[name])
        return self._made[name]

    async def aclose(self) -> None:
        """Close all providers that were made; one that fails does not keep the others open.

        Raises:
            ExceptionGroup: what went wrong in closing.
        """
        made, self._made = [provider for adapters in self._made.values() for provider in adapters], {}
        outcomes = await asyncio.gather(*(provider.aclose() for provider in made), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if failures:
            raise ExceptionGroup("providers did not close", failures)
