"""From the operator's URL to Celery's settings, for each kind of broker."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from kombu.transport.redis import Channel, SentinelChannel
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.errors import ConfigurationError
from gateway.redis_url import Sentinels, scheme_of
from workers.brokers.drivers import AMQP, REDIS, queue

Settings = dict[str, Any]

HEARTBEAT_S = 20.0
"""How often RabbitMQ and a worker hear of each other at least. Each sends twice as often, and a lost way shows within a
second of that. RabbitMQ misses a worker after two, which is longer than a stopping worker's calls get (20 s): it sends
no heartbeat then."""

REPLY_WITHIN_S = 5
"""For a reply on a worker's connection. Less than half a heartbeat: each heartbeat that comes begins the wait anew."""

REDIS_OPTIONS: Mapping[str, Any] = {
    # No books of unacknowledged messages in Redis: recovery is the dispatcher's work, by Postgres. Redelivery would
    # only bring stale copies of running jobs, and kombu's books cost two round trips a message, lose count at each
    # reconnect, and are not atomic with the pop.
    "ack_emulation": False,
    # Without one a publish to a Redis that stopped answering hangs for ever.
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    # No retry_on_timeout here: it switches kombu's batched publishing off.
}


def settings_of(url: str, *, system_queue: str) -> Settings:
    """Return what Celery must be told for the broker at `url`, on top of what is the same for all.

    Args:
        url: as `gateway.settings` has checked it.
        system_queue: the queue that beat publishes to; its arguments are the broker's.

    Raises:
        ConfigurationError: the URL is of no kind that is known, or unusable.
    """
    scheme = scheme_of(url)
    if scheme not in KINDS:
        raise ConfigurationError(f"a broker's URL begins with {', '.join(f'{name}://' for name in KINDS)}")
    driver, settings = KINDS[scheme]
    return {**settings(url), "task_queues": (queue(system_queue, driver),)}


def _redis(url: str) -> Settings:
    _no_restoring()
    return {"broker_url": url, "broker_transport_options": {**REDIS_OPTIONS}}


def _redis_by_tls(url: str) -> Settings:
    # kombu's own default checks no certificate. What the URL says (?ssl_cert_reqs=…, ?ssl_ca_certs=…) goes before this.
    return {**_redis(url), "broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_REQUIRED}}


def _redis_by_socket(url: str) -> Settings:
    """The same place in kombu's words: `unix://[user:password@]/path?db=1` is redis-py's."""
    parts = urlsplit(url)
    db = parse_qs(parts.query).get("db", ["0"])[0]
    return _redis(f"redis+socket://{parts.netloc}{parts.path}?virtual_host={quote(db)}")


def _sentinels(url: str) -> Settings:
    """A URL for each Sentinel, as kombu has it, and the master's name among the options."""
    sentinels = Sentinels.parse(url, "the broker's URL")
    # Not among the options, which Celery shows to whoever asks a worker: these hold a password. Sentinels are asked
    # once: redis-py's default tries a silent one for seconds before it asks the next.
    SentinelChannel.sentinel_kwargs = {  # type: ignore[attr-defined]  # kombu asks for it by getattr
        **sentinels.sentinel_settings(),
        "retry": Retry(NoBackoff(), 0),
    }
    who = f"{quote(sentinels.username or '', safe='')}:{quote(sentinels.password or '', safe='')}@"
    places = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in sentinels.hosts]
    urls = ";".join(f"sentinel://{'' if who == ':@' else who}{place}/{sentinels.db}" for place in places)
    settings = _redis(urls)
    settings["broker_transport_options"]["master_name"] = sentinels.master_name
    return settings


def _rabbitmq(url: str) -> Settings:
    # `amqp` would be librabbitmq where that is installed: it knows no publisher confirms.
    return {
        "broker_url": f"py{url}",
        "broker_heartbeat": HEARTBEAT_S,
        "broker_transport_options": {"read_timeout": REPLY_WITHIN_S, "write_timeout": REPLY_WITHIN_S},
        "task_default_queue_type": "quorum",
        "task_create_missing_queue_type": "quorum",
        # A worker's mailbox. Exclusive, a worker whose connection broke could be kept out of its own mailbox by the
        # connection that RabbitMQ has not yet missed; transient and shared, RabbitMQ 4.3 refuses it. It expires.
        "control_queue_exclusive": False,
        "control_queue_durable": True,
    }


def _rabbitmq_by_tls(url: str) -> Settings:
    # kombu's own default checks no certificate.
    tls = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": urlsplit(url).hostname}
    return {**_rabbitmq(url), "broker_url": url, "broker_use_ssl": tls}


def _no_restoring() -> None:
    """Messages of running jobs are not put back when the connection breaks: the copies would be stale.

    And where Redis is really gone, kombu 5.7 fails at it with an AttributeError that ends the worker.
    """
    Channel.do_restore = False


KINDS: Mapping[str, tuple[str, Callable[[str], Settings]]] = {
    "redis": (REDIS, _redis),
    "rediss": (REDIS, _redis_by_tls),
    "unix": (REDIS, _redis_by_socket),
    "sentinel": (REDIS, _sentinels),
    "amqp": (AMQP, _rabbitmq),
    "amqps": (AMQP, _rabbitmq_by_tls),
}
"""By a URL's scheme: kombu's driver, and the settings."""
