"""Revision 0002_enqueue: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0002_enqueue"
down_revision = "0001_store"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0002_enqueue.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0002_enqueue.down.sql")
