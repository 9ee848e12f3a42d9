"""Brings a database to the schema this version needs, or back."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

OLDEST_POSTGRES = 140000
"""`server_version_num` of the oldest PostgreSQL that is supported: 14."""

MIGRATION_LOCK = 4_201_971
"""Advisory lock key: two processes that boot at once migrate one after the other."""


class UnsupportedServer(RuntimeError):
    """The database server is too old."""


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply revisions up to `revision`. Safe to run from several processes at once.

    Raises:
        UnsupportedServer: PostgreSQL is older than 14.
    """
    _run(database_url, lambda config: command.upgrade(config, revision))


def downgrade(database_url: str, revision: str) -> None:
    """Undo revisions down to `revision` (`base`: all of them, data included)."""
    _run(database_url, lambda config: command.downgrade(config, revision))


def sqlalchemy_url(database_url: str, *, driver: str = "psycopg") -> str:
    """Turn a libpq-style URL (`postgresql://`, `postgres://`) into SQLAlchemy's for `driver`."""
    url = make_url(database_url.replace("postgres://", "postgresql://", 1))
    return url.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)


def _run(database_url: str, action) -> None:  # type: ignore[no-untyped-def]
    engine = create_engine(sqlalchemy_url(database_url), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        _require_supported(connection)
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS assayline"))
        # The lock goes with the session, whatever becomes of the action.
        with engine.connect().execution_options(isolation_level="READ COMMITTED") as migrating:
            action(_config(migrating))
            migrating.commit()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _require_supported(connection: Connection) -> None:
    version = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    if version < OLDEST_POSTGRES:
        raise UnsupportedServer(f"PostgreSQL {version // 10000} is too old: Assayline needs 14 or newer")
