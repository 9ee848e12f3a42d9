"""Revision 0005_due_by_model: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0005_due_by_model"
down_revision = "0004_schedules"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0005_due_by_model.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0005_due_by_model.down.sql")
