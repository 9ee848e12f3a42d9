"""What all adapters that speak HTTP share: addresses, waiting times, broken connections, statuses, others' words.

Each adapter has the tables of its own provider; here is only what HTTP itself says, and what the aiohttp transport
that all SDKs ride on makes of a broken connection. Must not know any SDK.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import httpx2

from gateway.errors import (
    AuthRejected,
    ConfigurationError,
    ContextTooLong,
    InvalidRequest,
    MalformedCompletion,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    ServerError,
    Throttled,
    Timeout,
    Unreachable,
)

if TYPE_CHECKING:
    from gateway.providers.base import ProviderConfig

CONNECT_TIMEOUT_S = 10.0
"""Longest wait for one TCP connection: three lost SYNs (1 + 2 + 4 s, RFC 6298) and a little."""

AVAILABLE_TIMEOUT_S = 3.0
"""Longest wait of `is_available`."""

UNLIMITED_CONNECTIONS = 0
"""aiohttp's word for no limit. `None` would mean its default of 100, the SDKs' default is 1,000; how many calls
may be open is the limiter's decision, not the pool's."""

MOST_BODY_BYTES = 16 * 1024 * 1024
"""Longest answer read, decompressed: 128,000 tokens of 4 characters, each escaped to 12 bytes, are 6 MB; a stream
repeats its envelope with each token. What is longer is a fault of the server."""

MOST_TOKENS = 1_000_000_000
"""A count beyond this is a fault of the server; no model has such a window, and no ledger should hold it."""

MOST_NAME_CHARS = 200
"""Longest id or model's name kept; providers' are a tenth of it."""

TRANSPORT_FAILURES: tuple[type[Exception], ...] = (httpx2.HTTPError, aiohttp.ClientError, OSError)
"""What the transport may raise because of the other side. It lets some of aiohttp's exceptions through unmapped."""

BY_STATUS: Mapping[int, type[ProviderError]] = MappingProxyType(
    {
        401: AuthRejected,
        402: QuotaExhausted,
        403: AuthRejected,
        408: Timeout,
        413: ContextTooLong,
        429: Throttled,
        503: Overloaded,
        504: Timeout,
        529: Overloaded,
    }
)
"""HTTP status; any other is ServerError from 500 up, and InvalidRequest below."""

SATURATION_S = 60.0
"""A provider that calls a quota used up and names a wait of at most a minute is throttling, whatever its word
(Azure answers `insufficient_quota` where a per-minute limit is full)."""

MAX_RETRY_AFTER_S = 86_400.0
"""Longest wait believed: a day. Azure says exactly this where a free tier is used up."""

_KEY_LIKE = re.compile(r"\b(?:sk|pk|key|sess)-[\w*.-]{4,}|\bAIza[\w-]{10,}|\bBearer\s+\S+", re.IGNORECASE)
_SENDABLE = re.compile(r"[\x21-\x7e]+")
_UNREADABLE = (aiohttp.ClientResponseError, httpx2.DecodingError)
_TIMEOUTS = (TimeoutError, httpx2.TimeoutException)


def by_status(status: int) -> type[ProviderError]:
    """Return what a status means where the provider says no more."""
    return BY_STATUS.get(status) or (ServerError if status >= 500 else InvalidRequest)


def from_transport(error: BaseException, timeouts: tuple[type[BaseException], ...] = ()) -> ProviderError:
    """Judge a broken connection by its first cause. `timeouts`: what else than the usual classes means one.

    The classes on top cannot be trusted here: the SDKs' transport maps every aiohttp.ClientConnectionError, a refused
    or reset connection included, to a connect TIMEOUT, and the SDKs call that a timeout of theirs.
    """
    # A timeout inside aiohttp is a cancellation to begin with; that says nothing.
    causes = [cause for cause in _causes(error) if not isinstance(cause, asyncio.CancelledError)]
    first = causes[-1]
    if any(isinstance(cause, _UNREADABLE) for cause in causes):
        return MalformedCompletion(f"the response is not readable HTTP: {type(first).__name__}")
    if isinstance(first, (*_TIMEOUTS, *timeouts)):
        return Timeout(f"the connection timed out: {type(first).__name__}")
    return Unreachable(f"no connection, or it broke: {type(first).__name__}")


