"""The fixtures themselves: each test has a database and a Redis of its own."""

from __future__ import annotations

import psycopg
import pytest
import redis


@pytest.mark.parametrize("_", range(2))
def test_a_test_gets_an_empty_migrated_database(database_url: str, _: int) -> None:
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM assayline.jobs").fetchone() == (0,)
        connection.execute("CREATE TABLE left_behind ()")


@pytest.mark.parametrize("_", range(2))
def test_a_test_gets_an_empty_redis(redis_url: str, _: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_databases_are_utf8_and_sort_by_code_point(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        row = connection.execute(
            "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = current_database()"
        ).fetchone()
    assert row == ("UTF8", "C")
