"""Checks of what is installed and configured: Python, environment, catalog, analyses, providers."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from gateway.analyses.registry import load_analyses
from gateway.build import provider_config
from gateway.catalog import SHIPPED_CATALOG, Catalog, load_catalog
from gateway.catalog_entries import ProviderEntry
from gateway.errors import ConfigurationError
from gateway.providers.registry import create
from gateway.settings import Settings
from ops.cli.doctor.finding import Finding, good, noted, odd, wrong

OLDEST_PYTHON = (3, 11)
AVAILABLE_WITHIN_S = 10.0
CATALOG_MEND = "set the variable, or change the chain in the catalog"
FOR_TESTS = "fake"
"""The dialect of scripted answers: nobody misses it where it is not configured."""


def python() -> Finding:
    """Whether Python is new enough."""
    said = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return wrong("python", said, "install Python 3.11 or newer")
    return good("python", said)


def settings(env: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """Whether the environment can be read."""
    try:
        return Settings.from_env(env), [good("environment", "every variable can be read")]
    except ConfigurationError as error:
        return None, [wrong("environment", str(error), "mend this variable: nothing starts before it is right")]


def catalog(settings: Settings, env: Mapping[str, str]) -> tuple[Catalog | None, list[Finding]]:
    """Whether the catalog and the analyses hold together."""
    where = settings.catalog_path or SHIPPED_CATALOG
    try:
        loaded = load_catalog(settings.catalog_path, env)
    except ConfigurationError as error:
        return None, [wrong("catalog", str(error), "mend the line; ASSAYLINE_CATALOG names the file")]
    try:
        names = load_analyses().names()
        loaded.check_analyses(names)
    except ConfigurationError as error:
        return loaded, [wrong("analyses", str(error), "mend it, or uninstall the package that offers it")]
    return loaded, [
        good("catalog", f"{len(loaded.providers)} providers in {where}"),
        *(odd("catalog", said, CATALOG_MEND) for said in loaded.warnings(datetime.now(UTC).date())),
        *_analyses(loaded, names),
    ]


def _analyses(loaded: Catalog, names: tuple[str, ...]) -> Iterator[Finding]:
    stranded = loaded.unrunnable(names)
    served = [name for name in names if name not in stranded]
    if served:
        yield good("analyses", ", ".join(served))
    if stranded and loaded.queues():  # with no provider at all there is one cause, told below
        mend = "configure a provider of their chain (below), or add one to their chain in the catalog"
        yield wrong("analyses", f"no configured provider serves {', '.join(stranded)}", mend)


def api(env: Mapping[str, str]) -> Finding:
    """Whether the HTTP API could be served here."""
    from api.key import KEY, api_key
    from ops.cli.api import installed

    if not installed():
        return noted("api", "not installed; to serve it, pip install 'assayline[api]'")
    if not any(env.get(name, "").strip() for name in (KEY, f"{KEY}_FILE")):
        return noted("api", f"no key here; `assayline up` makes one, `assayline api` wants {KEY}")
    try:
        api_key(env)
    except ConfigurationError as error:
        return wrong("api", str(error), "mend it: `assayline api` does not start before it is right")
    return good("api", "installed, and its key is set")


def providers(loaded: Catalog, env: Mapping[str, str]) -> Iterator[Finding]:
    """Which providers are configured, and whether those answer."""
    configured = loaded.configured(env)
    for name, entry in loaded.providers.items():
        if name in configured:
            yield _answers(name, entry, env)
        elif entry.dialect != FOR_TESTS:
            yield noted(name, f"not configured; to use it, set {' and '.join(entry.missing(env))}")
    if not configured:
        yield wrong("providers", "none is configured", "set the variables of one; `assayline up` brings a local model")


def _answers(name: str, entry: ProviderEntry, env: Mapping[str, str]) -> Finding:
    where = entry.address(env) or entry.dialect
    try:
        available = asyncio.run(_is_available(name, entry, env))
    except ConfigurationError as error:
        return wrong(name, str(error), "then run `assayline doctor` again")
    if entry.dialect == FOR_TESTS:
        return odd(name, "configured: jobs may get scripted answers", f"unset {entry.enabled_env} in production")
    if available:
        return good(name, f"answers at {where}")
    return wrong(name, f"does not answer, or refuses the key, at {where}", _remedy(entry))


async def _is_available(name: str, entry: ProviderEntry, env: Mapping[str, str]) -> bool:
    provider = create(provider_config(name, entry, env))
    try:
        async with asyncio.timeout(AVAILABLE_WITHIN_S):
            return await provider.is_available()
    except TimeoutError:
        return False
    finally:
        await provider.aclose()


def _remedy(entry: ProviderEntry) -> str:
    variables = [name for name in (entry.key_env, entry.base_url_env) if name]
    return f"check {' and '.join(variables)}, and the way there (proxy, firewall)"
