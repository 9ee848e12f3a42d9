"""Catalogs of a bench's own: made-up providers with one account and one model each, in one chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MODEL = "bench"
"""The one model of each provider."""


@dataclass(frozen=True, slots=True)
class MadeUp:
    """A provider.

    name: in the catalog; the variables of its key and of its API's address are named after it, if not after `prefix`.
    slots: of each of its workers. limits: what its account allows, as a catalog says it.
    more: other fields of a provider, as a catalog has them.
    """

    name: str
    slots: int
    limits: Mapping[str, int | None]
    dialect: str = "openai_compatible"
    prefix: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def variables(self) -> tuple[str, str]:
        """Names of the variables: the key's, the address's."""
        prefix = (self.prefix or self.name).upper()
        return f"{prefix}_API_KEY", f"{prefix}_BASE_URL"

    @property
    def hop(self) -> str:
        """Its place in a chain."""
        return f"{self.name}/{MODEL}"

    def env(self, url: str) -> dict[str, str]:
        """What its users' environment says: a key that is worth nothing, and the endpoint's address."""
        return dict(zip(self.variables, ("bench", url), strict=True))

    @property
    def entry(self) -> dict[str, Any]:
        """Its entry in a catalog."""
        key_env, base_url_env = self.variables
        return {
            "dialect": self.dialect,
            "key_env": key_env,
            "base_url_env": base_url_env,
            "slots": self.slots,
            "accounts": [{"name": "default", "limits": {"default": dict(self.limits)}}],
            "models": {
                MODEL: {
                    "context_window": 200_000,
                    "max_output_tokens": 64_000,
                    "capabilities": ["structured_output", "temperature"],
                    "price": {"input_per_mtok_usd": "1.00", "output_per_mtok_usd": "5.00"},
                    "source": "made up for a bench",
                    "checked": "2026-11-21",
                }
            },
            **self.more,
        }


def catalog(providers: Sequence[MadeUp]) -> dict[str, Any]:
    """A catalog of these providers; jobs go along all of them in this order."""
    return {
        "providers": {provider.name: provider.entry for provider in providers},
        "defaults": {"chain": [provider.hop for provider in providers]},
    }