def throttled_if_short(failure: type[ProviderError], wait_s: float | None) -> type[ProviderError]:
    """Return Throttled in place of a QuotaExhausted that is over within `SATURATION_S`."""
    short = failure is QuotaExhausted and wait_s is not None and wait_s <= SATURATION_S
    return Throttled if short else failure


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the provider asks to wait, 0 to `MAX_RETRY_AFTER_S`, or None.

    `retry-after-ms`, then `retry-after` as seconds or as an HTTP date. A date is measured against the
    response's own `date` header where there is one: the provider's clock, not ours.
    """
    return believable_wait_s(_waits(headers))


def moment(text: str | None) -> datetime | None:
    """Read an HTTP date; None where it is none."""
    try:
        read = None if text is None else parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return read.replace(tzinfo=UTC) if read is not None and read.tzinfo is None else read


def believable_wait_s(waits: Iterable[float | None]) -> float | None:
    """Return the first of `waits` that is a possible wait, at most `MAX_RETRY_AFTER_S`, or None."""
    for seconds in waits:
        if seconds is not None and math.isfinite(seconds) and seconds >= 0:
            return min(seconds, MAX_RETRY_AFTER_S)
    return None


def without_keys(message: str, api_key: str | None) -> str:
    """Return `message` with the key, and whatever looks like one, cut out: providers echo them."""
    shown = message.replace(api_key, "[key]") if api_key else message
    return _KEY_LIKE.sub("[key]", shown)


def storable(text: str, most_chars: int | None = None) -> str:
    """Return a provider's words as text that every store takes: no NUL, no lone surrogate, at most so long."""
    return text[:most_chars].replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def name_or_none(value: object) -> str | None:
    """Return a provider's id or model's name, at most `MOST_NAME_CHARS` long; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        return None
    return storable(str(value), MOST_NAME_CHARS)


def kept_headers(raw: Iterable[tuple[bytes, bytes]], keep: Callable[[str], bool]) -> dict[str, str]:
    """Return, of a response's `headers.raw`, those whose lower-case names `keep` accepts."""
    lowered = ((name.decode("latin-1").lower(), value) for name, value in raw)
    return {name: value.decode("latin-1") for name, value in lowered if keep(name)}


def check_sendable_key(provider: str, api_key: str | None) -> None:
    """Refuse a key that no header can carry.

    Raises:
        ConfigurationError: it holds blanks or characters outside ASCII. The key is not shown.
    """
    if api_key and not _SENDABLE.fullmatch(api_key):
        raise ConfigurationError(f"provider {provider!r}: its key holds spaces or characters no header can carry")


def checked_base_url(config: ProviderConfig, default: str | None = None) -> str:
    """Return the base URL, or `default` where there is none, without a slash at its end.

    Raises:
        ConfigurationError: there is none, or it is not http(s)://host[:port][/path]. It is not shown.
    """
    whose = f"provider {config.name!r}, account {config.account!r}"
    url = config.base_url or default
    if not url:
        raise ConfigurationError(f"{whose}: dialect {config.dialect} needs a base_url")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not _SENDABLE.fullmatch(url):
        raise ConfigurationError(f"{whose}: its base_url is not written http://host:port or https://…")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(f"{whose}: its base_url holds a user, a query or a fragment; a key belongs in key_env")
    return url.rstrip("/")


def _waits(headers: Mapping[str, str]) -> Iterator[float | None]:
    milliseconds = _number(headers.get("retry-after-ms"))
    yield None if milliseconds is None else milliseconds / 1000
    yield _number(headers.get("retry-after"))
    until, now = moment(headers.get("retry-after")), moment(headers.get("date"))
    yield None if until is None else max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
