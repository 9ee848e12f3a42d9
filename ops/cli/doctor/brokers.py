"""Checks of the broker: which kind it is, whether it answers, takes messages and has our queues as we need them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from gateway.redis_clients import blocking_client
from gateway.redis_url import SENTINEL, Sentinels, place_of, scheme_of
from ops.cli.doctor.finding import Finding, good, odd, wrong
from ops.cli.doctor.redis_server import eviction, redis_version
from ops.cli.troubles import one_line

if TYPE_CHECKING:
    from gateway.settings import Settings

VARIABLE = "ASSAYLINE_BROKER_URL"
WITHIN_S = 3.0
OLDEST_RABBITMQ = (3, 10)
"""Older ones have no message TTL in quorum queues, which nothing here needs, and are not tried by the tests."""
FEWEST_SENTINELS = 3
"""Two cannot outvote one that is wrong; one dies with its host."""


def examine(settings: Settings, queues: Sequence[str]) -> Iterator[Finding]:
    """Whether the broker is as it must be.

    Args:
        settings: the installation's.
        queues: those that workers serve, for how much lies in them.
    """
    url = settings.broker_url
    if not url:
        return  # one cause, told with Redis
    if scheme_of(url).startswith("amqp"):
        yield from _rabbitmq(url, queues)
        return
    if url != settings.redis_url:
        yield from _other_redis(url)
    yield from _lists(url, queues, own=url != settings.redis_url)


def sentinels(url: str) -> Iterator[Finding]:
    """What the Sentinels of a `sentinel://` URL say; nothing for other URLs."""
    if scheme_of(url) == SENTINEL:
        named = Sentinels.parse(url)
        yield judged({f"{host}:{port}": _says(named, host, port) for host, port in named.hosts}, named.master_name)


def judged(said: Mapping[str, Mapping[str, Any] | str], master: str) -> Finding:
    """Judge what each Sentinel says of the master: its state, or in a word why it says nothing."""
    silent = {place: why for place, why in said.items() if isinstance(why, str)}
    states = [state for state in said.values() if not isinstance(state, str)]
    if not states:
        told = "; ".join(f"{place}: {why}" for place, why in silent.items())
        return wrong("sentinels", f"none names {master}: {told}", "start them, or mend their addresses and the name")
    masters = {f"{state['ip']}:{state['port']}" for state in states}
    replicas = min(int(state["num-slaves"]) for state in states)
    asked = f"{len(states)} of {len(said)} name {' and '.join(sorted(masters))} as {master}"
    if len(masters) > 1:
        return odd("sentinels", asked, "a failover is under way; if it stays so, see the Sentinels' logs")
    if silent:
        told = "; ".join(f"{place}: {why}" for place, why in silent.items())
        return odd("sentinels", f"{asked}; {told}", "start them: those that are left must agree to a failover")
    if len(said) < FEWEST_SENTINELS:
        return odd("sentinels", asked, f"name all of them; with fewer than {FEWEST_SENTINELS} a failover is not safe")
    if replicas == 0:
        return odd("sentinels", f"{asked}, and no replica follows it", "add one: there is nothing to fail over to")
    return good("sentinels", f"{asked}, with {replicas} replica{'s' if replicas > 1 else ''}")


def _says(named: Sentinels, host: str, port: int) -> Mapping[str, Any] | str:
    settings = {**named.sentinel_settings(), "socket_timeout": WITHIN_S, "socket_connect_timeout": WITHIN_S}
    try:
        with Redis(host, port, retry=Retry(NoBackoff(), 0), **settings) as client:
            state: Mapping[str, Any] = client.sentinel_master(named.master_name)
            return state
    except (RedisError, OSError) as error:
        return one_line(error)


def _other_redis(url: str) -> Iterator[Finding]:
    try:
        with blocking_client(url, socket_timeout=WITHIN_S, socket_connect_timeout=WITHIN_S) as client:
            info: Mapping[str, Any] = client.info()
    except (RedisError, OSError, ValueError) as error:
        yield wrong("broker", f"{place_of(url)}: {one_line(error)}", f"start the server, or mend {VARIABLE}")
        return
    yield from sentinels(url)
    for finding in (redis_version(info, place_of(url)), eviction(info)):
        yield Finding(finding.verdict, finding.subject.replace("redis", "broker", 1), finding.said, finding.mend)


def _lists(url: str, queues: Sequence[str], *, own: bool) -> Iterator[Finding]:
    """How much lies in the queues. Where Redis does not answer, that was told."""
    try:
        with blocking_client(url, socket_timeout=WITHIN_S, socket_connect_timeout=WITHIN_S) as client:
            depths = {name: int(client.llen(name)) for name in queues}
    except (RedisError, OSError, ValueError):
        return
    yield good("broker", f"{'Redis of its own' if own else 'the same Redis'}; {_lying(depths)}")


def _rabbitmq(url: str, queues: Sequence[str]) -> Iterator[Finding]:
    import amqp
    from kombu.exceptions import KombuError

    place = place_of(url)
    try:
        with _connected(url) as connection:
            properties = connection.connection.server_properties
            yield rabbitmq_version(properties, place)
            yield from _queues(connection, queues)
            # Last: with an alarm on, RabbitMQ reads nothing more of a connection that has published.
            yield _takes_messages(connection)
    except amqp.AccessRefused:
        yield wrong("broker", f"{place} refuses the user, the password or the virtual host", f"mend {VARIABLE}")
    except amqp.NotAllowed as error:
        yield wrong("broker", f"{place}: {error.reply_text}", f"rabbitmqctl add_vhost, or mend {VARIABLE}")
    except (KombuError, amqp.AMQPError, OSError) as error:
        yield wrong("broker", f"{place}: {one_line(error)}", f"start RabbitMQ, or mend {VARIABLE}")


def rabbitmq_version(properties: Mapping[str, Any], place: str) -> Finding:
    """Judge what a server says of itself."""
    product, version = properties.get("product", "an AMQP server"), str(properties.get("version", "unknown"))
    said = f"{product} {version} at {place}"
    if product != "RabbitMQ":
        return odd("broker", said, "Assayline is made for RabbitMQ: quorum queues, publisher confirms")
    if not properties.get("capabilities", {}).get("publisher_confirms"):
        return wrong("broker", f"{said} confirms no messages", "Assayline needs publisher confirms")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_RABBITMQ:
        oldest = ".".join(str(part) for part in OLDEST_RABBITMQ)
        return odd("broker", said, f"Assayline is tried with RabbitMQ {oldest} and newer")
    return good("broker", said)


def _takes_messages(connection: Any) -> Finding:
    """Whether a message would be confirmed: one to nowhere comes back, and is confirmed all the same."""
    from workers.brokers.confirms import Confirms, Returned, Unconfirmed

    confirms = Confirms(connection.Producer(auto_declare=False), lambda _: None, within_s=WITHIN_S)
    try:
        with confirms.batch() as publish:
            publish("", exchange="", routing_key=f"assayline-doctor-{uuid4()}")
    except Returned:
        return good("broker confirms", "a message to nowhere came back at once")
    except Unconfirmed as refused:
        mend = "rabbitmq-diagnostics alarms; free memory or disk, or raise the limits"
        return wrong("broker confirms", str(refused), mend)
    return odd("broker confirms", "a message to nowhere did not come back", "is a policy catching unroutable messages?")


def _queues(connection: Any, names: Sequence[str]) -> Iterator[Finding]:
    import amqp

    from workers.brokers.drivers import AMQP, queue

    depths: dict[str, int] = {}
    for name in names:
        # A channel of its own for each: RabbitMQ closes the one where something does not hold.
        with connection.channel() as channel:
            try:
                ours: Any = queue(name, AMQP)(channel)
                depths[name] = ours.queue_declare(passive=True).message_count
                ours.queue_declare()
            except amqp.NotFound:
                continue  # its dispatcher or worker has not started yet
            except amqp.PreconditionFailed as differs:
                mend = f"stop the processes and delete it; they declare it anew: rabbitmqctl delete_queue {name}"
                yield wrong(f"broker queue {name}", f"is no quorum queue of ours: {differs.reply_text}", mend)
    yield good("broker queues", f"quorum queues; {_lying(depths)}" if depths else "none declared yet")


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    """A connection that is closed without a word: a RabbitMQ out of memory would not answer it."""
    from kombu.connection import Connection

    from workers.celery_settings import for_broker

    settings = for_broker(url)
    connection: Any = Connection(  # type: ignore[no-untyped-call]
        settings["broker_url"], ssl=settings.get("broker_use_ssl", False), connect_timeout=WITHIN_S
    )
    try:
        connection.connect()
        connection.connection.sock.settimeout(WITHIN_S)
        yield connection
    finally:
        connection.collect()


def _lying(depths: Mapping[str, int]) -> str:
    lying = [f"{count} in {name}" for name, count in depths.items() if count]
    return f"messages that wait: {', '.join(lying)}" if lying else "no message waits"
