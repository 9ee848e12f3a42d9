"""The gateway's composition: from settings, catalog and environment to a Gateway.

Called once per process, by whoever composes it. Adapters are made when they are first asked for (a worker asks at its
start), so an SDK is imported only where a provider needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.analyses.registry import AnalysisRegistry, load_analyses
from gateway.cache.answers import AnswerCache
from gateway.cache.memory import MemoryLayer
from gateway.cache.shared import SharedLayer
from gateway.gateway import Gateway
from gateway.log_lines import GatewayOptions
from gateway.provider_set import ProviderSet
from gateway.providers.base import ProviderConfig
from gateway.providers.registry import create
from gateway.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.calls.admission import Admission
    from gateway.catalog import Catalog
    from gateway.catalog_entries import AccountEntry, ProviderEntry
    from gateway.redis_line import RedisLine


def build_gateway(
    settings: Settings,
    catalog: Catalog,
    env: Mapping[str, str],
    analyses: AnalysisRegistry | None = None,
    *,
    line: RedisLine | None = None,
    admission: Admission | None = None,
) -> Gateway:
    """Compose a gateway.

    Args:
        settings: the process's settings.
        catalog: loaded for the same environment.
        env: where keys and base URLs are read.
        analyses: None: the shipped ones and those of installed packages.
        line: the process's line to Redis, where answers are shared with other processes; None: they are remembered
            in memory alone. Whoever made it closes it.
        admission: what lets calls in; None: all are.

    Raises:
        ConfigurationError: an analysis is wrong, the catalog names one that does not exist, or a
            secret's file cannot be read.
    """
    registry = analyses or load_analyses()
    catalog.check_analyses(registry.names())
    configs = {
        name: [provider_config(name, entry, env, account) for account in entry.configured_accounts(env)]
        for name, entry in catalog.configured(env).items()
    }
    options = GatewayOptions(trace_requests=settings.trace_requests, log_token_usage=settings.log_token_usage)
    cache = answer_cache(settings, line) if settings.cache_enabled else None
    providers = ProviderSet(configs, create)
    return Gateway(catalog, registry, providers, admission=admission, cache=cache, options=options)


def answer_cache(settings: Settings, line: RedisLine | None) -> AnswerCache:
    """Compose the answer cache of one process."""
    shared = None if line is None else SharedLayer(line)
    return AnswerCache(MemoryLayer(), shared, ttl_s=settings.cache_ttl_s)


def provider_config(
    name: str, entry: ProviderEntry, env: Mapping[str, str], account: AccountEntry | None = None
) -> ProviderConfig:
    """Return what an adapter needs to know of a configured provider's account (None: the first).

    Raises:
        ConfigurationError: the key's file cannot be read.
    """
    return ProviderConfig(
        name=name,
        dialect=entry.dialect,
        base_url=entry.url(env, account),
        api_key=entry.key(env, account),
        timeout_s=entry.timeout_s,
        options=entry.options,
        account=(account or entry.account(env)).name,
    )
