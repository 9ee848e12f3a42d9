"""Revision 0001_store: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0001_store"
down_revision = None


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0001_store.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0001_store.down.sql")
