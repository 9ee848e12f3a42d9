"""Which adapter speaks which dialect, and how one is made.

An adapter's module, and with it its SDK, is imported when the first provider of its dialect is
created: an SDK costs tens of megabytes and seconds of CPU, so an installation pays only for its own.

A third party's adapter is declared in its own package's metadata and found when a catalog entry asks for its dialect:

    [project.entry-points."assayline.providers"]
    my_dialect = "my_package.adapter:MyProvider"

A program that composes its own gateway may call `register_provider` instead. Nothing decides by the order in which
packages happen to be found: a dialect that two of them offer, or that ships already, is refused and both are named.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from gateway.errors import ConfigurationError
from gateway.providers.base import Provider, ProviderConfig

ENTRY_POINT_GROUP = "assayline.providers"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where an adapter that ships lives, and the extra of this package that brings its SDK."""

    module: str
    attribute: str
    extra: str | None = None


DIALECTS: dict[str, Dialect] = {
    "anthropic": Dialect("gateway.providers.anthropic.messages", "AnthropicMessages", extra="anthropic"),
    "openai_compatible": Dialect("gateway.providers.openai.chat", "OpenAICompatible", extra="openai"),
    "openai_responses": Dialect("gateway.providers.openai.responses", "OpenAIResponses", extra="openai"),
    "gemini": Dialect("gateway.providers.gemini.generate", "Gemini", extra="google"),
    "ollama": Dialect("gateway.providers.ollama.chat", "Ollama"),
    "http": Dialect("gateway.providers.rest.endpoint", "RestEndpoint"),
    "command": Dialect("gateway.providers.command.program", "CommandProvider"),
    "fake": Dialect("gateway.providers.fake.provider", "FakeProvider"),
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
    """Return the names of all known dialects, those that installed packages offer included, sorted."""
    return tuple(sorted({*DIALECTS, *_registered, *_offered()}))


def create(config: ProviderConfig) -> Provider:
    """Build the adapter for `config`. Nothing connects until its first call.

    Raises:
        ConfigurationError: the dialect is unknown or offered twice, its SDK is not installed, its adapter is no
            Provider, or its options are wrong.
    """
    return _adapter(config)(config)


def _adapter(config: ProviderConfig) -> type[Provider]:
    dialect = config.dialect
    if dialect in _registered:
        return _registered[dialect]
    offers = tuple(entry_points(group=ENTRY_POINT_GROUP, name=dialect))
    _check_single(dialect, offers)
    if dialect in DIALECTS:
        return _imported(config.name, DIALECTS[dialect])
    if not offers:
        known = ", ".join(dialects())
        raise ConfigurationError(f"provider {config.name!r}: unknown dialect {dialect!r}; known: {known}")
    register_provider(dialect, _loaded(offers[0]))
    return _registered[dialect]


def _offered() -> set[str]:
    return {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}


def _check_single(dialect: str, offers: tuple[EntryPoint, ...]) -> None:
    """Check that one package at most offers an adapter for a dialect, none for one that ships.

    Raises:
        ConfigurationError: there is a choice, and nobody made it. All who offer one are named.
    """
    ships = ("assayline itself",) if dialect in DIALECTS else ()
    rivals = (*ships, *sorted(f"{_package(point)} ({point.value})" for point in offers))
    if len(rivals) > 1:
        raise ConfigurationError(
            f"dialect {dialect!r} is offered by {' and by '.join(rivals)}; uninstall or rename all but one"
        )


def _package(point: EntryPoint) -> str:
    return "an unnamed package" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _loaded(point: EntryPoint) -> type[Provider]:
    # A foreign package may fail in any way at import; that is its fault, and the message says whose.
    try:
        cls: type[Provider] = point.load()
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"entry point {point.name} = {point.value}: {problem}") from error
    return cls


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
