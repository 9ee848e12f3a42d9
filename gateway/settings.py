"""What the environment says, read once and checked.

The composition root calls `Settings.from_env(os.environ)`; nothing else in the gateway reads the
environment, and nothing reads it at import. A variable set to the empty string counts as not set.
Secrets may come from files: `NAME_FILE` holds a path whose content is the value.

Read here: ASSAYLINE_DATABASE_URL, ASSAYLINE_REDIS_URL, ASSAYLINE_BROKER_URL, ASSAYLINE_CATALOG,
ASSAYLINE_JOURNAL, LLM_PROVIDER (or LLM_PRIMARY_PROVIDER), LLM_FALLBACK_PROVIDERS, LLM_CACHE_ENABLED,
LLM_CACHE_TTL, LOG_LEVEL, TRACE_REQUESTS, LOG_TOKEN_USAGE. Elsewhere, through `secret` and `text`: the providers' own
variables (keys, base URLs, models such as CLAUDE_MODEL), which the catalog names; those that
`beat_schedule.py` names; and ASSAYLINE_API_KEY (`api.key`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.errors import ConfigurationError
from gateway.redis_url import SCHEMES as REDIS_SCHEMES
from gateway.redis_url import SENTINEL, Sentinels, refuse_tls, scheme_of

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_SECRET_FILE_BYTES = 64 * 1024
"""A key or URL is short; a longer file is the wrong file."""

LONGEST_CACHE_TTL_S = 31_536_000
"""A year: an older answer is from another age of models."""

BROKER_SCHEMES = (*REDIS_SCHEMES, "amqp", "amqps")
"""A broker is a Redis, found by itself or by Sentinels, or a RabbitMQ."""

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Settings:
    """One process's settings.

    `database_url` and `redis_url` are None where the embedded services are to be used. `broker_url` is the Redis's
    where no other is named; it is one of `BROKER_SCHEMES`. URLs carry passwords, so they stay out of `repr`.
    `preferred_providers` are catalog providers in the order their hops are to be tried first. `cache_ttl_s` takes the
    place of every analysis's own time, None: of none.
    `journal_enabled`: whether answers lie in Redis until they are stored (`gateway.journal`).
    """

    database_url: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    broker_url: str | None = field(default=None, repr=False)
    catalog_path: Path | None = None
    preferred_providers: tuple[str, ...] = ()
    cache_enabled: bool = True
    cache_ttl_s: int | None = None
    journal_enabled: bool = True
    log_level: str = "INFO"
    trace_requests: bool = False
    log_token_usage: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings out of an environment.

        Raises:
            ConfigurationError: a value is unusable; the message names its variable.
        """
        redis_url = _redis_url(secret(env, "ASSAYLINE_REDIS_URL"))
        catalog = text(env, "ASSAYLINE_CATALOG")
        return cls(
            database_url=_without_driver(secret(env, "ASSAYLINE_DATABASE_URL")),
            redis_url=redis_url,
            broker_url=_broker_url(secret(env, "ASSAYLINE_BROKER_URL")) or redis_url,
            catalog_path=Path(catalog) if catalog else None,
            preferred_providers=preferred_providers(env),
            cache_enabled=flag(env, "LLM_CACHE_ENABLED", default=True),
            cache_ttl_s=_cache_ttl_s(env),
            journal_enabled=flag(env, "ASSAYLINE_JOURNAL", default=True),
            log_level=_log_level(env),
            trace_requests=flag(env, "TRACE_REQUESTS"),
            log_token_usage=flag(env, "LOG_TOKEN_USAGE"),
        )


def text(env: Mapping[str, str], name: str) -> str | None:
    """Return a variable without surrounding blanks, None if it is not set or empty."""
    return env.get(name, "").strip() or None


