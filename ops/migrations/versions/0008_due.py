"""Revision 0008_due: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0008_due"
down_revision = "0007_release"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0008_due.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0008_due.down.sql")
