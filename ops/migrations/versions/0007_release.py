"""Revision 0007_release: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0007_release"
down_revision = "0006_calls_by_day"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0007_release.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0007_release.down.sql")
