"""Revision 0010_replay: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0010_replay"
down_revision = "0009_cancel"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0010_replay.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0010_replay.down.sql")
