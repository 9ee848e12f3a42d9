"""Which adapter speaks which dialect, and how one is made.

An adapter's module, and with it its SDK, is imported when the first provider of its dialect is
created: an SDK costs tens of megabytes and seconds of CPU, so an installation pays only for its own.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module

from gateway.errors import ConfigurationError
from gateway.providers.base import Provider, ProviderConfig


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where an adapter that ships lives, and the extra of this package that brings its SDK."""

    module: str
    attribute: str
    extra: str | None = None


DIALECTS: dict[str, Dialect] = {
    "openai_compatible": Dialect("gateway.providers.openai_compatible", "OpenAICompatible", extra="openai"),
    "fake": Dialect("gateway.providers.fake", "FakeProvider"),
}
"""The dialects that ship."""

_registered: dict[str, type[Provider]] = {}


def register_provider(name: str, cls: type[Provider]) -> None:
    """Make `cls` the adapter of the dialect `name`.

    Raises:
        ConfigurationError: `cls` is not a complete Provider, or `name` is another adapter's.
    """
    if not (inspect.isclass(cls) and issubclass(cls, Provider)):
        raise ConfigurationError(f"dialect {name!r}: {cls!r} is not a subclass of Provider")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise ConfigurationError(f"dialect {name!r}: {cls.__name__} does not implement {missing}")
    if name in DIALECTS or _registered.get(name, cls) is not cls:
        raise ConfigurationError(f"dialect {name!r} has an adapter already")
    _registered[name] = cls


def dialects() -> tuple[str, ...]:
    """Return the names of all known dialects, sorted."""
    return tuple(sorted({*DIALECTS, *_registered}))


def create(config: ProviderConfig) -> Provider:
    """Build the adapter for `config`. Nothing connects until its first call.

    Raises:
        ConfigurationError: the dialect is unknown, its SDK is not installed, or its options are wrong.
    """
    return _adapter(config)(config)


def _adapter(config: ProviderConfig) -> type[Provider]:
    if config.dialect in _registered:
        return _registered[config.dialect]
    if config.dialect not in DIALECTS:
        known = ", ".join(dialects())
        raise ConfigurationError(f"provider {config.name!r}: unknown dialect {config.dialect!r}; known: {known}")
    return _imported(config.name, DIALECTS[config.dialect])


def _imported(provider: str, dialect: Dialect) -> type[Provider]:
    try:
        adapter: type[Provider] = getattr(import_module(dialect.module), dialect.attribute)
    except ModuleNotFoundError as error:
        if dialect.extra is None:
            raise
        raise ConfigurationError(
            f"provider {provider!r} needs the package {error.name!r}: install assayline[{dialect.extra}]"
        ) from error
    return adapter
