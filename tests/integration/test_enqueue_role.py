"""The rights that the README gives to a role that only enqueues."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tasks.producer import Client, Job

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_they_are_enough_to_enqueue_and_to_read_and_for_no_more(database_url: str) -> None:
    assert "`GRANT USAGE ON SCHEMA assayline` and `SELECT, INSERT` on its tables" in README
    role = f"web_{uuid4().hex[:8]}"
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("INSERT INTO assayline.catalog_models VALUES ('one/small')")
        admin.execute("INSERT INTO assayline.catalog_analyses VALUES ('quick', '{one/small}', 'bulk', 3)")
        name = sql.Identifier(role)
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'only-here'").format(name))
        admin.execute(sql.SQL("GRANT USAGE ON SCHEMA assayline TO {}").format(name))
        admin.execute(sql.SQL("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA assayline TO {}").format(name))
        try:
            parts = urlsplit(database_url)
            url = urlunsplit(parts._replace(netloc=f"{role}:only-here@{parts.hostname}:{parts.port}"))
            with Client(url) as client:
                one = client.enqueue("quick", "x", idempotency_key="k", context={"a": 1})
                assert client.enqueue("quick", "x", idempotency_key="k", context={"a": 1}).id == one.id
                many = list(
                    client.enqueue_many(Job("quick", f"x{number}", idempotency_key=str(number)) for number in range(3))
                )
                assert [client.get(receipt.id).state for receipt in (one, *many)] == ["scheduled"] * 4
            with psycopg.connect(url) as web, pytest.raises(psycopg.errors.InsufficientPrivilege):
                web.execute("UPDATE assayline.jobs SET state = 'succeeded'")
        finally:
            admin.execute(sql.SQL("DROP OWNED BY {}").format(name))
            admin.execute(sql.SQL("DROP ROLE {}").format(name))
