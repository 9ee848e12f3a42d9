"""Revision 0006_calls_by_day: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0006_calls_by_day"
down_revision = "0005_due_by_model"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0006_calls_by_day.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0006_calls_by_day.down.sql")
