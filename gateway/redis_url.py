"""Where Redis is: one server at a fixed address, or the master that some Sentinels name.

`redis://`, `rediss://` and `unix://` are read by redis-py. Sentinels are written as one address with all their hosts:

    sentinel://:password@host1:26379,host2:26379,host3:26379/0?master_name=mymaster

User and password are the master's; the Sentinels' own stand in the query, as `sentinel_username` and
`sentinel_password`. Each new connection asks the Sentinels who the master is, so after a failover clients find it by
themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway.errors import ConfigurationError

SENTINEL = "sentinel"
PLAIN_SCHEMES = ("redis", "rediss", "unix")
SCHEMES = (*PLAIN_SCHEMES, SENTINEL)

DEFAULT_PORT = 26379
MOST_SENTINELS = 15
"""Three or five are usual; a longer list is a mistake."""
SENTINEL_TIMEOUT_S = 0.3
"""For one Sentinel's answer, connecting included: with one that is silent, the next is asked within the second that a
`RedisLine` gives the whole exchange. They answer from memory, in a fraction of a millisecond."""
PARAMETERS = ("master_name", "sentinel_username", "sentinel_password")

BY_TLS = ("sentinels", "rediss+sentinel", "redis+sentinels", "sentinel+rediss", "sentinel+ssl")
"""How other libraries write Sentinels that are spoken to by TLS."""
NO_TLS = "TLS to Sentinels is not supported; docs/brokers.md says what is"

_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:,\s]+)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Sentinels:
    """The Sentinels of one master. `hosts` are (host, port); passwords stay out of `repr`."""

    hosts: tuple[tuple[str, int], ...]
    master_name: str
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str, variable: str = "the URL") -> Sentinels:
        """Read a `sentinel://` URL.

        Args:
            url: percent-encoded where a password has reserved characters.
            variable: where the URL stands, for the message; nothing of the URL itself is ever in it.

        Raises:
            ConfigurationError: it is unusable; the message says which part.
        """
        rest, _, query = url.partition("://")[2].partition("?")
        if "://" in rest:  # kombu's form, a URL for each
            raise ConfigurationError(f"{variable}: Sentinels are separated by commas: {FORM}")
        where, _, path = rest.partition("/")
        user, _, hosts = where.rpartition("@")
        username, _, password = user.partition(":")
        given = _parameters(query, variable)
        return cls(
            hosts=_hosts(hosts, variable),
            master_name=given["master_name"],
            db=_db(path, variable),
            username=unquote(username) or None,
            password=unquote(password) or None,
            sentinel_username=given.get("sentinel_username"),
            sentinel_password=given.get("sentinel_password"),
        )

    @property
    def place(self) -> str:
        """Where they lead, without who goes there."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{self.master_name} of sentinels {hosts}/{self.db}"

    def master_settings(self) -> dict[str, Any]:
        """What a connection to the master is made with."""
        return {"db": self.db, "username": self.username, "password": self.password}

    def sentinel_settings(self) -> dict[str, Any]:
        """What a connection to a Sentinel is made with, but for how often it is tried."""
        return {
            "username": self.sentinel_username,
            "password": self.sentinel_password,
            "socket_timeout": SENTINEL_TIMEOUT_S,
            "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        }


FORM = "sentinel://[:password@]host:26379[,host:26379…]/0?master_name=NAME"


def scheme_of(url: str) -> str:
    """The scheme of a URL, "" where it has none."""
    scheme, separator, _ = url.partition("://")
    return scheme if separator else ""


def refuse_tls(url: str, variable: str) -> None:
    """Say of a URL that means Sentinels by TLS that there are none, rather than that it is of no known kind.

    Raises:
        ConfigurationError: it means them; the message names `variable`.
    """
    if scheme_of(url) in BY_TLS:
        raise ConfigurationError(f"{variable}: {NO_TLS}")


def checked(url: str, variable: str) -> str:
    """Return a URL that leads to a Redis.

    Raises:
        ConfigurationError: it does not; the message names `variable` and holds nothing of the URL.
    """
    scheme = scheme_of(url)
    refuse_tls(url, variable)
    if scheme not in SCHEMES:
        raise ConfigurationError(f"{variable} must begin with {PLAIN_SCHEMES[0]}:// (or {_others(SCHEMES[1:])})")
    if scheme == SENTINEL:
        Sentinels.parse(url, variable)
    return url


def place_of(url: str) -> str:
    """Where a Redis URL leads, without who goes there."""
    if scheme_of(url) == SENTINEL:
        return Sentinels.parse(url).place
    parts = urlsplit(url)
    return f"{parts.hostname or 'a local socket'}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _parameters(query: str, variable: str) -> dict[str, str]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    if any(name.startswith("ssl") for name in given):
        raise ConfigurationError(f"{variable}: {NO_TLS}")
    if given.keys() - set(PARAMETERS):  # not named: of a URL badly encoded it could be a part of the password
        raise ConfigurationError(f"{variable}: after the ? it may say {', '.join(PARAMETERS)}, nothing else")
    if not given.get("master_name"):
        raise ConfigurationError(f"{variable} does not say which master the Sentinels watch: {FORM}")
    return given


def _hosts(text: str, variable: str) -> tuple[tuple[str, int], ...]:
    hosts = []
    for part in text.split(","):
        match = _HOST.fullmatch(part)
        port = int(match["port"] or DEFAULT_PORT) if match else 0
        if match is None or not 0 < port < 65536:
            raise ConfigurationError(f"{variable}: a Sentinel's address is HOST or HOST:PORT: {FORM}")
        hosts.append((match["host"].strip("[]"), port))
    if len(hosts) > MOST_SENTINELS:
        raise ConfigurationError(f"{variable} names {len(hosts)} Sentinels; at most {MOST_SENTINELS} are taken")
    return tuple(hosts)


def _db(path: str, variable: str) -> int:
    text = path or "0"
    # ASCII digits alone: int() takes more than people mean.
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise ConfigurationError(f"{variable}: the database is a number, as the 0 in {FORM}")
    return int(text)


def _others(schemes: tuple[str, ...]) -> str:
    return f"{', '.join(f'{scheme}://' for scheme in schemes[:-1])}, {schemes[-1]}://"
