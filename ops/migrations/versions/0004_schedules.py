"""Revision 0004_schedules: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0004_schedules"
down_revision = "0003_cache"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0004_schedules.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0004_schedules.down.sql")
