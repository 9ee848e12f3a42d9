"""Runs a revision's SQL file as it stands."""

from __future__ import annotations

from pathlib import Path

from alembic import op

SQL_DIR = Path(__file__).parent / "sql"


def run_sql(filename: str) -> None:
    """Execute one file of `sql/` on the revision's connection, without parameter parsing."""
    text = (SQL_DIR / filename).read_text(encoding="utf-8")
    # The driver itself, without parameters: SQLAlchemy would have it read each `%` as a placeholder.
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(text)