def flag(env: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """Read a switch: 1/true/yes/on or 0/false/no/off; not set means `default`.

    Raises:
        ConfigurationError: it is something else.
    """
    value = (text(env, name) or str(int(default))).lower()
    if value not in _TRUE | _FALSE:
        raise ConfigurationError(f"{name} is a switch: 1 or 0, true or false, not {value!r}")
    return value in _TRUE


def secret(env: Mapping[str, str], name: str) -> str | None:
    """Read a value that may be given in `name` or in the file that `name_FILE` points to.

    Returns:
        The value, or None if neither is set. It is never part of an error message.

    Raises:
        ConfigurationError: both are set, or the file cannot be read, is empty or too long.
    """
    value, path = text(env, name), text(env, f"{name}_FILE")
    if value and path:
        raise ConfigurationError(f"{name} and {name}_FILE are both set; keep one")
    return _secret_from_file(name, Path(path)) if path else value


def _secret_from_file(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_FILE_BYTES + 1)
        value = content.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}_FILE: {path} cannot be read: {type(error).__name__}") from error
    if not value or len(content) > MAX_SECRET_FILE_BYTES:
        raise ConfigurationError(f"{name}_FILE: {path} is empty or longer than {MAX_SECRET_FILE_BYTES} bytes")
    return value


def preferred_providers(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the providers to try first: LLM_PROVIDER (or LLM_PRIMARY_PROVIDER), then LLM_FALLBACK_PROVIDERS.

    Raises:
        ConfigurationError: the two names of the first provider disagree.
    """
    first, alias = text(env, "LLM_PROVIDER"), text(env, "LLM_PRIMARY_PROVIDER")
    if first and alias and first != alias:
        raise ConfigurationError(f"LLM_PROVIDER={first} and LLM_PRIMARY_PROVIDER={alias} disagree; keep one")
    rest = (name.strip() for name in (text(env, "LLM_FALLBACK_PROVIDERS") or "").split(","))
    named = [name for name in (first or alias, *rest) if name]
    return tuple(dict.fromkeys(named))


def _without_driver(url: str | None) -> str | None:
    """Take SQLAlchemy's spelling (`postgresql+psycopg://`) for libpq's: which driver connects is not the operator's."""
    if url is None:
        return None
    scheme, separator, rest = url.partition("://")
    return scheme.partition("+")[0] + separator + rest


def _redis_url(url: str | None) -> str | None:
    """Check what Sentinels are said to be. Other kinds are judged by who connects, which may know more of them."""
    if url is None:
        return None
    refuse_tls(url, "ASSAYLINE_REDIS_URL")
    if scheme_of(url) == SENTINEL:
        Sentinels.parse(url, "ASSAYLINE_REDIS_URL")
    return url


def _broker_url(url: str | None) -> str | None:
    if url is None:
        return None
    refuse_tls(url, "ASSAYLINE_BROKER_URL")
    scheme = scheme_of(url)
    if scheme not in BROKER_SCHEMES:
        known = ", ".join(f"{name}://" for name in BROKER_SCHEMES)
        raise ConfigurationError(f"ASSAYLINE_BROKER_URL must begin with one of {known}")
    if scheme == SENTINEL:
        Sentinels.parse(url, "ASSAYLINE_BROKER_URL")
    return url


def _cache_ttl_s(env: Mapping[str, str]) -> int | None:
    value = text(env, "LLM_CACHE_TTL")
    if value is None:
        return None
    # ASCII digits alone: int() takes more than people mean.
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and 1 <= int(value) <= LONGEST_CACHE_TTL_S):
        raise ConfigurationError(
            f"LLM_CACHE_TTL is whole seconds, 1 to {LONGEST_CACHE_TTL_S}, not {value!r} (LLM_CACHE_ENABLED=0: no cache)"
        )
    return int(value)


def _log_level(env: Mapping[str, str]) -> str:
    level = (text(env, "LOG_LEVEL") or "INFO").upper()
    if level not in LOG_LEVELS:
        raise ConfigurationError(f"LOG_LEVEL is one of {', '.join(LOG_LEVELS)}, not {level!r}")
    return level
