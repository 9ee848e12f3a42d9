"""Revision 0013_unhindered: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0013_unhindered"
down_revision = "0012_replay_keys"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0013_unhindered.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0013_unhindered.down.sql")
