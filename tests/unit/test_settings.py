"""The environment, read and checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.settings import Settings, flag, preferred_providers, secret


def test_an_empty_environment_means_the_embedded_services_and_quiet_logs():
    assert Settings.from_env({}) == Settings(
        database_url=None,
        redis_url=None,
        broker_url=None,
        catalog_path=None,
        preferred_providers=(),
        cache_enabled=True,
        cache_ttl_s=None,
        journal_enabled=True,
        log_level="INFO",
        trace_requests=False,
        log_token_usage=False,
    )


def test_every_variable_lands_in_its_setting():
    settings = Settings.from_env(
        {
            "ASSAYLINE_DATABASE_URL": "postgresql://db/x",
            "ASSAYLINE_REDIS_URL": "redis://r/0",
            "ASSAYLINE_BROKER_URL": "redis://b/1",
            "ASSAYLINE_CATALOG": "my.yaml",
            "LLM_PROVIDER": "local",
            "LLM_FALLBACK_PROVIDERS": "openai, fake",
            "LLM_CACHE_ENABLED": "no",
            "LLM_CACHE_TTL": "60",
            "ASSAYLINE_JOURNAL": "off",
            "LOG_LEVEL": "debug",
            "TRACE_REQUESTS": "true",
            "LOG_TOKEN_USAGE": "1",
        }
    )
    assert settings == Settings(
        database_url="postgresql://db/x",
        redis_url="redis://r/0",
        broker_url="redis://b/1",
        catalog_path=Path("my.yaml"),
        preferred_providers=("local", "openai", "fake"),
        cache_enabled=False,
        cache_ttl_s=60,
        journal_enabled=False,
        log_level="DEBUG",
        trace_requests=True,
        log_token_usage=True,
    )


def test_a_database_url_in_sqlalchemys_spelling_is_libpqs():
    env = {"ASSAYLINE_DATABASE_URL": "postgresql+psycopg://u:p+w@h/d"}
    assert Settings.from_env(env).database_url == "postgresql://u:p+w@h/d"


def test_the_broker_is_the_redis_unless_told_otherwise():
    assert Settings.from_env({"ASSAYLINE_REDIS_URL": "redis://r/0"}).broker_url == "redis://r/0"


@pytest.mark.parametrize(
    "value", ["0", "-1", "1.5", "1e3", "31536001", "\N{FULLWIDTH DIGIT NINE}", "9" * 5_000, "an hour"]
)
def test_a_cache_time_is_whole_seconds_up_to_a_year(value: str):
    with pytest.raises(ConfigurationError, match="LLM_CACHE_TTL is whole seconds"):
        Settings.from_env({"LLM_CACHE_TTL": value})


def test_urls_with_passwords_stay_out_of_repr():
    settings = Settings.from_env({"ASSAYLINE_DATABASE_URL": "postgresql://u:hush@db/x"})
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("env", "names"),
    [
        ({"TRACE_REQUESTS": "maybe"}, ["TRACE_REQUESTS", "maybe"]),
        ({"LOG_TOKEN_USAGE": "2"}, ["LOG_TOKEN_USAGE"]),
        ({"LOG_LEVEL": "loud"}, ["LOG_LEVEL", "LOUD"]),
        ({"LLM_PROVIDER": "a", "LLM_PRIMARY_PROVIDER": "b"}, ["LLM_PROVIDER", "LLM_PRIMARY_PROVIDER"]),
        ({"ASSAYLINE_DATABASE_URL": "x", "ASSAYLINE_DATABASE_URL_FILE": "y"}, ["ASSAYLINE_DATABASE_URL_FILE"]),
        ({"ASSAYLINE_REDIS_URL_FILE": "/not/there"}, ["ASSAYLINE_REDIS_URL_FILE", "/not/there"]),
    ],
)
def test_an_unusable_value_names_its_variable(env, names):
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(env)
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize(("value", "on"), [("1", True), ("Yes", True), ("off", False), ("", False), (" 0 ", False)])
def test_switches(value, on):
    assert flag({"X": value}, "X") is on


def test_a_secret_may_come_from_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("sk-123\n")
    assert secret({"KEY_FILE": str(file)}, "KEY") == "sk-123"
    assert secret({"KEY": " sk-9 "}, "KEY") == "sk-9"
    assert secret({"KEY": ""}, "KEY") is None


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe", b"x" * 70_000])
def test_a_secret_file_that_is_none_is_refused_without_showing_it(tmp_path, content):
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="KEY_FILE"):
        secret({"KEY_FILE": str(file)}, "KEY")


def test_preferred_providers_are_named_once_in_order():
    env = {"LLM_PRIMARY_PROVIDER": "a", "LLM_FALLBACK_PROVIDERS": "b,,a, c"}
    assert preferred_providers(env) == ("a", "b", "c")
