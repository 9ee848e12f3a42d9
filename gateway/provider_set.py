"""A process's providers, each made at its first use: an SDK that no job needs is never imported."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.providers.base import Provider, ProviderConfig


class ProviderSet:
    """The configured providers by name. Lives on one event loop, as the connections it holds do."""

    def __init__(self, configs: Mapping[str, ProviderConfig], create: Callable[[ProviderConfig], Provider]) -> None:
        self._configs = configs
        self._create = create
        self._made: dict[str, Provider] = {}

    def names(self) -> tuple[str, ...]:
        """Return the configured providers' names."""
        return tuple(self._configs)

    def get(self, name: str) -> Provider:
        """Return a provider, making it if this is its first use.

        Raises:
            ConfigurationError: it is not configured, or its adapter cannot be made.
        """
        if name not in self._made:
            if name not in self._configs:
                configured = ", ".join(self._configs) or "none"
                raise ConfigurationError(f"provider {name!r} is not configured; configured: {configured}")
            self._made[name] = self._create(self._configs[name])
        return self._made[name]

    async def aclose(self) -> None:
        """Close all providers that were made; one that fails does not keep the others open.

        Raises:
            ExceptionGroup: what went wrong in closing.
        """
        made, self._made = list(self._made.values()), {}
        outcomes = await asyncio.gather(*(provider.aclose() for provider in made), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if failures:
            raise ExceptionGroup("providers did not close", failures)
