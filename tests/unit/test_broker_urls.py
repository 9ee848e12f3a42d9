"""Where the broker is, and what Celery is told of it: every kind, every mistake, no password in any message."""

from __future__ import annotations

import ssl
from urllib.parse import quote

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection
from kombu.transport.redis import SentinelChannel

from gateway.errors import ConfigurationError
from gateway.redis_clients import blocking_client, client
from gateway.redis_url import Sentinels, place_of
from gateway.settings import Settings
from workers.brokers.drivers import AMQP, REDIS, queue
from workers.celery_settings import SETTINGS, for_broker

SECRET = "pa:ss/w@rd?"
HOSTS = "one:26379,two,[::1]:5"
URL = f"sentinel://user:{quote(SECRET, safe='')}@{HOSTS}/2?master_name=mine&sentinel_password=theirs"


def test_sentinels_are_read() -> None:
    found = Sentinels.parse(URL)
    assert found == Sentinels(
        hosts=(("one", 26379), ("two", 26379), ("::1", 5)),
        master_name="mine",
        db=2,
        username="user",
        password=SECRET,
        sentinel_password="theirs",
    )
    assert found.place == "mine of sentinels one:26379,two:26379,[::1]:5/2"
    assert "theirs" not in repr(found)
    assert SECRET not in repr(found)


SOME_TEXT = st.text(st.characters(codec="utf-8"), min_size=1)


@given(SOME_TEXT, SOME_TEXT)
def test_any_password_can_be_written(password: str, theirs: str) -> None:
    quoted, quoted_theirs = quote(password, safe=""), quote(theirs, safe="")
    found = Sentinels.parse(f"sentinel://:{quoted}@h?master_name=m&sentinel_password={quoted_theirs}")
    assert (found.password, found.sentinel_password) == (password, theirs)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sentinel://h:26379/0", "which master"),
        ("sentinel://h:26379/0?master_name=", "which master"),
        ("sentinel:///0?master_name=m", "HOST or HOST:PORT"),
        ("sentinel://h:0/0?master_name=m", "HOST or HOST:PORT"),
        ("sentinel://h:99999/0?master_name=m", "HOST or HOST:PORT"),
        ("sentinel://h:port/0?master_name=m", "HOST or HOST:PORT"),
        ("sentinel://a,,b/0?master_name=m", "HOST or HOST:PORT"),
        ("sentinel://[::1/0?master_name=m", "HOST or HOST:PORT"),
        ("sentinel://h/one?master_name=m", "is a number"),
        ("sentinel://h/-1?master_name=m", "is a number"),
        ("sentinel://h/\N{FULLWIDTH DIGIT NINE}?master_name=m", "is a number"),
        ("sentinel://a:1;sentinel://b:1/0?master_name=m", "by commas"),
        ("sentinel://h/0?master_name=m&master=x", "nothing else"),
        (f"sentinel://:{SECRET}@h/0?master_name=m", "nothing else"),
        (f"sentinel://{','.join(['h'] * 16)}/0?master_name=m", "at most 15"),
        ("sentinel://h/0?master_name=m&ssl=true", "TLS to Sentinels is not supported"),
        ("sentinels://h/0?master_name=m", "TLS to Sentinels is not supported"),
        ("rediss+sentinel://h/0?master_name=m", "TLS to Sentinels is not supported"),
    ],
)
@pytest.mark.parametrize("variable", ["ASSAYLINE_REDIS_URL", "ASSAYLINE_BROKER_URL"])
def test_a_mistake_is_named_with_its_variable(url: str, said: str, variable: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        Settings.from_env({variable: url})
    assert variable in str(refused.value)
    assert "w@rd" not in str(refused.value)


@pytest.mark.parametrize("url", ["", "host:6379", "http://host", "pyamqp://host", "redis:/host", "redis+socket:///s"])
def test_a_broker_of_no_known_kind_is_refused(url: str) -> None:
    env = {"ASSAYLINE_REDIS_URL": "redis://r", "ASSAYLINE_BROKER_URL": url}
    if not url:
        assert Settings.from_env(env).broker_url == "redis://r"
        return
    with pytest.raises(ConfigurationError, match="ASSAYLINE_BROKER_URL must begin with one of redis://"):
        Settings.from_env(env)
    with pytest.raises(ConfigurationError, match="begins with"):
        for_broker(url)


def connection_of(url: str) -> Connection:
    """The connection that Celery makes of the settings; nothing connects."""
    app = Celery("urls", set_as_current=False)
    app.conf.update(for_broker(url))
    return app.connection_for_write()


def test_redis_keeps_no_books() -> None:
    settings = for_broker("redis://:p@h:1/3")
    assert settings["broker_url"] == "redis://:p@h:1/3"
    assert settings["broker_transport_options"]["ack_emulation"] is False
    assert not SETTINGS.keys() & {"broker_url", "broker_transport_options"}
    assert queue("one.bulk", REDIS).queue_arguments is None


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("rediss://h/0", ssl.CERT_REQUIRED),
        ("rediss://h/0?ssl_cert_reqs=none", ssl.CERT_NONE),
    ],
)
def test_certificates_are_checked_unless_the_url_says_otherwise(url: str, checked: ssl.VerifyMode) -> None:
    assert connection_of(url).ssl["ssl_cert_reqs"] == checked


