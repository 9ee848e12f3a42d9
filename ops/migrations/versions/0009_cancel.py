"""Revision 0009_cancel: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0009_cancel"
down_revision = "0008_due"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0009_cancel.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0009_cancel.down.sql")