def test_rabbitmqs_certificate_is_checked() -> None:
    connection = connection_of("amqps://u:p@rabbit.example/v")
    assert connection.ssl == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "rabbit.example"}
    assert connection.transport.driver_name == "py-amqp"


def test_a_socket_in_kombus_words() -> None:
    assert for_broker("unix:///run/valkey.sock")["broker_url"] == "redis+socket:///run/valkey.sock?virtual_host=0"
    url = for_broker("unix://:p%40ss@/run/valkey.sock?db=4")["broker_url"]
    assert url == "redis+socket://:p%40ss@/run/valkey.sock?virtual_host=4"


def test_sentinels_in_kombus_words() -> None:
    settings = for_broker(URL)
    quoted = quote(SECRET, safe="")
    assert settings["broker_url"] == ";".join(
        f"sentinel://user:{quoted}@{place}/2" for place in ("one:26379", "two:26379", "[::1]:5")
    )
    assert settings["broker_transport_options"]["master_name"] == "mine"
    assert "theirs" not in repr(settings), "Celery shows its settings to whoever asks a worker"
    assert SentinelChannel.sentinel_kwargs["password"] == "theirs"
    connection = connection_of(URL)
    assert (connection.userid, connection.password, connection.virtual_host) == ("user", SECRET, "2")
    assert connection.transport.driver_type == REDIS


def test_rabbitmq_has_quorum_queues_and_no_shared_mailbox() -> None:
    settings = for_broker("amqp://u:p@h//")
    assert settings["broker_url"] == "pyamqp://u:p@h//"
    assert (settings["control_queue_exclusive"], settings["control_queue_durable"]) == (False, True)
    [system] = settings["task_queues"]
    assert system == queue("system", AMQP)
    assert system.queue_arguments["x-queue-type"] == "quorum"
    assert system.durable
    assert not system.exchange.name


def test_clients_find_a_place_without_connecting() -> None:
    with blocking_client(URL) as found:
        assert found.connection_pool.service_name == "mine"
    assert client(URL).connection_pool.connection_kwargs["db"] == 2
    assert place_of("redis://:secret@h:1/2") == "h:1/2"
    assert place_of("unix:///run/s") == "a local socket/run/s"


def test_celerys_own_variables_do_not_move_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery prefers them to every setting. In a container shared with a web app they are that app's."""
    from workers import app

    monkeypatch.setenv("ASSAYLINE_BROKER_URL", "redis://ours/0")
    for name in app.CELERYS_OWN:
        monkeypatch.setenv(name, "redis://theirs/0")
    made = app._App("alone", set_as_current=False)
    made.add_defaults(app._settings)
    assert {made.connection_for_read().hostname, made.connection_for_write().hostname, made.connection().hostname} == {
        "ours"
    }
